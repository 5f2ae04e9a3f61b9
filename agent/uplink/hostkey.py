"""The one key by which an SSH server proves itself, as it is written down. Pure."""

from __future__ import annotations

import base64
import binascii

from agent.i18n import N_, _

EXPECTED = N_('expected a public key such as "ssh-ed25519 AAAAC3Nza…", as `ssh-keyscan` shows it')


def host_key(written: str) -> tuple[str, bytes]:
    """Type and bytes of a public key as a key file has it. Raises ValueError in words."""
    words = written.split()
    if len(words) < 2:  # noqa: PLR2004 -- type, key and perhaps a comment
        raise ValueError(_(EXPECTED))
    try:
        raw = base64.b64decode(words[1], validate=True)
    except binascii.Error:
        raise ValueError(_(EXPECTED)) from None
    if not raw.startswith(len(words[0]).to_bytes(4, "big") + words[0].encode()):
        raise ValueError(_(EXPECTED))
    return words[0], raw

"""Parses the host key of an SSH server in the configuration. Pure."""

from __future__ import annotations

import base64
import binascii

from agent.core.i18n import N_, _

EXPECTED = N_('expected a public key such as "ssh-ed25519 AAAAC3Nza…", as printed by `ssh-keyscan`')


def host_key(written: str) -> tuple[str, bytes]:
    """Type and bytes of a public key in OpenSSH format. Raises ValueError with a message for
    people.
    """
    fields = written.split()
    if len(fields) < 2:  # noqa: PLR2004 -- type, key and perhaps a comment
        raise ValueError(_(EXPECTED))
    try:
        raw = base64.b64decode(fields[1], validate=True)
    except binascii.Error:
        raise ValueError(_(EXPECTED)) from None
    if not raw.startswith(len(fields[0]).to_bytes(4, "big") + fields[0].encode()):
        raise ValueError(_(EXPECTED))
    return fields[0], raw

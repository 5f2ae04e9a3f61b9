"""What lies on the disk is sealed: AES-256-GCM under keys derived from the gateway's key.

Each purpose has its own key, bound to gateway and recipient, so that a body copied into another
spool, another table or another row does not open.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

NONCE = 12
SHORTEST_KEY = 16


class Unreadable(Exception):
    """A sealed body does not open: it was damaged on the disk, or it belongs elsewhere."""


class Keys:
    """The keys of one spool, derived (RFC 5869) from the gateway's key of at least 16 bytes."""

    def __init__(self, key: bytes, gateway: str, recipient: str) -> None:
        if len(key) < SHORTEST_KEY:
            raise ValueError(f"the gateway's key has {len(key)} bytes, at least 16 are needed")
        self._key = key
        self._of = f"{gateway} {recipient}"

    def derive(self, purpose: str, length: int = 32) -> bytes:
        """Bytes for one purpose, the same at every start."""
        info = f"gardien spool 1 {purpose} {self._of}".encode()
        return HKDF(algorithm=SHA256(), length=length, salt=None, info=info).derive(self._key)

    def box(self, purpose: str) -> Box:
        """A box to put the bodies of one purpose in."""
        return Box(self.derive(purpose))


class Box:
    """Seals bodies, each bound to the name of its place (row number, batch id)."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, body: bytes, name: str) -> bytes:
        """28 bytes longer than the body; never twice the same."""
        nonce = os.urandom(NONCE)
        return nonce + self._cipher.encrypt(nonce, body, name.encode())

    def unseal(self, sealed: bytes, name: str) -> bytes:
        """The body again. Raises Unreadable if a bit of it, or its name, is another one."""
        try:
            return self._cipher.decrypt(sealed[:NONCE], sealed[NONCE:], name.encode())
        except (InvalidTag, ValueError) as error:
            raise Unreadable(name) from error

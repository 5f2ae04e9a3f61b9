"""What lies on the disk is sealed: AES-256-GCM under keys derived from the gateway's key.

Each purpose has its own key, bound to gateway and recipient, so that a body copied into another
spool, another table or another row does not open. While the gateway's key is being rotated, what is
still under the key before opens, too; what is sealed is under the new one (design note 031).
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

if TYPE_CHECKING:
    from collections.abc import Iterable

NONCE = 12
SHORTEST_KEY = 16


class SealBroken(Exception):
    """A sealed body does not open: it was damaged on the disk, or it belongs elsewhere."""


class SpoolKeys:
    """The keys of one spool, derived (RFC 5869) from the gateway's key of at least 16 bytes."""

    def __init__(
        self, key: bytes, gateway: str, recipient: str, before: bytes | None = None
    ) -> None:
        """`before`: the gateway's key before, while that is being rotated."""
        if len(key) < SHORTEST_KEY:
            raise ValueError(f"the gateway's key has {len(key)} bytes, at least 16 are needed")
        self._keys = [key] if before is None else [key, before]
        self._of = f"{gateway} {recipient}"
        self._sealers: dict[str, Sealer] = {}
        self._secrets: dict[str, bytes] = {}

    def derive(self, purpose: str, length: int = 32) -> bytes:
        """Bytes for one purpose, the same at every start."""
        return self._derived(self._keys[0], purpose, length)

    def derive_before(self, purpose: str, length: int = 32) -> bytes | None:
        """As `derive`, of the key before; None: there is none."""
        return self._derived(self._keys[1], purpose, length) if self.rotating else None

    def secret(self, purpose: str) -> bytes:
        """As `derive`, remembered."""
        if purpose not in self._secrets:
            self._secrets[purpose] = self.derive(purpose)
        return self._secrets[purpose]

    def sealer(self, purpose: str) -> Sealer:
        """A box to put the bodies of one purpose in."""
        if purpose not in self._sealers:
            self._sealers[purpose] = Sealer(*(self._derived(key, purpose) for key in self._keys))
        return self._sealers[purpose]

    @property
    def rotating(self) -> bool:
        """Whether what is under the key before opens, too."""
        return len(self._keys) > 1

    def under(self, key: bytes) -> bool:
        """Whether what is sealed is under this key of the gateway's."""
        return key == self._keys[0]

    def renew(self, key: bytes) -> None:
        """Seal under another key of the gateway's from now on; what is there goes on to open."""
        self._keys = [key, self._keys[0]]
        self._secrets.clear()
        for purpose, sealer in self._sealers.items():
            sealer.renew(self.derive(purpose))

    def forget_before(self) -> None:
        """Open nothing more that is under the key before."""
        del self._keys[1:]
        for sealer in self._sealers.values():
            sealer.forget_before()

    def _derived(self, key: bytes, purpose: str, length: int = 32) -> bytes:
        info = f"gardien spool 1 {purpose} {self._of}".encode()
        return HKDF(algorithm=SHA256(), length=length, salt=None, info=info).derive(key)


class Sealer:
    """Seals bodies, each bound to the name of its place (row number, batch id)."""

    def __init__(self, key: bytes, *before: bytes) -> None:
        """`before`: keys of what is still to be opened."""
        self._ciphers = [AESGCM(each) for each in (key, *before)]

    def seal(self, body: bytes, name: str) -> bytes:
        """28 bytes longer than the body; never twice the same."""
        nonce = os.urandom(NONCE)
        return nonce + self._ciphers[0].encrypt(nonce, body, name.encode())

    def unseal(self, sealed: bytes, name: str) -> bytes:
        """The body again. Raises Unreadable if a bit of it, or its name, is another one."""
        return self._opened(self._ciphers, sealed, name)

    def of_before(self, sealed: bytes, name: str) -> bytes | None:
        """A body that is under a key before; None: it is under the key of now, or under neither."""
        with suppress(SealBroken):
            self._opened(self._ciphers[:1], sealed, name)
            return None
        with suppress(SealBroken):
            return self._opened(self._ciphers[1:], sealed, name)
        return None

    def renew(self, key: bytes) -> None:
        """Seal under another key from now on."""
        self._ciphers.insert(0, AESGCM(key))

    def forget_before(self) -> None:
        """Open nothing more that is under a key before."""
        del self._ciphers[1:]

    @staticmethod
    def _opened(ciphers: Iterable[AESGCM], sealed: bytes, name: str) -> bytes:
        for cipher in ciphers:
            with suppress(InvalidTag, ValueError):
                return cipher.decrypt(sealed[:NONCE], sealed[NONCE:], name.encode())
        raise SealBroken(name)

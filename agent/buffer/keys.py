"""Seals everything on the disk: AES-256-GCM under keys derived from the gateway's key.

Each purpose has its own key, bound to gateway and recipient. So a body that is copied into another
spool, table or row does not open. During a rotation of the gateway's key, bodies under the earlier
key still open, and new bodies are sealed under the new one (design note 031).
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
        """`before`: the gateway's earlier key, during a rotation."""
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
        """As `derive`, from the earlier key; None: there is none."""
        return self._derived(self._keys[1], purpose, length) if self.rotating else None

    def secret(self, purpose: str) -> bytes:
        """As `derive`, cached."""
        if purpose not in self._secrets:
            self._secrets[purpose] = self.derive(purpose)
        return self._secrets[purpose]

    def sealer(self, purpose: str) -> Sealer:
        """The sealer for bodies of one purpose."""
        if purpose not in self._sealers:
            self._sealers[purpose] = Sealer(*(self._derived(key, purpose) for key in self._keys))
        return self._sealers[purpose]

    @property
    def rotating(self) -> bool:
        """Whether bodies under the earlier key open, too."""
        return len(self._keys) > 1

    def under(self, key: bytes) -> bool:
        """Whether new bodies are sealed under this key of the gateway."""
        return key == self._keys[0]

    def renew(self, key: bytes) -> None:
        """Seal under another key of the gateway from now on; existing bodies still open."""
        self._keys = [key, self._keys[0]]
        self._secrets.clear()
        for purpose, sealer in self._sealers.items():
            sealer.renew(self.derive(purpose))

    def forget_before(self) -> None:
        """Open no more bodies under the earlier key."""
        del self._keys[1:]
        for sealer in self._sealers.values():
            sealer.forget_before()

    def _derived(self, key: bytes, purpose: str, length: int = 32) -> bytes:
        # Part of the file format: another text would make every existing body unreadable.
        info = f"gardien spool 1 {purpose} {self._of}".encode()
        return HKDF(algorithm=SHA256(), length=length, salt=None, info=info).derive(key)


class Sealer:
    """Seals bodies, each bound to the name of its place (row number, batch id)."""

    def __init__(self, key: bytes, *before: bytes) -> None:
        """`before`: earlier keys, for bodies that must still open."""
        self._ciphers = [AESGCM(each) for each in (key, *before)]

    def seal(self, body: bytes, name: str) -> bytes:
        """The sealed body: 28 bytes longer, and never the same twice."""
        # Random, not counted: a restored copy of a spool would repeat a counter, which breaks GCM.
        nonce = os.urandom(NONCE)
        return nonce + self._ciphers[0].encrypt(nonce, body, name.encode())

    def unseal(self, sealed: bytes, name: str) -> bytes:
        """The body. Raises SealBroken if a bit of it, or its name, differs."""
        return self._opened(self._ciphers, sealed, name)

    def of_before(self, sealed: bytes, name: str) -> bytes | None:
        """A body under an earlier key; None: it is under the present key, or under none of them."""
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
        """Open no more bodies under earlier keys."""
        del self._ciphers[1:]

    @staticmethod
    def _opened(ciphers: Iterable[AESGCM], sealed: bytes, name: str) -> bytes:
        # The present key first: most bodies are under it.
        for cipher in ciphers:
            with suppress(InvalidTag, ValueError):
                return cipher.decrypt(sealed[:NONCE], sealed[NONCE:], name.encode())
        raise SealBroken(name)

"""Make keys and signed objects: for tests, pilots, small sites, and this gateway as witness."""

from __future__ import annotations

import json
import secrets
import warnings
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc import jws
from joserfc.jwk import OKPKey

from agent.core.clock import seconds
from agent.core.i18n import Text
from agent.trust.error_codes import Forged, ObjectCode
from agent.trust.jws import REGISTRY, Key
from agent.trust.strict import decoded, encoded
from agent.trust.trust_list import TYP, read

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ALGORITHM = "EdDSA"
"""of the two names, the one that all libraries know"""
PRIVATE_BYTES = 32


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key, with the name of its owner."""

    name: str
    private: Ed25519PrivateKey

    @classmethod
    def new(cls, name: str) -> Self:
        """Generate a new key."""
        return cls(name, Ed25519PrivateKey.generate())

    @classmethod
    def read(cls, jwk: Mapping[str, Any]) -> Self:
        """Read a private JWK with a member `name`. Raises Forged."""
        if (jwk.get("kty"), jwk.get("crv")) != ("OKP", "Ed25519") or "d" not in jwk:
            raise Forged(
                ObjectCode.FORM, Text("this is not a private key made by `gardien sign key`")
            )
        d = decoded(str(jwk["d"]), "key")
        if len(d) != PRIVATE_BYTES:
            raise Forged(
                ObjectCode.FORM,
                Text("an Ed25519 key has {bytes} bytes", bytes=PRIVATE_BYTES),
            )
        return cls(str(jwk.get("name", "")), Ed25519PrivateKey.from_private_bytes(d))

    @property
    def key(self) -> Key:
        """The public half."""
        return Key.of(self.private.public_key())

    @property
    def kid(self) -> str:
        """Its thumbprint."""
        return self.key.kid

    def public_jwk(self) -> dict[str, str]:
        """The public JWK, for others."""
        return {**self.key.jwk, "kid": self.kid, "name": self.name}

    def private_jwk(self) -> dict[str, str]:
        """The private JWK, which its owner must keep secret."""
        return {**self.public_jwk(), "d": encoded(self.private.private_bytes_raw())}

    def sign(self, typ: str, claims: Mapping[str, Any]) -> bytes:
        """Sign exactly these claims; returns a compact object."""
        return self.sign_text(typ, json.dumps(claims, ensure_ascii=False, default=_number))

    def sign_text(self, typ: str, payload: str) -> bytes:
        """Sign this payload, byte for byte; returns a compact object."""
        known = OKPKey.import_key({k: v for k, v in self.private_jwk().items() if k != "name"})
        header = {"alg": ALGORITHM, "kid": self.kid, "typ": typ}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*EdDSA")
            signed = jws.serialize_compact(header, payload.encode(), known, registry=REGISTRY)
        return signed.encode("ascii")


def _number(value: object) -> int | float:
    """Convert a Decimal for JSON. Raises ValueError if a float cannot hold it exactly."""
    if isinstance(value, Decimal):
        if value == value.to_integral_value():
            return int(value)
        if Decimal(repr(float(value))) == value:
            return float(value)
    raise ValueError(Text("{value!r} cannot be written into an object", value=value))


def new_jti(now: float | None = None) -> str:
    """A new UUID of version 7: time in its first 48 bits, random bits in the rest."""
    at = int((seconds() if now is None else now) * 1000)
    drawn = secrets.randbits(80)
    value = at << 80 | 0x7 << 76 | (drawn >> 64 & 0xFFF) << 64 | 0b10 << 62 | drawn & (2**62 - 1)
    text = f"{value:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def trust_list(payload: str, roots: Sequence[Signer]) -> bytes:
    """Sign a trust list with this payload, byte for byte, by these roots."""
    whole: dict[str, Any] = {"payload": encoded(payload.encode()), "signatures": []}
    return _with_signatures(whole, roots)


def cosigned(raw: bytes, roots: Sequence[Signer]) -> bytes:
    """Add signatures of more roots to a list. Raises Forged."""
    read(raw)
    return _with_signatures(json.loads(raw), roots)


def _with_signatures(whole: dict[str, Any], roots: Sequence[Signer]) -> bytes:
    payload = decoded(whole["payload"], "payload").decode()
    for root in roots:
        protected, _, signature = root.sign_text(TYP, payload).decode().split(".")
        whole["signatures"].append({"protected": protected, "signature": signature})
    return json.dumps(whole).encode("ascii")

"""Ed25519 public keys in JWK form (RFC 8037), and verification of their signatures."""

from __future__ import annotations

import base64
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from agent.trust.error_codes import Forged, ObjectCode
from agent.trust.strict import decoded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ALGORITHMS = ("EdDSA", "Ed25519")
"""two names of one algorithm: RFC 8037, and RFC 9864, which renamed it"""
PUBLIC_BYTES = 32


class _Registry(jws.JWSRegistry):
    """Allow larger payloads: sizes are checked before, and place maps exceed the default."""

    max_payload_length = 4 * 1024 * 1024


REGISTRY = _Registry(algorithms=list(ALGORITHMS))


@dataclass(frozen=True, slots=True)
class Key:
    """A public key; `kid` is its thumbprint (RFC 7638)."""

    kid: str
    jwk: Mapping[str, str]
    known: OKPKey = field(repr=False, compare=False)

    @classmethod
    def read(cls, jwk: object) -> Self:
        """Read a public key; unused members are dropped. Raises Forged."""
        if not isinstance(jwk, dict) or (jwk.get("kty"), jwk.get("crv")) != ("OKP", "Ed25519"):
            raise Forged(ObjectCode.FORM, "a key is a JWK of kty OKP and crv Ed25519")
        if "d" in jwk:
            raise Forged(
                ObjectCode.FORM,
                "this is a private key, which must never leave its owner; send the public key",
            )
        if len(decoded(str(jwk.get("x")), "key")) != PUBLIC_BYTES:
            raise Forged(ObjectCode.FORM, f"an Ed25519 key has {PUBLIC_BYTES} bytes")
        # with members such as `use` or `key_ops` the library may refuse to verify with the key
        plain = {"kty": "OKP", "crv": "Ed25519", "x": str(jwk["x"])}
        try:
            known = OKPKey.import_key(dict(plain))
            return cls(known.thumbprint(), plain, known)
        except (JoseError, ValueError) as error:
            raise Forged(ObjectCode.FORM, f"not an Ed25519 key: {error}") from error

    @classmethod
    def of(cls, public: Ed25519PublicKey) -> Self:
        """Convert a key of the cryptography library."""
        x = base64.urlsafe_b64encode(public.public_bytes_raw()).rstrip(b"=").decode("ascii")
        return cls.read({"kty": "OKP", "crv": "Ed25519", "x": x})

    def signed(self, compact: str) -> bool:
        """Whether this key has signed a compact object, which `parse_jws` has checked before."""
        with warnings.catch_warnings():
            # newer versions of the library warn about the older name of the algorithm
            warnings.filterwarnings("ignore", message=".*EdDSA")
            try:
                jws.deserialize_compact(compact, self.known, registry=REGISTRY)
            except (JoseError, ValueError):
                return False
        return True

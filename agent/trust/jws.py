"""Compact JWS, strictly parsed, and Ed25519 public keys that verify them (RFC 8037)."""

from __future__ import annotations

import base64
import hashlib
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from agent.core.i18n import Text
from agent.trust.error_codes import Forged, ObjectCode
from agent.trust.strict import decoded, object_of, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ALGORITHMS = ("EdDSA", "Ed25519")
"""two names of one algorithm: RFC 8037, and RFC 9864, which renamed it"""
PUBLIC_BYTES = 32
LARGEST = 16 * 1024
"""bytes of one object"""
LARGEST_MAP = 1024 * 1024
"""bytes of a place map or a receipt"""
MAP = "place-map+jws"
RECEIPT = "receipt+jwt"
HEADER = {"alg", "kid", "typ"}
PARTS = 3
SIGNATURE_BYTES = 64


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
            raise Forged(ObjectCode.FORM, Text("a key is a JWK of kty OKP and crv Ed25519"))
        if "d" in jwk:
            raise Forged(
                ObjectCode.FORM,
                Text(
                    "this is a private key, which must never leave its owner; send the public key"
                ),
            )
        if len(decoded(str(jwk.get("x")), "key")) != PUBLIC_BYTES:
            raise Forged(
                ObjectCode.FORM,
                Text("an Ed25519 key has {bytes} bytes", bytes=PUBLIC_BYTES),
            )
        # with members such as `use` or `key_ops` the library may refuse to verify with the key
        plain = {"kty": "OKP", "crv": "Ed25519", "x": str(jwk["x"])}
        try:
            known = OKPKey.import_key(dict(plain))
            return cls(known.thumbprint(), plain, known)
        except (JoseError, ValueError) as error:
            raise Forged(
                ObjectCode.FORM, Text("not an Ed25519 key: {error}", error=error)
            ) from error

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


@dataclass(frozen=True, slots=True)
class Jws:
    """A parsed, unverified object."""

    text: str
    typ: str
    kid: str
    claims: dict[str, Any]
    sha256: str
    """of its text, in hex; a line end that a transport appended does not change it"""

    @property
    def payload(self) -> bytes:
        """The signed bytes."""
        return decoded(self.text.split(".")[1], "payload")


def parse_jws(raw: bytes) -> Jws:
    """Parse an object. Raises Forged unless the bytes are exactly one object."""
    text = text_of(raw, LARGEST_MAP)
    parts = text.split(".")
    if len(parts) != PARTS:
        raise Forged(
            ObjectCode.FORM, Text("it is not a signed object (three parts separated by dots)")
        )
    header = header_of(parts[0])
    # only now, since the limit depends on the type; `text_of` has applied the larger one
    if len(raw) > LARGEST and header["typ"] not in {MAP, RECEIPT}:
        raise Forged(
            ObjectCode.FORM,
            Text(
                "{number} bytes: a signed object has {largest} at most",
                number=len(raw),
                largest=LARGEST,
            ),
        )
    if len(decoded(parts[2], "signature")) != SIGNATURE_BYTES:
        reason = Text("its signature does not have {bytes} bytes", bytes=SIGNATURE_BYTES)
        raise Forged(ObjectCode.SIG, reason, reason)
    claims = object_of(decoded(parts[1], "payload"), "payload")
    sha256 = hashlib.sha256(text.encode("ascii")).hexdigest()
    return Jws(text, header["typ"], header["kid"], claims, sha256)


def header_of(part: str) -> dict[str, str]:
    """Parse a protected header, which has exactly alg, kid and typ. Raises Forged."""
    header = object_of(decoded(part, "header"), "header")
    if strange := header.keys() - HEADER:
        what = ", ".join(sorted(strange))[:60]
        raise Forged(
            ObjectCode.FORM,
            Text("its header may have `alg`, `kid` and `typ` only: remove {what}", what=what),
        )
    if missing := HEADER - header.keys():
        raise Forged(
            ObjectCode.FORM, Text("its header lacks {names}", names=", ".join(sorted(missing)))
        )
    if not all(isinstance(word, str) for word in header.values()):
        raise Forged(ObjectCode.FORM, Text("a member of its header is not text"))
    # before any key is used: `none`, or an HMAC with a public key as secret, must verify nothing
    if header["alg"] not in ALGORITHMS:
        reason = Text("alg {alg}: only EdDSA with Ed25519 keys is accepted", alg=header["alg"][:20])
        raise Forged(ObjectCode.SIG, reason, reason)
    return header

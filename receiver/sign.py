"""Signed receipts: `receipt+jwt`, the whole receipt under an Ed25519 key (docs/platform.md).

The unsigned receipt is delivered beside it, so gateways that know no signed ones go on.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

if TYPE_CHECKING:
    from pathlib import Path

TYP = "receipt+jwt"


@dataclass(frozen=True)
class Signer:
    """A private key that signs receipts."""

    kid: str
    """thumbprint of the public key (RFC 7638)"""
    _raw: bytes = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> Signer:
        """Read a private JWK (`gardien sign key`) or a PEM (`openssl genpkey -algorithm ed25519`).

        Raises ValueError.
        """
        try:
            text = path.read_bytes()
            if text.lstrip()[:1] == b"{":
                private = Ed25519PrivateKey.from_private_bytes(decoded(str(json.loads(text)["d"])))
            else:
                loaded = load_pem_private_key(text, None)
                if not isinstance(loaded, Ed25519PrivateKey):
                    raise ValueError("another kind of key")
                private = loaded
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise ValueError(
                f"{path} is no private Ed25519 key (JWK with `d`, or PEM): {error}"
            ) from error
        return cls(thumbprint(private.public_key().public_bytes_raw()), private.private_bytes_raw())

    def sign(self, receipt: str) -> str:
        """The receipt, byte for byte, as a compact signed object."""
        header = {"alg": "EdDSA", "kid": self.kid, "typ": TYP}
        text = f"{encoded(json.dumps(header).encode())}.{encoded(receipt.encode())}"
        private = Ed25519PrivateKey.from_private_bytes(self._raw)
        return f"{text}.{encoded(private.sign(text.encode()))}"


def receipts(receipt: dict[str, Any], signer: Signer | None) -> list[str]:
    """What is delivered: the receipt, and the signed one if there is a key. Of backups only the
    first.
    """
    text = json.dumps(receipt)
    of_a_batch = "epoch" in receipt
    return [text, signer.sign(text)] if signer and of_a_batch else [text]


def public_keys(path: Path) -> dict[str, Ed25519PublicKey]:
    """The keys of a public JWK, or of a set of them, by kid. Raises ValueError."""
    try:
        document = json.loads(path.read_bytes())
        keys = [decoded(str(jwk["x"])) for jwk in document.get("keys", [document])]
        return {thumbprint(x): Ed25519PublicKey.from_public_bytes(x) for x in keys}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no public Ed25519 key (JWK): {error}") from error


def verified(compact: str, keys: dict[str, Ed25519PublicKey]) -> dict[str, Any]:
    """The receipt in a signed receipt. Raises ValueError with what is wrong."""
    try:
        head, payload, signature = compact.split(".")
        header = json.loads(decoded(head))
        if header.keys() != {"alg", "kid", "typ"} or header["alg"] not in {"EdDSA", "Ed25519"}:
            raise ValueError(f"its header is {header}")
        if header["typ"] != TYP:
            raise ValueError(f"its typ is {header['typ']}")
        if header["kid"] not in keys:
            raise ValueError(f"its kid is {header['kid']}")
        keys[header["kid"]].verify(decoded(signature), f"{head}.{payload}".encode())
        receipt = json.loads(decoded(payload))
    except InvalidSignature:
        raise ValueError("its signature is wrong") from None
    except (TypeError, LookupError, AttributeError) as error:
        raise ValueError(f"it is no signed object: {error!r}") from error
    if not isinstance(receipt, dict):
        raise ValueError("its payload is no receipt")  # noqa: TRY004 -- one error for all of it
    return receipt


def thumbprint(x: bytes) -> str:
    """The kid of a public key."""
    jwk = {"crv": "Ed25519", "kty": "OKP", "x": encoded(x)}
    return encoded(hashlib.sha256(json.dumps(jwk, separators=(",", ":")).encode()).digest())


def encoded(raw: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    """The bytes of base64url without padding. Raises ValueError."""
    return base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)

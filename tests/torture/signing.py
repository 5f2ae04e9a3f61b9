"""Who may say what, and what they sign: a trust list, a grant and orders, by docs/authority.md."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

if TYPE_CHECKING:
    from collections.abc import Sequence

YEAR = 365 * 86_400
CENTRE, MANAGER = "one.example", "Syndic"


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def text(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


@dataclass(frozen=True)
class Key:
    private: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def jwk(self) -> dict[str, str]:
        raw = self.private.public_key().public_bytes_raw()
        return {"crv": "Ed25519", "kty": "OKP", "x": encoded(raw)}

    @property
    def kid(self) -> str:
        """The thumbprint of RFC 7638."""
        return encoded(hashlib.sha256(text(self.jwk)).digest())

    def signature(self, typ: str, payload: str) -> tuple[str, str]:
        head = encoded(text({"alg": "EdDSA", "kid": self.kid, "typ": typ}))
        return head, encoded(self.private.sign(f"{head}.{payload}".encode()))

    def sign(self, typ: str, claims: dict[str, Any]) -> bytes:
        payload = encoded(text(claims))
        head, signature = self.signature(typ, payload)
        return f"{head}.{payload}.{signature}".encode()


@dataclass
class People:
    root: Key = field(default_factory=Key)
    centre: Key = field(default_factory=Key)
    manager: Key = field(default_factory=Key)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def trust_list(self) -> bytes:
        now = int(time.time())
        keys = [
            {"kid": key.kid, "jwk": key.jwk, "role": role, "name": name, "scope": {},
             "nbf": now - 86_400, "exp": now + YEAR}
            for key, role, name in (
                (self.centre, "grid_operator", CENTRE),
                (self.manager, "building_manager", MANAGER),
            )
        ]  # fmt: skip
        jwk = self.root.jwk
        payload = encoded(text({
            "ver": 1, "iss": "Métropole", "iat": now - 60, "exp": now + YEAR, "threshold": 1,
            "roots": [jwk], "keys": keys,
        }))  # fmt: skip
        head, signature = self.root.signature("trust-list+jws", payload)
        return text(
            {"payload": payload, "signatures": [{"protected": head, "signature": signature}]}
        )

    def grant(self, gateway: str) -> bytes:
        now = int(time.time())
        return self.manager.sign("dr-grant+jwt", {
            "iss": MANAGER, "jti": str(uuid.uuid4()), "iat": now, "nbf": now - 60,
            "exp": now + YEAR, "aud": gateway, "sub": CENTRE, "role": "building_manager",
            "scope": {"assets": ["kind:heating"], "acts": ["setpoint"]}, "lim": {},
            "evid": {"kind": "contract", "ref": "C-7", "date": "2026-05-12", "sha256": "0" * 64},
        })  # fmt: skip

    def order(self, audience: str, targets: Sequence[str], seconds: int) -> bytes:
        now = int(time.time())
        return self.centre.sign("dr-command+jwt", {
            "iss": CENTRE, "jti": str(uuid.uuid4()), "iat": now, "exp": now + 60, "aud": audience,
            "seq": next(self.numbers),
            "cmd": {"act": "setpoint", "tgt": list(targets), "val": 19, "unit": "Cel",
                    "dur": f"PT{seconds}S"},
        })  # fmt: skip

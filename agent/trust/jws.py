"""Strict parsing of a compact JWS into header and claims. Nothing is verified here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from agent.trust.error_codes import Forged, ObjectCode
from agent.trust.key import ALGORITHMS
from agent.trust.strict import decoded, object_of, text_of

LARGEST = 16 * 1024
"""bytes of one object"""
LARGEST_MAP = 1024 * 1024
"""bytes of a place map"""
MAP = "place-map+jws"
HEADER = {"alg", "kid", "typ"}
PARTS = 3
SIGNATURE_BYTES = 64


@dataclass(frozen=True, slots=True)
class Jws:
    """A parsed, unverified object."""

    text: str
    typ: str
    kid: str
    claims: dict[str, Any]
    sha256: str
    """of its text, in hex; a line end that a transport appended does not change it"""


def parse_jws(raw: bytes) -> Jws:
    """Parse an object. Raises Forged unless the bytes are exactly one object."""
    text = text_of(raw, LARGEST_MAP)
    parts = text.split(".")
    if len(parts) != PARTS:
        raise Forged(ObjectCode.FORM, "it is not a signed object (three parts separated by dots)")
    header = header_of(parts[0])
    # only now, since the limit depends on the type; `text_of` has applied the larger one
    if len(raw) > LARGEST and header["typ"] != MAP:
        raise Forged(ObjectCode.FORM, f"{len(raw)} bytes: a signed object has {LARGEST} at most")
    if len(decoded(parts[2], "signature")) != SIGNATURE_BYTES:
        reason = f"its signature does not have {SIGNATURE_BYTES} bytes"
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
            ObjectCode.FORM, f"its header may have `alg`, `kid` and `typ` only: remove {what}"
        )
    if missing := HEADER - header.keys():
        raise Forged(ObjectCode.FORM, f"its header lacks {', '.join(sorted(missing))}")
    if not all(isinstance(word, str) for word in header.values()):
        raise Forged(ObjectCode.FORM, "a member of its header is not text")
    # before any key is used: `none`, or an HMAC with a public key as secret, must verify nothing
    if header["alg"] not in ALGORITHMS:
        reason = f"alg {header['alg'][:20]!r}: only EdDSA with Ed25519 keys is accepted"
        raise Forged(ObjectCode.SIG, reason, reason)
    return header

"""The platform's word on a batch, as bytes; or what a test told it to say instead."""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hil.platform.ledger import Ledger
    from hil.platform.unpack import Id


def receipt(ledger: Ledger, about: Id, word: dict[str, Any]) -> bytes:
    """A receipt with this word in it."""
    gateway, recipient, epoch, _ = about
    members = {"schema": "gardien/receipt/1", "gateway": gateway, "recipient": recipient}
    body = members | {"epoch": epoch} | word
    lie = ledger.lie()
    if lie is None:
        return json.dumps(body).encode()
    return json.dumps(body | lie).encode() if isinstance(lie, dict) else str(lie).encode()


def signed(body: bytes, key: Path | None) -> bytes | None:
    """A receipt as `receipt+jwt`: these very bytes, signed with the private JWK of a file; None:
    no key. The file is read each time: it may be another key by now, or not be there yet.
    """
    if key is None or not key.exists():
        return None
    jwk = json.loads(key.read_text())
    public = {name: jwk[name] for name in ("crv", "kty", "x")}
    thumbprint = hashlib.sha256(json.dumps(public, separators=(",", ":")).encode()).digest()
    head = {"alg": "EdDSA", "kid": _url(thumbprint).decode(), "typ": "receipt+jwt"}
    text = _url(json.dumps(head).encode()) + b"." + _url(body)
    raw = base64.urlsafe_b64decode(jwk["d"] + "=")
    return text + b"." + _url(Ed25519PrivateKey.from_private_bytes(raw).sign(text))


def _url(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def tell_to_say(path: Path, lies: Sequence[dict[str, Any] | str]) -> None:
    """Let the platform of that ledger answer wrongly, once each: other members of an honest
    receipt, or a text in its place.
    """
    with closing(sqlite3.connect(path)) as db, db:
        db.executemany("INSERT INTO lie (body) VALUES (?)", [(json.dumps(one),) for one in lies])


def left_to_say(path: Path) -> int:
    """How many wrong answers it has still to give."""
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("SELECT count(*) FROM lie").fetchone()[0])

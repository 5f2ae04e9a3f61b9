"""Recorded votes of an assembly that wait for confirmation by a second person (rule O19).

The manager's account records a vote. A code on paper goes to the president of the council, who
confirms it from another account. The code has 50 random bits; only its SHA-256 is stored.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

SCHEMA = """
CREATE TABLE IF NOT EXISTS vote (
    code TEXT PRIMARY KEY, until INTEGER NOT NULL, account TEXT NOT NULL, claims TEXT NOT NULL
) WITHOUT ROWID;
"""
CONFIRMED_WITHIN = 30 * 86_400
"""seconds for which a code can be used"""
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""without characters that people confuse: O, I and L are read as 0, 1 and 1"""
ALIKE = str.maketrans("OIL", "011", "- ")
LENGTH = 10


@dataclass(frozen=True, slots=True)
class Vote:
    """A recorded vote: the account, the claims, and until when it can be confirmed."""

    account: str
    until: int
    claims: Mapping[str, Any]


def draw() -> str:
    """A new random code, as printed on paper."""
    drawn = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
    return f"{drawn[:5]}-{drawn[5:]}"


def keep(db: sqlite3.Connection, code: str, vote: Vote, now: float) -> None:
    """Store a vote until it is confirmed, and delete votes whose time is over."""
    db.execute("DELETE FROM vote WHERE until < ?", (int(now),))
    text = json.dumps(vote.claims, ensure_ascii=False)
    db.execute(
        "INSERT INTO vote VALUES (?, ?, ?, ?)", (_hash(code), vote.until, vote.account, text)
    )


def find(db: sqlite3.Connection, code: str, now: float) -> Vote | None:
    """The vote of a code; None: the code is unknown, used or expired."""
    row = db.execute(
        "SELECT account, until, claims FROM vote WHERE code = ? AND until >= ?",
        (_hash(code), int(now)),
    ).fetchone()
    return Vote(row[0], row[1], json.loads(row[2])) if row else None


def drop(db: sqlite3.Connection, code: str) -> None:
    """Delete a vote, since a code works once."""
    db.execute("DELETE FROM vote WHERE code = ?", (_hash(code),))


def _hash(code: str) -> str:
    return hashlib.sha256(code.upper().translate(ALIKE).encode()).hexdigest()

"""Votes of an assembly that were recorded, and wait for somebody else's word (rule O19).

The manager's account records; a code on paper goes to the president of the council, who confirms it
from another account. Of the code only its SHA-256 is kept; it has 50 bits, drawn anew each time.
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
"""nothing in it that a person reads wrongly; what looks alike is read as one"""
ALIKE = str.maketrans("OIL", "011", "- ")
LENGTH = 10


@dataclass(frozen=True, slots=True)
class Vote:
    """What was recorded, by which account, and until when it can be confirmed."""

    account: str
    until: int
    claims: Mapping[str, Any]


def draw() -> str:
    """Draw a code, as it stands on paper."""
    drawn = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
    return f"{drawn[:5]}-{drawn[5:]}"


def keep(db: sqlite3.Connection, code: str, vote: Vote, now: float) -> None:
    """Keep a vote until it is confirmed; those that nobody confirmed in time are forgotten."""
    db.execute("DELETE FROM vote WHERE until < ?", (int(now),))
    text = json.dumps(vote.claims, ensure_ascii=False)
    db.execute(
        "INSERT INTO vote VALUES (?, ?, ?, ?)", (_hash(code), vote.until, vote.account, text)
    )


def find(db: sqlite3.Connection, code: str, now: float) -> Vote | None:
    """The vote of a code; None: there is none, it was used, or it is over."""
    row = db.execute(
        "SELECT account, until, claims FROM vote WHERE code = ? AND until >= ?",
        (_hash(code), int(now)),
    ).fetchone()
    return Vote(row[0], row[1], json.loads(row[2])) if row else None


def drop(db: sqlite3.Connection, code: str) -> None:
    """A code works once."""
    db.execute("DELETE FROM vote WHERE code = ?", (_hash(code),))


def _hash(code: str) -> str:
    return hashlib.sha256(code.upper().translate(ALIKE).encode()).hexdigest()

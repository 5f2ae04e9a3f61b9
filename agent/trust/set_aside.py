"""Signed objects that an error in gardien kept from being evaluated. They are not tried again.

Their number and bytes are limited: the oldest lose first their bytes, then their hash. After 60
days only the hash is kept, since an object may concern people. A person can submit one again once
the error is corrected. The functions work inside the caller's transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.core.clock import stamp

if TYPE_CHECKING:
    import sqlite3

SCHEMA = """
CREATE TABLE IF NOT EXISTS set_aside (
    n INTEGER PRIMARY KEY AUTOINCREMENT, sha256 TEXT NOT NULL UNIQUE, at INTEGER NOT NULL,
    via TEXT NOT NULL, error TEXT NOT NULL, raw BLOB NOT NULL
);
"""
MOST = 1000
"""objects of which the hash is kept"""
MOST_WHOLE = 20
"""objects of which the bytes are kept as well"""
MOST_BYTES = 2 * 1024 * 1024
"""of all kept objects together"""
RECENT = 7 * 86_400
"""seconds for which `status` reports one"""
LONGEST_ERROR = 300


def holds(db: sqlite3.Connection, sha256: str) -> bool:
    """Whether an object with this hash was set aside."""
    row = db.execute("SELECT 1 FROM set_aside WHERE sha256 = ?", (sha256,)).fetchone()
    return row is not None


def keep(
    db: sqlite3.Connection, sha256: str, came: tuple[str, bytes], error: str, at: float
) -> None:
    """Set an object aside. `came`: its way here and its bytes."""
    # one that a person submitted in vain gets a new number, and counts as the newest
    db.execute(
        "INSERT OR REPLACE INTO set_aside (sha256, at, via, error, raw) VALUES (?, ?, ?, ?, ?)",
        (sha256, int(at), came[0], error[:LONGEST_ERROR], came[1]),
    )
    left = MOST_BYTES
    rows = db.execute("SELECT n, length(raw) FROM set_aside ORDER BY n DESC").fetchall()
    # newest first, so that the oldest lose their bytes
    for place, (n, size) in enumerate(rows):
        left -= size
        if size and (place >= MOST_WHOLE or left < 0):
            db.execute("UPDATE set_aside SET raw = x'' WHERE n = ?", (n,))
    for n, _ in rows[MOST:]:
        db.execute("DELETE FROM set_aside WHERE n = ?", (n,))


def forget(db: sqlite3.Connection, before: int) -> None:
    """Delete all but the hash of objects that were set aside before a time."""
    db.execute("UPDATE set_aside SET raw = x'', error = '' WHERE at < ? AND error != ''", (before,))


def drop(db: sqlite3.Connection, sha256: str) -> None:
    """Delete an object that has been accepted now."""
    db.execute("DELETE FROM set_aside WHERE sha256 = ?", (sha256,))


def recent(db: sqlite3.Connection, now: float) -> int:
    """Number of objects set aside in the last seven days."""
    since = int(now) - RECENT
    count: int = db.execute("SELECT count(*) FROM set_aside WHERE at > ?", (since,)).fetchone()[0]
    return count


def listed(db: sqlite3.Connection) -> list[dict[str, Any]]:
    """All of them, newest first, for people."""
    rows = db.execute(
        "SELECT sha256, at, via, error FROM set_aside WHERE error != '' ORDER BY n DESC"
    )
    return [
        {"sha256": sha256, "since": stamp(at), "via": via, "error": error}
        for sha256, at, via, error in rows
    ]

"""Replay protection: an object takes effect once, and its `jti` is stored.

The same bytes again get the first outcome; the same `jti` on other bytes is a replay (rules O8,
O9). The functions work inside the caller's transaction, so that the effect of an object and its
`jti` reach the disk together.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agent.trust.error_codes import Forged, ObjectCode

if TYPE_CHECKING:
    import sqlite3

    from agent.trust.verify import Verified

SCHEMA = """
CREATE TABLE IF NOT EXISTS seen (
    iss TEXT NOT NULL, jti TEXT NOT NULL, sha256 TEXT NOT NULL, exp INTEGER, outcome TEXT NOT NULL,
    PRIMARY KEY (iss, jti)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS seen_exp ON seen (exp);
CREATE TABLE IF NOT EXISTS seen_pruned (one INTEGER PRIMARY KEY CHECK (one = 1), exp INTEGER);
"""
KEPT_AFTER = 86_400
"""seconds after `exp` for which a `jti` is stored"""


def first(db: sqlite3.Connection, verified: Verified) -> dict[str, Any] | None:
    """The first outcome of exactly these bytes; None: they are new.

    Raises Forged E_REPLAY if their `jti` was used for other bytes, or may have been.
    """
    seen = db.execute(
        "SELECT sha256, outcome FROM seen WHERE iss = ? AND jti = ?",
        (verified.owner, verified.jti),
    ).fetchone()
    if seen is None:
        _not_too_old(db, verified)
        return None
    if seen[0] != verified.sha256:
        raise Forged(ObjectCode.REPLAY, f"{verified.owner} has used the jti {verified.jti} before")
    outcome: dict[str, Any] = json.loads(seen[1])
    return outcome


def _not_too_old(db: sqlite3.Connection, verified: Verified) -> None:
    pruned = db.execute("SELECT exp FROM seen_pruned").fetchone()
    # its jti may have been pruned, and then it would take effect a second time
    if pruned is not None and verified.exp is not None and verified.exp <= pruned[0]:
        reason = "it is older than the `jti` values that this gateway remembers"
        raise Forged(
            ObjectCode.REPLAY,
            f"{verified.jti} is older than the jti values remembered here",
            reason,
        )


def keep(db: sqlite3.Connection, verified: Verified, outcome: dict[str, Any]) -> None:
    """Store the `jti` and outcome of an accepted object.

    Raises sqlite3.IntegrityError if the `jti` was stored meanwhile.
    """
    db.execute(
        "INSERT INTO seen (iss, jti, sha256, exp, outcome) VALUES (?, ?, ?, ?, ?)",
        (verified.owner, verified.jti, verified.sha256, verified.exp, json.dumps(outcome)),
    )


def undo(db: sqlite3.Connection, verified: Verified) -> None:
    """Remove the entry of exactly these bytes."""
    db.execute(
        "DELETE FROM seen WHERE iss = ? AND jti = ? AND sha256 = ?",
        (verified.owner, verified.jti, verified.sha256),
    )


def prune(db: sqlite3.Connection, now: float) -> int:
    """Delete expired entries; returns how many. Call it only while the clock is trusted.

    The highest deleted `exp` is stored, and objects that expired by then are refused as replays.
    Entries without `exp` are kept for ever.
    """
    before = int(now) - KEPT_AFTER
    highest = db.execute("SELECT max(exp) FROM seen WHERE exp < ?", (before,)).fetchone()[0]
    if highest is None:
        return 0
    # never lower: objects whose ids were pruned before would be accepted again
    db.execute(
        "INSERT INTO seen_pruned VALUES (1, ?)"
        " ON CONFLICT (one) DO UPDATE SET exp = max(exp, excluded.exp)",
        (highest,),
    )
    return db.execute("DELETE FROM seen WHERE exp < ?", (before,)).rowcount

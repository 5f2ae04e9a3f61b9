"""An object counts once: its number is kept until it can no longer be taken for another's.

The functions work on a connection of whoever acts on the object, inside that one's transaction, so
that what was done and that it was done are on disk together. The same bytes again get the first
outcome again; the same number on other bytes is a replay (rules O8, O9).
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
"""seconds after its `exp` for which a number is kept"""


def first(db: sqlite3.Connection, verified: Verified) -> dict[str, Any] | None:
    """What became of exactly these bytes when they came first; None: they are new.

    Raises Forged E_REPLAY where their number was used by others, or may have been.
    """
    seen = db.execute(
        "SELECT sha256, outcome FROM seen WHERE iss = ? AND jti = ?",
        (verified.owner, verified.jti),
    ).fetchone()
    if seen is None:
        _not_too_old(db, verified)
        return None
    if seen[0] != verified.sha256:
        raise Forged(
            ObjectCode.REPLAY, f"{verified.owner} has used the number {verified.jti} before"
        )
    outcome: dict[str, Any] = json.loads(seen[1])
    return outcome


def _not_too_old(db: sqlite3.Connection, verified: Verified) -> None:
    pruned = db.execute("SELECT exp FROM seen_pruned").fetchone()
    if pruned is not None and verified.exp is not None and verified.exp <= pruned[0]:
        reason = "it is older than the numbers that this gateway remembers"
        raise Forged(
            ObjectCode.REPLAY, f"{verified.jti} is older than what is remembered here", reason
        )


def keep(db: sqlite3.Connection, verified: Verified, outcome: dict[str, Any]) -> None:
    """Note that an object was taken, and what became of it.

    Raises sqlite3.IntegrityError where another has taken it meanwhile.
    """
    db.execute(
        "INSERT INTO seen (iss, jti, sha256, exp, outcome) VALUES (?, ?, ?, ?, ?)",
        (verified.owner, verified.jti, verified.sha256, verified.exp, json.dumps(outcome)),
    )


def undo(db: sqlite3.Connection, verified: Verified) -> None:
    """Forget that exactly these bytes were taken."""
    db.execute(
        "DELETE FROM seen WHERE iss = ? AND jti = ? AND sha256 = ?",
        (verified.owner, verified.jti, verified.sha256),
    )


def prune(db: sqlite3.Connection, now: float) -> int:
    """Forget numbers that nobody can use any more; only to be called while the clock is trusted.

    The highest `exp` forgotten stays known: nothing that ended by then is ever new again. What has
    no `exp` is kept for ever.
    """
    before = int(now) - KEPT_AFTER
    highest = db.execute("SELECT max(exp) FROM seen WHERE exp < ?", (before,)).fetchone()[0]
    if highest is None:
        return 0
    db.execute(
        "INSERT INTO seen_pruned VALUES (1, ?)"
        " ON CONFLICT (one) DO UPDATE SET exp = max(exp, excluded.exp)",
        (highest,),
    )
    return db.execute("DELETE FROM seen WHERE exp < ?", (before,)).rowcount

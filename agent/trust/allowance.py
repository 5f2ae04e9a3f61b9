"""How many requests each issuer may still make. Kept on the disk: a restart gives nobody new ones.

The functions work on a connection of whoever acts, inside that one's transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.clock import stamp
from agent.trust.error_codes import Forged, ObjectCode

if TYPE_CHECKING:
    import sqlite3

SCHEMA = """
CREATE TABLE IF NOT EXISTS allowance (
    owner TEXT PRIMARY KEY, left REAL NOT NULL, at REAL NOT NULL
) WITHOUT ROWID;
"""
BURST = 20
"""requests that an issuer may make at once"""
EVERY = 1800.0
"""seconds after which it may make one more"""


def take(db: sqlite3.Connection, owner: str, now: float) -> None:
    """Count one request of an issuer. Raises Forged E_OFTEN where it has none left; not counted."""
    allowance = db.execute("SELECT left, at FROM allowance WHERE owner = ?", (owner,)).fetchone()
    left, at = allowance or (BURST, now)
    # a clock that was set back gives nothing, and takes nothing
    left = min(BURST, left + max(0.0, now - at) / EVERY)
    if left < 1:
        again = stamp(now + (1 - left) * EVERY)
        raise Forged(
            ObjectCode.OFTEN,
            f"{owner} has made {BURST} requests, and may make one every {EVERY / 60:.0f} minutes:"
            f" the next from {again} on",
        )
    db.execute("INSERT OR REPLACE INTO allowance VALUES (?, ?, ?)", (owner, left - 1, now))

"""The rate limit of requests, by issuer. It is stored on disk, so a restart does not reset it.

The functions work on the caller's connection, inside the caller's transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core.clock import stamp
from agent.trust.error_codes import Forged, ObjectCode

if TYPE_CHECKING:
    import sqlite3

SCHEMA = """
CREATE TABLE IF NOT EXISTS allowance (
    owner TEXT PRIMARY KEY, left REAL NOT NULL, at REAL NOT NULL
) WITHOUT ROWID;
"""
BURST = 20
"""requests that an issuer may make in a row"""
INTERVAL = 1800.0
"""seconds after which an issuer may make one more request"""


def take(db: sqlite3.Connection, owner: str, now: float) -> None:
    """Count one request of an issuer. Raises Forged E_OFTEN if it has none left; then
    none counts.
    """
    allowance = db.execute("SELECT left, at FROM allowance WHERE owner = ?", (owner,)).fetchone()
    left, at = allowance or (BURST, now)
    # a clock that is set back must neither add nor remove requests
    left = min(BURST, left + max(0.0, now - at) / INTERVAL)
    if left < 1:
        again = stamp(now + (1 - left) * INTERVAL)
        raise Forged(
            ObjectCode.OFTEN,
            f"{owner} has made {BURST} requests and may now make one every {INTERVAL / 60:.0f}"
            f" minutes: the next from {again}",
        )
    db.execute("INSERT OR REPLACE INTO allowance VALUES (?, ?, ?)", (owner, left - 1, now))

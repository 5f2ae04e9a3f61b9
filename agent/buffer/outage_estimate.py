"""Estimates how long an outage a spool can take before it gives values up. Pure."""

from __future__ import annotations

from typing import NamedTuple

from agent.buffer.capacity import room_for_rows

ROW, BLOCK, EMPTY = 5, 2_000, 100_000
"""bytes of a row, of an owner's block a day, and of an empty spool. Measured when room is short:
2.4 B a row of plant every minute; 3.8 B with 50 dwellings every quarter of an hour beside it; 11 B
with 12 dwellings alone, whose blocks leave half a page empty each
"""
WANTED = 30
"""days that a spool should last (rule M19)"""


class DailyLoad(NamedTuple):
    """What enters a spool in a day at most: as if all rows could leave."""

    rows: int
    owners: int
    """dwellings, and all common plant as one"""

    @property
    def a_day(self) -> int:
        """Bytes a day."""
        return self.rows * ROW + self.owners * BLOCK


def days(cap: int, load: DailyLoad, waiting: int = 0) -> float | None:
    """Days until a spool of `cap` bytes is full, with that many rows waiting; None: never."""
    if not load.rows:
        return None
    return max(0.0, room_for_rows(cap) - EMPTY - waiting * ROW) / load.a_day


def enough(load: DailyLoad, unit: int = 10_000_000) -> int:
    """Bytes, in whole units, for an outage of the wanted length."""
    least = load.a_day * WANTED + EMPTY
    cap = unit
    while room_for_rows(cap) < least:
        cap += unit
    return cap

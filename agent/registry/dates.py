"""Dates as people write them in tables, as seconds since 1970 UTC."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

EXAMPLE = "2026-07-12T00:00+02:00"
FIRST, LAST = 946_684_800, 4_102_444_800
"""2000 and 2100: a year outside is a slip of the hand"""


def moment(text: str, zone: str | None = None) -> int:
    """Read `2026-07-12T00:00+02:00`, or `2026-07-12` as that midnight in the building's zone.

    Raises ValueError, for people, on anything else.
    """
    try:
        read = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f'"{text}" is no date; write {EXAMPLE}') from None
    if read.tzinfo is None:
        if zone is None:
            raise ValueError(f'"{text}" says no time zone; write {EXAMPLE}')
        read = read.replace(tzinfo=ZoneInfo(zone))
    return sane(int(read.timestamp()))


def sane(at: int) -> int:
    """Let a moment between 2000 and 2100 pass. Raises ValueError, for people, on another."""
    if not FIRST <= at < LAST:
        raise ValueError("the year is not between 2000 and 2100")
    return at


def months_later(at: int, months: int) -> int:
    """Add months to a moment, UTC; a day that the month lacks is its last."""
    start = datetime.fromtimestamp(at, UTC)
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    day = min(start.day, calendar.monthrange(year, month + 1)[1])
    return int(start.replace(year=year, month=month + 1, day=day).timestamp())

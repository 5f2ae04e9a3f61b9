"""How far a meter's clock is off: its monthly and due-date values are of its own midnight. Pure."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

NOTABLE = 300
"""seconds: meters tell whole minutes, and an answer takes its time"""


def drift(said: str, at: float, zone: ZoneInfo) -> int:
    """Seconds by which a meter is ahead of the building's time; less than 0: behind.

    `said` is in ISO 8601 without zone. Many meters know no summer time: whichever of the two is
    nearer is taken for theirs.
    """
    told = dt.datetime.fromisoformat(said)
    here = dt.datetime.fromtimestamp(at, zone)
    summer = here.dst() or dt.timedelta()
    civil = here.replace(tzinfo=None)
    offs = (told - civil, told - (civil - summer))
    return round(min(offs, key=abs).total_seconds())


def wrong(seconds: int) -> bool:
    """Whether what the meter dates by itself must be doubted."""
    return abs(seconds) >= NOTABLE


def words(seconds: int) -> str:
    """For people; empty where it is not worth a word."""
    if not wrong(seconds):
        return ""
    minutes = abs(seconds) // 60
    days, hours = minutes // 1440, minutes // 60 % 24
    long = f"{days} d {hours} h" if days else f"{hours} h {minutes % 60} min"
    short = f"{minutes} min" if minutes < 60 else long  # noqa: PLR2004
    return f"its clock is {short} {'ahead' if seconds > 0 else 'behind'}"

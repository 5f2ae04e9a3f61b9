"""The error of a meter's own clock: its monthly and due-date values refer to its own midnight.
Pure.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

NOTABLE = 300
"""seconds: meters report whole minutes, and an answer takes time"""


def drift(clock_text: str, at: float, zone: ZoneInfo) -> int:
    """Seconds by which a meter's clock is ahead of the building's time; negative: behind.

    `clock_text`: the meter's time in ISO 8601, without zone. `at`: when it was read, seconds since
    1970. Many meters have no summer time, so the nearer of the two times counts.
    """
    shown = dt.datetime.fromisoformat(clock_text)
    here = dt.datetime.fromtimestamp(at, zone)
    summer = here.dst() or dt.timedelta()
    civil = here.replace(tzinfo=None)
    offs = (shown - civil, shown - (civil - summer))
    return round(min(offs, key=abs).total_seconds())


def wrong(seconds: int) -> bool:
    """Whether the times that the meter itself records are unreliable."""
    return abs(seconds) >= NOTABLE


def describe(seconds: int) -> str:
    """The error in words for people; empty if it is too small to mention."""
    if not wrong(seconds):
        return ""
    minutes = abs(seconds) // 60
    days, hours = minutes // 1440, minutes // 60 % 24
    long = f"{days} d {hours} h" if days else f"{hours} h {minutes % 60} min"
    short = f"{minutes} min" if minutes < 60 else long  # noqa: PLR2004
    return f"its clock is {short} {'ahead' if seconds > 0 else 'behind'}"

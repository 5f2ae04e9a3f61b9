"""Moments that remain comparable after a boot, and after the clock was set. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment by all clocks. It is stored as JSON in the journal: its fields are a file format."""

    wall: float
    steady: float
    """monotonic seconds; comparable within one boot only"""
    boot: str
    trusted: bool
    """whether the wall clock is trusted"""


def elapsed(since: Moment, now: Moment) -> float:
    """Seconds that have certainly passed, at least 0 (rule H4).

    Within a boot: by the monotonic clock. Across boots: by the wall clock if it was trusted at both
    moments, else only the time since the boot.
    """
    if since.boot == now.boot:
        return max(0.0, now.steady - since.steady)
    if since.trusted and now.trusted:
        return max(0.0, now.wall - since.wall)
    return max(0.0, now.steady)


def over(wall_end: float, set_at: Moment, lasts: float, now: Moment) -> bool:
    """Whether a hold that began at `set_at` is over, by the earlier of both clocks (rule H28).

    A wall clock that steps back must not lengthen a hold. One that is set forward shows that the
    hold began earlier than we thought. A boot ends every hold: nothing is applied again.
    """
    if set_at.boot != now.boot:
        return True
    return now.wall >= wall_end or now.steady - set_at.steady >= lasts

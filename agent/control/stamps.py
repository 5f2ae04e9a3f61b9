"""Moments that are still worth something after a boot and after the clock was set. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Moment:
    """Now, by all the clocks there are; also as it was written down."""

    wall: float
    steady: float
    """seconds that never step; comparable within one boot only"""
    boot: str
    trusted: bool
    """whether the wall clock may be believed"""


def elapsed(since: Moment, now: Moment) -> float:
    """Seconds that have certainly passed; 0 at least (rule H4).

    Within a boot by the steady clock; across boots by the wall clock where it was right at both
    ends, else since the boot.
    """
    if since.boot == now.boot:
        return max(0.0, now.steady - since.steady)
    if since.trusted and now.trusted:
        return max(0.0, now.wall - since.wall)
    return max(0.0, now.steady)


def over(wall_end: float, set_at: Moment, lasts: float, now: Moment) -> bool:
    """Whether a hold that was begun at `set_at` is over: by the earlier of both clocks.

    A wall clock that steps back must not lengthen a hold, and one set forward shows that it began
    earlier than we thought. Across a boot everything is over: nothing is re-applied.
    """
    if set_at.boot != now.boot:
        return True
    return now.wall >= wall_end or now.steady - set_at.steady >= lasts

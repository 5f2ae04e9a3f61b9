"""What is known when a decision is taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from zoneinfo import ZoneInfo

    from agent.control.guard import GuardReading
    from agent.control.model import AcceptedOrder, Grant
    from agent.control.stamps import Moment

    Span = tuple[float, float]


@dataclass(frozen=True)
class DecisionFacts:
    """See the module."""

    now: Moment
    zone: ZoneInfo
    grants: Sequence[Grant]
    events: Sequence[AcceptedOrder]
    """what was accepted at the same point before; this order not among them"""
    look: Callable[[str, str], GuardReading | None]
    given_back: Moment | None = None
    """when the point was last given back"""
    locked: tuple[Moment, float] | None = None
    """since when, and for how many seconds, nothing may begin"""
    opted_out: str = ""
    """who has opted out for now, and why"""
    home: Callable[[str], Span | None] = lambda _: None
    """from when until when an occupancy is; None: it is not known here"""
    tested: bool = True
    """`gardien control test` has passed for the point as it is configured now"""

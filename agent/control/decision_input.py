"""The input of a decision: what is known of a point, and when."""

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
    """the orders accepted at the same point before, without this one"""
    look: Callable[[str, str], GuardReading | None]
    given_back: Moment | None = None
    """when the point was last released"""
    locked: tuple[Moment, float] | None = None
    """when a guard tripped, and for how many seconds nothing may begin after that"""
    opted_out: str = ""
    """who has opted out until now, and why; empty: nobody"""
    home: Callable[[str], Span | None] = lambda _: None
    """begin and end of an occupancy by its id; None: it is not known here"""
    tested: bool = True
    """`gardien control test` has passed for the point as it is configured now"""

"""Whether one more order would be too often, too long in a day, or too soon. Pure (rule H4).

Orders that overlap are one event: together they may not last longer than one order may. A hold that
is over counts for its real length, until it was released. So a hold that was cut short counts less,
and one that was released late counts more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.control import hours
from agent.control.bounds import duration_text
from agent.control.model import OrderState
from agent.control.stamps import elapsed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from agent.control.decision_input import DecisionFacts
    from agent.control.model import AcceptedOrder, ControlOrder, Limits, No

COUNTED = {
    OrderState.SCHEDULED,
    OrderState.STARTED,
    OrderState.RESTORING,
    OrderState.COMPLETED,
    OrderState.ABORTED,
}
COUNTED |= {
    OrderState.OPTED_OUT,
    OrderState.SUPERSEDED,
    OrderState.FAILED,
    OrderState.RELEASE_PENDING,
}


@dataclass(frozen=True, slots=True)
class Span:
    """The time in which a point was, or will be, held."""

    begin: float
    end: float

    def meets(self, other: Span) -> bool:
        """Whether they overlap."""
        return self.begin < other.end and other.begin < self.end

    def within(self, since: float, until: float) -> float:
        """Seconds of the span between two moments."""
        return max(0.0, min(self.end, until) - max(self.begin, since))


def quota_refusal(
    order: ControlOrder, limits: Limits, facts: DecisionFacts, no: Callable[[str, str], No]
) -> No | None:
    """Refuse an order that is too often, too long in a day, or too soon after others.

    `no` makes the refusal from the name of the limit and the text about it.
    """
    others = [one for one in facts.events if _counts(one, order)]
    day = hours.day_of(order.start, facts.zone)
    that_day = sum(hours.day_of(one.begin, facts.zone) == day for one in others)
    if limits.a_day is not None and that_day >= limits.a_day:
        return no("max_day", f"{limits.a_day} a day, and that day has {that_day} already")
    held, new = [_held(one, facts) for one in others], Span(order.start, order.latest_end)
    if limits.time_a_day is not None:
        for since, until in _days(new, facts):
            taken = sum(one.within(since, until) for one in held)
            if taken + min(order.duration, new.within(since, until)) > limits.time_a_day:
                return no("max_time_day", f"{duration_text(limits.time_a_day)} a day in all")
    if limits.duration is not None and _together(new, held) > limits.duration + order.rand:
        reason = f"{duration_text(limits.duration)}, and it would last longer with the order before"
        return no("max_dur", reason)
    if limits.gap and any(_apart(new, one) < limits.gap for one in held if not new.meets(one)):
        return no("min_gap", f"a rest of {duration_text(limits.gap)} between two holds")
    return None


def _counts(event: AcceptedOrder, order: ControlOrder) -> bool:
    """Whether an accepted order counts beside a new one.

    The new order itself does not count, and neither does the order that it replaces before that
    has begun.
    """
    replaced = event.order.jti == order.ref and not event.began
    return (event.state in COUNTED or event.began) and event.order.jti != order.jti and not replaced


def _held(event: AcceptedOrder, facts: DecisionFacts) -> Span:
    if event.over is None:
        return Span(event.begin, event.end)
    # counted back from now: the wall clock may have been set since the release
    return Span(event.begin, facts.now.wall - elapsed(event.over, facts.now))


def _days(span: Span, facts: DecisionFacts) -> Iterator[tuple[float, float]]:
    """Begin and end of each local day that a span touches."""
    at = span.begin
    while at < span.end:
        since, until = hours.bounds(hours.day_of(at, facts.zone), facts.zone)
        yield since, until
        at = until


def _together(new: Span, held: Sequence[Span]) -> float:
    """Seconds of the event that a span would form with all spans it overlaps."""
    whole, left = new, list(held)
    # a span that joins may overlap further ones, so repeat until none is left
    while met := [one for one in left if one.meets(whole)]:
        begin, end = min(one.begin for one in met), max(one.end for one in met)
        whole = Span(min(whole.begin, begin), max(whole.end, end))
        left = [one for one in left if one not in met]
    return whole.end - whole.begin


def _apart(new: Span, other: Span) -> float:
    return other.begin - new.end if other.begin >= new.end else new.begin - other.end

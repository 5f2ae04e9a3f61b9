"""Whether one more would be too often, too long a day, or too soon. Pure.

Orders that overlap are part of one event: together they may not last longer than one may, however
many follow on each other. What is over counts for as long as it was really held: cut short until
it was given back, and a give-back that came late for longer than was ordered.
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
    """From when until when a point was, or will be, held."""

    begin: float
    end: float

    def meets(self, other: Span) -> bool:
        """Whether they overlap."""
        return self.begin < other.end and other.begin < self.end

    def within(self, since: float, until: float) -> float:
        """Seconds of it between two moments."""
        return max(0.0, min(self.end, until) - max(self.begin, since))


def quota_refusal(
    order: ControlOrder, limits: Limits, facts: DecisionFacts, no: Callable[[str, str], No]
) -> No | None:
    """Whether one more is too often, too long a day or too soon, beside what was accepted."""
    others = [one for one in facts.events if _counts(one, order)]
    day = hours.day_of(order.start, facts.zone)
    that_day = sum(hours.day_of(one.begin, facts.zone) == day for one in others)
    if limits.a_day is not None and that_day >= limits.a_day:
        return no("max_day", f"{limits.a_day} a day, and there were {that_day} that day")
    held, is_configured = [_held(one, facts) for one in others], Span(order.start, order.latest_end)
    if limits.time_a_day is not None:
        for since, until in _days(is_configured, facts):
            taken = sum(one.within(since, until) for one in held)
            if taken + min(order.duration, is_configured.within(since, until)) > limits.time_a_day:
                return no("max_time_day", f"{duration_text(limits.time_a_day)} a day in all")
    if (
        limits.duration is not None
        and _together(is_configured, held) > limits.duration + order.rand
    ):
        reason = f"{duration_text(limits.duration)}, and with the one before it would be longer"
        return no("max_dur", reason)
    if limits.gap and any(
        _apart(is_configured, one) < limits.gap for one in held if not is_configured.meets(one)
    ):
        return no("min_gap", f"a rest of {duration_text(limits.gap)} between two")
    return None


def _counts(event: AcceptedOrder, order: ControlOrder) -> bool:
    """Itself does not, nor does what it takes the place of before that has begun."""
    replaced = event.order.jti == order.ref and not event.began
    return (event.state in COUNTED or event.began) and event.order.jti != order.jti and not replaced


def _held(event: AcceptedOrder, facts: DecisionFacts) -> Span:
    if event.over is None:
        return Span(event.begin, event.end)
    return Span(event.begin, facts.now.wall - elapsed(event.over, facts.now))


def _days(span: Span, facts: DecisionFacts) -> Iterator[tuple[float, float]]:
    """First and last moment of each of the building's days that it touches."""
    at = span.begin
    while at < span.end:
        since, until = hours.bounds(hours.day_of(at, facts.zone), facts.zone)
        yield since, until
        at = until


def _together(is_configured: Span, held: Sequence[Span]) -> float:
    """Seconds of the whole of which it would be a part."""
    whole, left = is_configured, list(held)
    while met := [one for one in left if one.meets(whole)]:
        begin, end = min(one.begin for one in met), max(one.end for one in met)
        whole = Span(min(whole.begin, begin), max(whole.end, end))
        left = [one for one in left if one not in met]
    return whole.end - whole.begin


def _apart(is_configured: Span, other: Span) -> float:
    return (
        other.begin - is_configured.end
        if other.begin >= is_configured.end
        else is_configured.begin - other.end
    )

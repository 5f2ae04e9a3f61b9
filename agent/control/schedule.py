"""Which order is in force at a moment, and with which value. Pure (rules H5, H8).

With a ramp, the value moves in steps of one minute, up and down. The way back and the drawn release
lie inside the hold, so that it is over at its planned end.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from agent.control.model import AcceptedOrder, OrderState

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal

STEP = 60.0
"""seconds of one step of a ramp"""
LATE = 10.0
"""seconds by which a step may be late without delaying the next one"""
WAITING = {OrderState.SCHEDULED, OrderState.STARTED}


def in_time(events: Iterable[AcceptedOrder], now: float) -> list[AcceptedOrder]:
    """The accepted orders whose time includes now, weaker ones too."""
    return [
        one
        for one in events
        if one.begin <= now < one.end
        and (one.state in WAITING or (one.state is OrderState.SUPERSEDED and one.order.resume))
    ]


def winner(events: Iterable[AcceptedOrder]) -> AcceptedOrder | None:
    """The strongest order: emergency, then the lower `prio`, the later `seq`, the smaller `jti`."""
    return min(events, key=_rank, default=None)


def _rank(event: AcceptedOrder) -> tuple[bool, int, int, str]:
    order = event.order
    return (not order.emergency, order.prio, -order.seq, order.jti)


def steps(apart: Decimal, ramp: Decimal | None) -> int:
    """Steps of a minute that a change by `apart` takes after the first step."""
    if ramp is None or not apart:
        return 0
    return max(0, math.ceil(abs(apart) / ramp) - 1)


def back_from(event: AcceptedOrder, apart: Decimal, ramp: Decimal | None) -> float:
    """When the way back begins, so that it is over by the end; not before half of the hold."""
    longest = max(0.0, event.order.duration / 2)
    return event.end - min(event.back + steps(apart, ramp) * STEP, longest)


def value_at(
    now: float, event: AcceptedOrder, base: Decimal, target: Decimal, ramp: Decimal | None
) -> Decimal | None:
    """The value at a moment of a hold; None: it is released.

    `base`: the value from before; `target`: the ordered value.
    """
    if ramp is None or base == target:
        return target if now < event.end - min(event.back, event.order.duration / 2) else None
    apart = target - base
    back = back_from(event, apart, ramp)
    there = int((now - event.begin) // STEP) + 1
    if now < back:
        return toward(base, target, ramp * there)
    gone = int((now - back) // STEP) + 1
    # the way back may begin before the target was reached
    reached = toward(base, target, ramp * (int((back - event.begin) // STEP) + 1))
    value = toward(reached, base, ramp * gone)
    return None if value == base else value


def paced(standing: Decimal, wanted: Decimal, ramp: Decimal | None, since: float) -> Decimal:
    """The value to write when an order may have taken over from another.

    No step is larger than the ramp, and none comes before its minute is over. `since`: seconds
    since the last step.
    """
    if ramp is None or wanted == standing:
        return wanted
    return toward(standing, wanted, ramp) if since >= STEP - LATE else standing


def toward(begin: Decimal, end: Decimal, by: Decimal) -> Decimal:
    """A step of size `by` from one value towards another, never beyond it."""
    return min(end, begin + by) if end > begin else max(end, begin - by)

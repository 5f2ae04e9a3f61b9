"""Which order is in force at an instant, and with what value. Pure (rules H5, H8).

The value may go in steps, no more than so much a minute, both ways; the way back and the drawn
give-back lie inside the hold, so that it is over when it was said to be.
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
"""seconds by which a step may come late, and the next one still in time"""
WAITING = {OrderState.SCHEDULED, OrderState.STARTED}


def in_time(events: Iterable[AcceptedOrder], now: float) -> list[AcceptedOrder]:
    """What was accepted and is in time now, whoever is the stronger."""
    return [
        one
        for one in events
        if one.begin <= now < one.end
        and (one.state in WAITING or (one.state is OrderState.SUPERSEDED and one.order.resume))
    ]


def winner(events: Iterable[AcceptedOrder]) -> AcceptedOrder | None:
    """The strongest: emergency, then the lower `prio`, the later `seq`, the smaller `jti`."""
    return min(events, key=_rank, default=None)


def _rank(event: AcceptedOrder) -> tuple[bool, int, int, str]:
    order = event.order
    return (not order.emergency, order.prio, -order.seq, order.jti)


def steps(apart: Decimal, ramp: Decimal | None) -> int:
    """How many steps of a minute a way of this length takes after the first."""
    if ramp is None or not apart:
        return 0
    return max(0, math.ceil(abs(apart) / ramp) - 1)


def back_from(event: AcceptedOrder, apart: Decimal, ramp: Decimal | None) -> float:
    """When the give-back begins, so that it is over by the end."""
    longest = max(0.0, event.order.duration / 2)
    return event.end - min(event.back + steps(apart, ramp) * STEP, longest)


def value_at(
    now: float, event: AcceptedOrder, base: Decimal, target: Decimal, ramp: Decimal | None
) -> Decimal | None:
    """The value to stand at a moment of its hold; None: give back.

    `base`: what stood there before; `target`: what was ordered.
    """
    if ramp is None or base == target:
        return target if now < event.end - min(event.back, event.order.duration / 2) else None
    apart = target - base
    back = back_from(event, apart, ramp)
    there = int((now - event.begin) // STEP) + 1
    if now < back:
        return toward(base, target, ramp * there)
    gone = int((now - back) // STEP) + 1
    reached = toward(base, target, ramp * (int((back - event.begin) // STEP) + 1))
    value = toward(reached, base, ramp * gone)
    return None if value == base else value


def paced(standing: Decimal, wanted: Decimal, ramp: Decimal | None, since: float) -> Decimal:
    """What is written where an order may take over from another: no step is larger than the ramp,
    and none is written before its minute is over. `since`: seconds from the last one.
    """
    if ramp is None or wanted == standing:
        return wanted
    return toward(standing, wanted, ramp) if since >= STEP - LATE else standing


def toward(begin: Decimal, end: Decimal, by: Decimal) -> Decimal:
    """A step from one value towards another, never beyond it."""
    return min(end, begin + by) if end > begin else max(end, begin - by)

"""Following the orders in time: the strongest is in force, who begins is decided again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.control import schedule
from agent.control.apply import put, wanted
from agent.control.decide import decide
from agent.control.model import No, OrderState
from agent.control.point_state import known
from agent.control.release_retry import over as give_back_as_planned
from agent.control.report import end, refused
from agent.control.stamps import elapsed, over

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from agent.control.configured_control import ConfiguredControl
    from agent.control.context import ControlContext
    from agent.control.hold_record import HoldRecord
    from agent.control.model import AcceptedOrder
    from agent.control.stamps import Moment


async def follow(
    ground: ControlContext, fit: ConfiguredControl, rows: list[HoldRecord], now: Moment
) -> None:
    """Bring a point to the strongest order in time; give back what is held by no order."""
    barred = ground.barred(fit)
    going = [
        one
        for one in schedule.in_time(ground.journal.of(fit.key), now.wall)
        if one.order.control == fit.name  # the point may have been another control's before
        and may_go(one, rows, now)
        and slot_of(fit, one) not in barred
    ]
    chosen = await _choose(ground, fit, going, rows, now)
    row = None
    if chosen is not None:
        slot = slot_of(fit, chosen)
        row = next((one for one in rows if one.slot == slot), None)
        value = value_of(chosen, row, fit, now)
        if value is None:
            row = None
        else:
            same = row is not None and row.jti == chosen.order.jti
            lasts = row.lasts if row and same else chosen.end - now.wall
            want = wanted(ground, fit, chosen.order.jti, value, (chosen.end, lasts), slot)
            await put(ground, fit, row, want, chosen)
    for one in rows:
        if one is not row:
            await give_back_as_planned(ground, one)


async def _choose(
    ground: ControlContext,
    fit: ConfiguredControl,
    going: list[AcceptedOrder],
    rows: Sequence[HoldRecord],
    now: Moment,
) -> AcceptedOrder | None:
    """The strongest that may go; one that begins is decided again, the others lose."""
    chosen = schedule.winner(going)
    while chosen is not None and not any(row.jti == chosen.order.jti for row in rows):
        found = decide(chosen.order, fit.modality, known(ground, fit, now))
        if not isinstance(found, No):
            break
        await refused(ground, chosen, found)
        going.remove(chosen)
        chosen = schedule.winner(going)
    for event in going:
        if chosen is not None and event is not chosen and event.state is not OrderState.SUPERSEDED:
            await end(ground, event, OrderState.SUPERSEDED, f"by {chosen.order.jti}")
    return chosen


def may_go(event: AcceptedOrder, rows: Sequence[HoldRecord], now: Moment) -> bool:
    """Nothing begins by a clock that may not be believed; what goes on ends by both. Pure."""
    row = next((one for one in rows if one.jti == event.order.jti), None)
    if row is not None:
        return not over(row.end, row.begun, row.lasts, now)
    return now.trusted


def slot_of(fit: ConfiguredControl, event: AcceptedOrder) -> int | None:
    """Our priority for an order. Pure."""
    return fit.slots[1] if event.order.emergency else fit.slots[0]


def value_of(
    event: AcceptedOrder, row: HoldRecord | None, fit: ConfiguredControl, now: Moment
) -> Decimal | None:
    """What is to stand there now by this order; None: it is given back. Pure."""
    target = event.order.value
    assert target is not None
    if row is None or row.base is None:
        return schedule.value_at(now.wall, event, target, target, None)
    value = schedule.value_at(now.wall, event, row.base, target, fit.modality.ramp)
    if value is None or row.moved is None or isinstance(row.target, str):
        return value
    return schedule.paced(row.target, value, fit.modality.ramp, elapsed(row.moved, now))

"""Following the orders in time: the strongest one is in force.

An order that begins is decided again (rule H26).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.control import schedule
from agent.control.apply import apply, setpoint_for
from agent.control.decide import decide
from agent.control.model import No, OrderState
from agent.control.point_state import decision_input
from agent.control.release_retry import over as end_as_planned
from agent.control.report import end, report_refusal
from agent.control.stamps import elapsed, over

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from agent.control.configured_control import ConfiguredControl
    from agent.control.context import ControlContext
    from agent.control.hold_record import HoldRecord
    from agent.control.model import AcceptedOrder
    from agent.control.stamps import Moment


async def follow_orders(
    context: ControlContext, control: ConfiguredControl, records: list[HoldRecord], now: Moment
) -> None:
    """Bring a point to the strongest order in time, and release what no order holds."""
    blocked_slots = context.blocked_slots(control)
    going = [
        event
        for event in schedule.in_time(context.journal.of(control.key), now.wall)
        if event.order.control == control.name  # earlier, the point may have been another control's
        and may_run(event, records, now)
        and slot_of(control, event) not in blocked_slots
    ]
    chosen = await _choose(context, control, going, records, now)
    record = None
    if chosen is not None:
        slot = slot_of(control, chosen)
        record = next((other for other in records if other.slot == slot), None)
        value = value_of(chosen, record, control, now)
        if value is None:
            record = None
        else:
            # The same order keeps its length by the monotonic clock: a wall clock that is set back
            # must not lengthen the hold (rule H28).
            same = record is not None and record.jti == chosen.order.jti
            lasts = record.lasts if record and same else chosen.end - now.wall
            setpoint = setpoint_for(
                context, control, chosen.order.jti, value, (chosen.end, lasts), slot
            )
            await apply(context, control, record, setpoint, chosen)
    for other in records:
        if other is not record:
            await end_as_planned(context, other)


async def _choose(
    context: ControlContext,
    control: ConfiguredControl,
    going: list[AcceptedOrder],
    records: Sequence[HoldRecord],
    now: Moment,
) -> AcceptedOrder | None:
    """The strongest order that may run. One that begins is decided again; the others end.

    Orders that are refused are removed from `going`.
    """
    chosen = schedule.winner(going)
    # an order with a hold record was decided when it began, and is not decided again
    while chosen is not None and not any(record.jti == chosen.order.jti for record in records):
        decision = decide(chosen.order, control.modality, decision_input(context, control, now))
        if not isinstance(decision, No):
            break
        await report_refusal(context, chosen, decision)
        going.remove(chosen)
        chosen = schedule.winner(going)
    for event in going:
        if chosen is not None and event is not chosen and event.state is not OrderState.SUPERSEDED:
            await end(context, event, OrderState.SUPERSEDED, f"by {chosen.order.jti}")
    return chosen


def may_run(event: AcceptedOrder, records: Sequence[HoldRecord], now: Moment) -> bool:
    """Whether an order may run now. Pure.

    Without a trusted clock no order begins. A hold ends by both clocks (rule H28).
    """
    record = next((one for one in records if one.jti == event.order.jti), None)
    if record is not None:
        return not over(record.end, record.begun, record.lasts, now)
    return now.trusted


def slot_of(control: ConfiguredControl, event: AcceptedOrder) -> int | None:
    """Our priority for an order; None: a register, which has none. Pure."""
    return control.slots[1] if event.order.emergency else control.slots[0]


def value_of(
    event: AcceptedOrder, record: HoldRecord | None, control: ConfiguredControl, now: Moment
) -> Decimal | None:
    """The value of an order now; None: its release has begun. Pure."""
    target = event.order.value
    assert target is not None
    # `Setpoint.first` limits the first step of a ramp; from a value that is no number there is none
    if record is None or record.base is None:
        return schedule.value_at(now.wall, event, target, target, None)
    value = schedule.value_at(now.wall, event, record.base, target, control.modality.ramp)
    if value is None or record.moved is None or isinstance(record.target, str):
        return value
    return schedule.paced(record.target, value, control.modality.ramp, elapsed(record.moved, now))

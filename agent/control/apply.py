"""Bringing a point to its setpoint, and recording how that went."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.control.guard import measured
from agent.control.hold_record import Phase
from agent.control.model import LossRule, No, OrderCode, OrderState
from agent.control.records import Outcome, Transaction
from agent.control.report import end, report_refusal, report_state
from agent.control.setpoint import FAILSAFE, FOREVER, Setpoint
from agent.control.stop import OPTED_OUT_FOR, TRIED_FOR, opt_out

if TYPE_CHECKING:
    from decimal import Decimal

    from agent.control.configured_control import ConfiguredControl
    from agent.control.context import ControlContext
    from agent.control.hold_record import HoldRecord
    from agent.control.model import AcceptedOrder


def setpoint_for(  # noqa: PLR0913, PLR0917 -- each says one thing about it
    context: ControlContext,
    control: ConfiguredControl,
    jti: str,
    value: Decimal,
    until: tuple[float, float],
    slot: int | None,
) -> Setpoint:
    """The setpoint of a control for an order, or for the failsafe.

    `until`: the end by the wall clock, and the seconds until then.
    """
    modality = control.modality
    fallback = context.journal.memo(control.key).fallback
    return Setpoint(
        modality.name, jti, control.place, slot, value, control.restore, *until, modality.tolerance,
        never_raise=modality.kind is LossRule.LIMIT,
        ramp=None if jti == FAILSAFE else modality.ramp,  # a failsafe applies at once
        fallback=fallback if control.fallback is None else control.fallback,
        failsafe=modality.failsafe.value if modality.failsafe else None,
        watchdog=control.watchdog, agreed=modality.version,
    )  # fmt: skip


async def apply(
    context: ControlContext,
    control: ConfiguredControl,
    record: HoldRecord | None,
    setpoint: Setpoint,
    event: AcceptedOrder | None,
) -> None:
    """Begin, change or refresh a hold, and record the outcome.

    `record`: the hold that exists in this slot; None: there is none. `event`: the order; None: the
    failsafe.
    """
    access = context.dependencies.access(control.place, setpoint.slot)
    result: HoldRecord | No | None
    if record is None:
        result = await context.holder.begin(setpoint, access, event)
    else:
        result = await context.holder.change(record, setpoint, access)
    if isinstance(result, No):
        context.alarms[control.name] = result.reason
        if event is not None and not _will_retry(context, event, result):
            await report_refusal(context, event, result)
            context.alarms.pop(control.name)  # the refusal was reported, so nothing is left to do
    elif result is None:
        await _taken_over(context, control, setpoint.end)
    else:
        await _report_result(context, control, result, setpoint)
        await _report_failsafe(context, record, result)


async def _report_failsafe(
    context: ControlContext, before: HoldRecord | None, now: HoldRecord
) -> None:
    """Report that a failsafe began, or that an order ended it.

    A failsafe has no order of its own by which it could be reported.
    """
    was_failsafe = before is not None and before.jti == FAILSAFE and before.phase is Phase.APPLIED
    if now.phase is not Phase.APPLIED or was_failsafe == (now.jti == FAILSAFE):
        return
    state = OrderState.SUPERSEDED if was_failsafe else OrderState.STARTED
    reason = f"by {now.jti}" if was_failsafe else "the centre is not heard"
    value = str(before.target if before and was_failsafe else now.target)
    power, at = context.dependencies.power(now.control), context.dependencies.now().wall
    outcome = Outcome(FAILSAFE, now.control, state, at, words=reason, value=value, after=power)
    if not was_failsafe:
        pre = "" if now.pre is None else str(now.pre)
        outcome = replace(outcome, before=power, after="", pre=pre)
    context.dependencies.audit(
        f"control.{state.lower()}", {"jti": FAILSAFE, "control": now.control}
    )
    await context.dependencies.note(Transaction(outcomes=[outcome]))


def _will_retry(context: ControlContext, event: AcceptedOrder, no: No) -> bool:
    """Whether an order that could not begin is tried again.

    A device or disk that fails for a moment delays an order; it does not end it.
    """
    return (
        no.code in {OrderCode.DEVICE, OrderCode.STORAGE}
        and context.dependencies.now().wall < event.begin + TRIED_FOR
    )


async def _report_result(
    context: ControlContext, control: ConfiguredControl, record: HoldRecord, setpoint: Setpoint
) -> None:
    if record.alarm:
        context.alarms[control.name] = record.alarm
    else:
        context.alarms.pop(control.name, None)
    if record.phase is Phase.RELEASING:
        if record.outcome is OrderState.OPTED_OUT:
            await _taken_over(context, control, setpoint.end)
        return
    event = context.journal.events.get((setpoint.jti, control.name))
    if record.phase is Phase.APPLIED and event and event.state is not OrderState.STARTED:
        value = record.target if not isinstance(record.target, str) else setpoint.value
        value_text = measured(value, control.modality.unit)
        begun = replace(event, state=OrderState.STARTED, began=True, over=None)
        await report_state(context, begun, OrderState.STARTED, value_text, record.pre)


async def _taken_over(context: ControlContext, control: ConfiguredControl, until: float) -> None:
    """Opt out, because somebody at the plant has taken over: until the order ends, or for a day."""
    now = context.dependencies.now()
    lasts = max(0.0, until - now.wall) if until < FOREVER else OPTED_OUT_FOR
    await opt_out(context, control, lasts, "somebody at the plant has taken over")
    for event in context.active_orders(control):
        await end(context, event, OrderState.OPTED_OUT, "manual")

"""Bringing a point to what is wanted there, and what follows from how that went."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.control.guard import measured
from agent.control.hold_record import Phase
from agent.control.model import LossRule, No, OrderCode, OrderState
from agent.control.records import Outcome, Transaction
from agent.control.report import end, refused, say
from agent.control.setpoint import FAILSAFE, FOREVER, Setpoint
from agent.control.stop import OPTED_OUT_FOR, TRIED_FOR, opt_out

if TYPE_CHECKING:
    from decimal import Decimal

    from agent.control.configured_control import ConfiguredControl
    from agent.control.context import ControlContext
    from agent.control.hold_record import HoldRecord
    from agent.control.model import AcceptedOrder


def wanted(  # noqa: PLR0913, PLR0917 -- each says one thing about it
    ground: ControlContext,
    fit: ConfiguredControl,
    jti: str,
    value: Decimal,
    until: tuple[float, float],
    slot: int | None,
) -> Setpoint:
    """What is to stand at a control; `until`: by the wall clock, and seconds from now."""
    agreed = fit.modality
    seen = ground.journal.memo(fit.key).fallback
    return Setpoint(
        agreed.name, jti, fit.place, slot, value, fit.restore, *until, agreed.tolerance,
        never_raise=agreed.kind is LossRule.LIMIT,
        ramp=None if jti == FAILSAFE else agreed.ramp,
        fallback=seen if fit.fallback is None else fit.fallback,
        failsafe=agreed.failsafe.value if agreed.failsafe else None,
        dog=fit.dog, agreed=agreed.version,
    )  # fmt: skip


async def put(
    ground: ControlContext,
    fit: ConfiguredControl,
    row: HoldRecord | None,
    want: Setpoint,
    event: AcceptedOrder | None,
) -> None:
    """Begin, change or refresh; `row`: what is held in that slot already."""
    plug = ground.world.plug(fit.place, want.slot)
    found: HoldRecord | No | None
    if row is None:
        found = await ground.holder.begin(want, plug, event)
    else:
        found = await ground.holder.change(row, want, plug)
    if isinstance(found, No):
        ground.alarms[fit.name] = found.words
        if event is not None and not _tried_again(ground, event, found):
            await refused(ground, event, found)
            ground.alarms.pop(fit.name)  # it is told, and over
    elif found is None:
        await _persons(ground, fit, want.end)
    else:
        await _stands(ground, fit, found, want)
        await _failsafe(ground, row, found)


async def _failsafe(ground: ControlContext, before: HoldRecord | None, now: HoldRecord) -> None:
    """A failsafe that begins, or ends by an order: there is none of its own that could tell it."""
    was = before is not None and before.jti == FAILSAFE and before.phase is Phase.APPLIED
    if now.phase is not Phase.APPLIED or was == (now.jti == FAILSAFE):
        return
    state = OrderState.SUPERSEDED if was else OrderState.STARTED
    words = f"by {now.jti}" if was else "the centre is not heard"
    value = str(before.target if before and was else now.target)
    power, at = ground.world.power(now.control), ground.world.now().wall
    told = Outcome(FAILSAFE, now.control, state, at, words=words, value=value, after=power)
    if not was:
        pre = "" if now.pre is None else str(now.pre)
        told = replace(told, before=power, after="", pre=pre)
    ground.world.audit(f"control.{state.lower()}", {"jti": FAILSAFE, "control": now.control})
    await ground.world.note(Transaction(outcomes=[told]))


def _tried_again(ground: ControlContext, event: AcceptedOrder, no: No) -> bool:
    """A device or disk that is silent for a moment costs an order a moment, not its life."""
    return (
        no.code in {OrderCode.DEVICE, OrderCode.STORAGE}
        and ground.world.now().wall < event.begin + TRIED_FOR
    )


async def _stands(
    ground: ControlContext, fit: ConfiguredControl, row: HoldRecord, want: Setpoint
) -> None:
    if row.alarm:
        ground.alarms[fit.name] = row.alarm
    else:
        ground.alarms.pop(fit.name, None)
    if row.phase is Phase.RELEASING:
        if row.outcome is OrderState.OPTED_OUT:
            await _persons(ground, fit, want.end)
        return
    event = ground.journal.events.get((want.jti, fit.name))
    if row.phase is Phase.APPLIED and event and event.state is not OrderState.STARTED:
        value = row.target if not isinstance(row.target, str) else want.value
        words = measured(value, fit.modality.unit)
        begun = replace(event, state=OrderState.STARTED, began=True, over=None)
        await say(ground, begun, OrderState.STARTED, words, row.pre)


async def _persons(ground: ControlContext, fit: ConfiguredControl, until: float) -> None:
    """Somebody at the plant has taken over: lasts to the end of the event, or a day."""
    now = ground.world.now()
    lasts = max(0.0, until - now.wall) if until < FOREVER else OPTED_OUT_FOR
    await opt_out(ground, fit, lasts, "somebody at the plant has taken over")
    for event in ground.going(fit):
        await end(ground, event, OrderState.OPTED_OUT, "manual")

"""Ending holds and orders: by an order, by a person, at the agent's end, or at a reload."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.control import schedule
from agent.control.fallback import fall_back
from agent.control.hold_record import Phase
from agent.control.model import OrderState
from agent.control.records import Outcome, Transaction
from agent.control.release_retry import try_release
from agent.control.report import end
from agent.control.setpoint import FAILSAFE
from agent.control.stop import forbidden

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.control.configured_control import ConfiguredControl
    from agent.control.context import ControlContext
    from agent.control.hold_record import HoldRecord


async def cancel(context: ControlContext, name: str, reason: str, jti: str = "") -> list[str]:
    """End one order, or (without `jti`) all holds and orders of a control. Returns what was ended.

    A failsafe that is ended in this way is not entered again before the centre is heard again.
    """
    control, ended = context.controls[name], []
    async with context.lock(name):
        for event in context.journal.of(control.key):
            ends_it = event.order.control == name and (not jti or event.order.jti == jti)
            resumes = event.state is OrderState.SUPERSEDED and event.order.resume
            if ends_it and (event.state in schedule.WAITING or resumes):
                await end(context, event, OrderState.CANCELLED, reason)
                ended.append(event.order.jti)
        if not jti and await _leave_failsafe(context, control):
            ended.append(FAILSAFE)
        for record in context.journal.open_records(control.key):
            if record.jti in ended:
                await try_release(context, record.releasing(OrderState.CANCELLED, reason))
    return ended


async def release_controls(context: ControlContext, reason: str, names: Iterable[str]) -> None:
    """Release these controls now. Orders that have not begun stay scheduled.

    While the agent ends, a limit is brought to its failsafe instead: nobody hears the centre then.
    """
    await asyncio.gather(
        *(_release_control(context, reason, context.controls[name]) for name in names)
    )


async def _release_control(
    context: ControlContext, reason: str, control: ConfiguredControl
) -> None:
    async with context.lock(control.name):
        records = context.records(control)
        for event in context.active_orders(control):
            await end(context, event, OrderState.ABORTED, reason)
        limited = [record for record in records if record.phase is not Phase.RELEASING]
        if (
            context.closing
            and control.modality.failsafe
            and limited
            and not forbidden(context, control)
        ):
            await fall_back(context, control, limited)
            records = [record for record in records if record not in limited]
        for record in records:
            await try_release(context, record.releasing(OrderState.ABORTED, reason))


async def abandon(context: ControlContext, name: str, reason: str) -> int:
    """Close by hand the holds that cannot be released. The value at the device stays.

    Orders in force end first, and what can be released is released. Returns how many hold records
    were closed without a release.
    """
    async with context.lock(name):
        if control := context.controls.get(name):
            for event in context.active_orders(control):
                await end(context, event, OrderState.CANCELLED, reason)
            await _leave_failsafe(context, control)
        for record in _records_of(context, name):
            context.waits.pop(record.number, None)
            await try_release(context, record.releasing(OrderState.CANCELLED, reason))
        left = _records_of(context, name)
        for record in left:
            now = context.dependencies.now().wall
            outcome = Outcome(record.jti, name, OrderState.FAILED, now, words=reason, closed=True)
            await context.dependencies.note(
                Transaction(replace(record, phase=Phase.CLOSED), outcomes=[outcome])
            )
            context.waits.pop(record.number, None)
        context.alarms.pop(name, None)
    return len(left)


def _records_of(context: ControlContext, name: str) -> list[HoldRecord]:
    return [record for record in context.journal.records.values() if record.control == name]


async def _leave_failsafe(context: ControlContext, control: ConfiguredControl) -> bool:
    """Leave the failsafe until the centre is heard again. Returns whether it was applied."""
    memo = context.journal.memo(control.key)
    if not memo.watch.since:
        return False
    watch = replace(memo.watch, since=None, age=0.0, spent=True)
    await context.remember(control.key, replace(memo, watch=watch))
    return True

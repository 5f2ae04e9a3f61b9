"""Trying a release again until the device confirms it, at growing intervals (rule H18)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.control.context import Wait
from agent.control.hold_record import Phase
from agent.control.model import OrderState
from agent.control.report import report_state

if TYPE_CHECKING:
    from agent.control.context import ControlContext
    from agent.control.hold_record import HoldRecord

LONGEST_WAIT = 60.0
"""seconds: the longest interval between two attempts"""


async def try_release(context: ControlContext, record: HoldRecord) -> None:
    """Make one attempt at a release, if one is due.

    If the device has moved to another address, it is tried there too (rule H21).
    """
    now = context.dependencies.now().steady
    wait = context.waits.setdefault(record.number, Wait())
    if record.phase is Phase.RELEASING and now < wait.until:
        return
    left = await _release(context, record)
    if left is not None and (moved := _at_new_address(context, left)):
        remaining = await _release(context, moved)
        left = None if remaining is None else left
    if left is None:
        context.waits.pop(record.number, None)
        context.alarms.pop(record.control, None)
        return
    # 1, 2, 4 … 60 s: a device may be away for days
    wait.until, wait.last = now + wait.last, min(LONGEST_WAIT, wait.last * 2)
    context.alarms[record.control] = f"not released yet: {left.alarm}"


async def _release(context: ControlContext, record: HoldRecord) -> HoldRecord | None:
    return await context.holder.release(
        record, context.dependencies.access(record.place, record.slot)
    )


def _at_new_address(context: ControlContext, record: HoldRecord) -> HoldRecord | None:
    """The hold record at the address at which its device is configured now; None: it has not moved.

    Only for a device with a serial number: `release` checks that number, so no other device that is
    now at the address is written to.
    """
    control = context.controls.get(record.control)
    if (
        control is None
        or not record.identity
        or control.key != record.key
        or control.place == record.place
    ):
        return None
    if (record.slot is None) != (control.slots[0] is None):
        return None
    return replace(record, place=control.place, dog=control.watchdog)


async def over(context: ControlContext, record: HoldRecord) -> None:
    """Release a hold for which no order is in force any more, and report RESTORING."""
    event = context.journal.events.get((record.jti, record.control))
    if record.number not in context.journal.records:  # released by an earlier step of this check
        return
    outcome = OrderState.COMPLETED
    if event and event.state in {OrderState.SUPERSEDED, OrderState.CANCELLED, OrderState.ABORTED}:
        outcome = event.state
    elif event and event.state is OrderState.STARTED:
        await report_state(
            context, replace(event, state=OrderState.RESTORING), OrderState.RESTORING, ""
        )
    await try_release(context, record.releasing(outcome, ""))


async def release_unconfigured(context: ControlContext) -> None:
    """Release the holds that belong to no control as configured now."""
    for record in list(context.journal.records.values()):
        if not context.is_configured(record):
            await try_release(
                context,
                record.releasing(
                    OrderState.ABORTED, "the control is no longer configured like this"
                ),
            )

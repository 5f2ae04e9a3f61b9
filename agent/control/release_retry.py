"""Giving back, again and again until the device confirms, never more often than is due."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.control.context import Wait
from agent.control.hold_record import Phase
from agent.control.model import OrderState
from agent.control.report import say

if TYPE_CHECKING:
    from agent.control.context import ControlContext
    from agent.control.hold_record import HoldRecord

LONGEST_WAIT = 60.0
"""seconds between two attempts at a give-back"""


async def give_back(ground: ControlContext, row: HoldRecord) -> None:
    """One attempt, when one is due."""
    now = ground.world.now().steady
    wait = ground.waits.setdefault(row.number, Wait())
    if row.phase is Phase.RELEASING and now < wait.until:
        return
    left = await _release(ground, row)
    if left is not None and (moved := _moved(ground, left)):
        found = await _release(ground, moved)
        left = None if found is None else left
    if left is None:
        ground.waits.pop(row.number, None)
        ground.alarms.pop(row.control, None)
        return
    wait.until, wait.last = now + wait.last, min(LONGEST_WAIT, wait.last * 2)
    ground.alarms[row.control] = f"not given back yet: {left.alarm}"


async def _release(ground: ControlContext, row: HoldRecord) -> HoldRecord | None:
    return await ground.holder.release(row, ground.world.plug(row.place, row.slot))


def _moved(ground: ControlContext, row: HoldRecord) -> HoldRecord | None:
    """The same row where its device is configured now; only one that says which it is."""
    fit = ground.fits.get(row.control)
    if fit is None or not row.identity or fit.key != row.key or fit.place == row.place:
        return None
    if (row.slot is None) != (fit.slots[0] is None):
        return None
    return replace(row, place=fit.place, dog=fit.dog)


async def over(ground: ControlContext, row: HoldRecord) -> None:
    """Nothing is in force for it any more: the planned give-back."""
    event = ground.journal.events.get((row.jti, row.control))
    if row.number not in ground.journal.rows:
        return
    outcome = OrderState.COMPLETED
    if event and event.state in {OrderState.SUPERSEDED, OrderState.CANCELLED, OrderState.ABORTED}:
        outcome = event.state
    elif event and event.state is OrderState.STARTED:
        await say(ground, replace(event, state=OrderState.RESTORING), OrderState.RESTORING, "")
    await give_back(ground, row.releasing(outcome, ""))


async def give_strangers_back(ground: ControlContext) -> None:
    """Give back what is held by no control that is configured now."""
    for row in list(ground.journal.rows.values()):
        if not ground.mine(row):
            await give_back(
                ground, row.releasing(OrderState.ABORTED, "it is no longer configured so")
            )

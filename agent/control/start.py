"""The start: giving back, once, all that an agent before us has left (rule H17).

What does not answer now stays and is tried again (RELEASE_PENDING).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.control import failsafe
from agent.control.fallback import fall_back
from agent.control.hold_record import Phase
from agent.control.model import OrderState
from agent.control.orphan_search import sweep
from agent.control.release_retry import give_back
from agent.control.report import end
from agent.control.stop import forbidden
from agent.errors import LinkLost, Refused

if TYPE_CHECKING:
    from agent.control.configured_control import ConfiguredControl
    from agent.control.context import ControlContext
    from agent.control.hold_record import HoldRecord
    from agent.control.model import AcceptedOrder

ASKED_WITHIN = 10.0
"""seconds that a start waits for the guards of a limit"""


async def recover(ground: ControlContext) -> None:
    """Release, or bring to its failsafe, every open row; then look for what stands there without
    one. Before any uplink is opened, and once a journal can be read again that could not be.
    """
    now, journal = ground.world.now(), ground.journal
    rows = list(journal.rows.values())
    for fit in ground.fits.values():
        if rule := fit.modality.failsafe:
            async with ground.lock(fit.name):
                memo = journal.memo(fit.key)
                watch = failsafe.started(memo.watch, rule, now)
                await ground.remember(fit.key, replace(memo, watch=watch))
    await asyncio.gather(*(_recover(ground, row) for row in rows))
    for event in list(journal.events.values()):
        if event.state in {OrderState.STARTED, OrderState.RESTORING} and not _open(ground, event):
            await end(ground, event, OrderState.ABORTED, "restart")
    await asyncio.gather(*(_sweep(ground, fit) for fit in ground.fits.values()))


async def _sweep(ground: ControlContext, fit: ConfiguredControl) -> None:
    async with ground.lock(fit.name):
        await sweep(ground, fit)


def _open(ground: ControlContext, event: AcceptedOrder) -> bool:
    return any(
        (row.jti, row.control) == (event.order.jti, event.order.control)
        for row in list(ground.journal.rows.values())
    )


async def _recover(ground: ControlContext, row: HoldRecord) -> None:
    async with ground.lock(row.control):
        if row.number in ground.journal.rows:  # nobody has given it back meanwhile
            await _left(ground, row)


async def _left(ground: ControlContext, row: HoldRecord) -> None:
    event = ground.journal.events.get((row.jti, row.control))
    fit = ground.fits.get(row.control)
    if fit is not None and await _stays_limited(ground, fit, row):
        # a limit is not let go of: its failsafe value is written over it
        if event:
            await end(ground, event, OrderState.ABORTED, "restart")
        await fall_back(ground, fit, [row])
        return
    done = event is not None and event.state is OrderState.RESTORING
    outcome = OrderState.COMPLETED if done else OrderState.ABORTED
    await give_back(ground, row.releasing(outcome, "restart"))


async def _stays_limited(ground: ControlContext, fit: ConfiguredControl, row: HoldRecord) -> bool:
    ours = ground.mine(row) and row.slot == fit.slots[0] and row.phase is not Phase.RELEASING
    if not ours or not ground.journal.memo(fit.key).watch.since:
        return False
    await _ask(ground, fit)
    return forbidden(ground, fit) is None


async def _ask(ground: ControlContext, fit: ConfiguredControl) -> None:
    """At a start nobody has read the guards yet; what does not answer counts as tripped."""
    if ground.world.ask is not None:
        with suppress(LinkLost, Refused, TimeoutError):
            async with asyncio.timeout(ASKED_WITHIN):
                await ground.world.ask(fit.name)

"""The start: releasing all holds that an earlier process of the agent has left (rule H17).

A device that does not answer stays RELEASE_PENDING, and is tried again.
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
from agent.control.orphan_search import search_orphans
from agent.control.release_retry import try_release
from agent.control.report import end
from agent.control.stop import forbidden
from agent.core.errors import LinkLost, Refused

if TYPE_CHECKING:
    from agent.control.configured_control import ConfiguredControl
    from agent.control.context import ControlContext
    from agent.control.hold_record import HoldRecord
    from agent.control.model import AcceptedOrder

ASKED_WITHIN = 10.0
"""seconds for which a start waits for the guards of a limit"""


async def recover(context: ControlContext) -> None:
    """Release every open hold, or bring a limit to its failsafe. Then search for orphan values.

    It runs before any uplink is opened, and when a journal has become readable again.
    """
    now, journal = context.dependencies.now(), context.journal
    records = list(journal.records.values())
    # first the failsafe, which decides what becomes of the holds of a limit
    for control in context.controls.values():
        if rule := control.modality.failsafe:
            async with context.lock(control.name):
                memo = journal.memo(control.key)
                watch = failsafe.started(memo.watch, rule, now)
                await context.remember(control.key, replace(memo, watch=watch))
    await asyncio.gather(*(_recover(context, record) for record in records))
    for event in list(journal.events.values()):
        if event.state in {OrderState.STARTED, OrderState.RESTORING} and not _open(context, event):
            await end(context, event, OrderState.ABORTED, "restart")
    await asyncio.gather(
        *(_search_orphans(context, control) for control in context.controls.values())
    )


async def _search_orphans(context: ControlContext, control: ConfiguredControl) -> None:
    async with context.lock(control.name):
        await search_orphans(context, control)


def _open(context: ControlContext, event: AcceptedOrder) -> bool:
    return any(
        (record.jti, record.control) == (event.order.jti, event.order.control)
        for record in list(context.journal.records.values())
    )


async def _recover(context: ControlContext, record: HoldRecord) -> None:
    async with context.lock(record.control):
        if record.number in context.journal.records:  # nobody has released it meanwhile
            await _release_or_limit(context, record)


async def _release_or_limit(context: ControlContext, record: HoldRecord) -> None:
    event = context.journal.events.get((record.jti, record.control))
    control = context.controls.get(record.control)
    if control is not None and await _stays_limited(context, control, record):
        # A limit is not released first: between release and failsafe it would not apply.
        if event:
            await end(context, event, OrderState.ABORTED, "restart")
        await fall_back(context, control, [record])
        return
    done = event is not None and event.state is OrderState.RESTORING
    outcome = OrderState.COMPLETED if done else OrderState.ABORTED
    await try_release(context, record.releasing(outcome, "restart"))


async def _stays_limited(
    context: ControlContext, control: ConfiguredControl, record: HoldRecord
) -> bool:
    ours = (
        context.is_configured(record)
        and record.slot == control.slots[0]
        and record.phase is not Phase.RELEASING
    )
    if not ours or not context.journal.memo(control.key).watch.since:
        return False
    await _read_guards(context, control)
    return forbidden(context, control) is None


async def _read_guards(context: ControlContext, control: ConfiguredControl) -> None:
    """Read the guards: at a start nobody has read them yet. A silent one counts as tripped."""
    if context.dependencies.ask is not None:
        with suppress(LinkLost, Refused, TimeoutError):
            async with asyncio.timeout(ASKED_WITHIN):
                await context.dependencies.ask(control.name)

"""What ends all holds of a control at once: a guard, the operator's off switch, a person, an
opt-out, or a disk that fails.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.control import schedule
from agent.control.guard import inhibited, tripped
from agent.control.model import No, OrderCode, OrderState
from agent.control.release_retry import try_release
from agent.control.report import end, report_refusal
from agent.control.stamps import elapsed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.control.configured_control import ConfiguredControl
    from agent.control.context import ControlContext
    from agent.control.hold_record import HoldRecord

TRIED_FOR = 60.0
"""seconds after its begin for which an order waits if something forbids it (rule H26)"""
OPTED_OUT_FOR = 86_400.0
"""seconds of an opt-out where no order was in force (rule H7)"""


def forbidden(context: ControlContext, control: ConfiguredControl) -> No | None:
    """What forbids orders and failsafe at a control now; None: nothing."""
    if why := context.recovering or context.dependencies.failing():
        return No(OrderCode.STORAGE, why)
    memo = context.journal.memo(control.key)
    if memo.opted_out and elapsed(memo.opted_out, context.dependencies.now()) < memo.opt_lasts:
        return No(OrderCode.OVERRIDDEN, memo.opt_words)
    modality, look = control.modality, context.dependencies.look
    return tripped(modality.guards, look) or inhibited(modality, look)


async def stop(
    context: ControlContext, control: ConfiguredControl, records: Iterable[HoldRecord], no: No
) -> None:
    """Release all for this reason. A guard that ended a hold locks out orders for `min_gap`."""
    state = OrderState.OPTED_OUT if no.code is OrderCode.OVERRIDDEN else OrderState.ABORTED
    guarded = no.code is OrderCode.GUARD
    reason = f"guard:{no.field}: {no.reason}" if guarded else no.reason
    reason = f"storage: {reason}" if no.code is OrderCode.STORAGE else reason
    held = False
    for record in records:
        held = True
        await try_release(context, record.releasing(state, reason))
    for event in context.active_orders(control):
        await end(context, event, state, reason)
    await refuse_due(context, control, no)
    # a guard that trips while nothing is held forbids orders only until it is within bounds again
    if held and guarded:
        memo, gap = context.journal.memo(control.key), control.modality.limits.gap or 0.0
        await context.remember(
            control.key, replace(memo, locked=context.dependencies.now(), lock_lasts=gap)
        )


async def refuse_due(context: ControlContext, control: ConfiguredControl, no: No) -> None:
    """Refuse the orders that should have begun `TRIED_FOR` seconds ago.

    Until then they wait, so that a sensor that is silent for a moment refuses no order.
    """
    for event in schedule.in_time(
        context.journal.of(control.key), context.dependencies.now().wall - TRIED_FOR
    ):
        if event.state is OrderState.SCHEDULED and not event.began:
            await report_refusal(context, event, no)


async def opt_out(
    context: ControlContext, control: ConfiguredControl, lasts: float, reason: str
) -> None:
    """Forbid orders and failsafe at this point for a number of seconds."""
    memo, now = context.journal.memo(control.key), context.dependencies.now()
    memo = replace(memo, opted_out=now, opt_lasts=lasts, opt_words=reason)
    await context.remember(control.key, memo)

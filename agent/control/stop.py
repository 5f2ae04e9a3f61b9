"""What ends all at once: a guard, the operator's switch, a person, somebody who opted out, a disk
that fails.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.control import schedule
from agent.control.guard import inhibited, tripped
from agent.control.model import No, OrderCode, OrderState
from agent.control.release_retry import give_back
from agent.control.report import end, refused
from agent.control.stamps import elapsed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.control.configured_control import ConfiguredControl
    from agent.control.context import ControlContext
    from agent.control.hold_record import HoldRecord

TRIED_FOR = 60.0
"""seconds after its begin for which an order waits for what keeps it from beginning"""
OPTED_OUT_FOR = 86_400.0
"""seconds for which nothing begins after somebody took over where no event was in force"""


def forbidden(ground: ControlContext, fit: ConfiguredControl) -> No | None:
    """What forbids anything at a control now, the failsafe of a limit too."""
    if why := ground.recovering or ground.world.failing():
        return No(OrderCode.STORAGE, why)
    memo = ground.journal.memo(fit.key)
    if memo.opted_out and elapsed(memo.opted_out, ground.world.now()) < memo.opt_lasts:
        return No(OrderCode.OVERRIDDEN, memo.opt_words)
    agreed, look = fit.modality, ground.world.look
    return tripped(agreed.guards, look) or inhibited(agreed, look)


async def stop(
    ground: ControlContext, fit: ConfiguredControl, rows: Iterable[HoldRecord], no: No
) -> None:
    """Give all back for this reason; a guard that ended something locks out for the agreed rest."""
    state = OrderState.OPTED_OUT if no.code is OrderCode.OVERRIDDEN else OrderState.ABORTED
    guarded = no.code is OrderCode.GUARD
    words = f"guard:{no.field}: {no.words}" if guarded else no.words
    words = f"storage: {words}" if no.code is OrderCode.STORAGE else words
    held = False
    for row in rows:
        held = True
        await give_back(ground, row.releasing(state, words))
    for event in ground.going(fit):
        await end(ground, event, state, words)
    await refuse_due(ground, fit, no)
    if held and guarded:
        memo, gap = ground.journal.memo(fit.key), fit.modality.limits.gap or 0.0
        await ground.remember(fit.key, replace(memo, locked=ground.world.now(), lock_lasts=gap))


async def refuse_due(ground: ControlContext, fit: ConfiguredControl, no: No) -> None:
    """Refuse what should have begun by now; a sensor that is silent for a moment costs nothing."""
    for event in schedule.in_time(ground.journal.of(fit.key), ground.world.now().wall - TRIED_FOR):
        if event.state is OrderState.SCHEDULED and not event.began:
            await refused(ground, event, no)


async def opt_out(ground: ControlContext, fit: ConfiguredControl, lasts: float, words: str) -> None:
    """Nothing is done at this point for so many seconds."""
    memo, now = ground.journal.memo(fit.key), ground.world.now()
    memo = replace(memo, opted_out=now, opt_lasts=lasts, opt_words=words)
    await ground.remember(fit.key, memo)

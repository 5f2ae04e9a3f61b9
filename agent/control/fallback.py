"""A limit whose centre is not heard: its failsafe value, applied and left (failsafe.py decides)."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.control import failsafe, schedule
from agent.control.apply import put, wanted
from agent.control.model import OrderState
from agent.control.release_retry import over
from agent.control.report import end
from agent.control.setpoint import FAILSAFE, FOREVER
from agent.control.stamps import elapsed
from agent.log_fields import LogEvent, fields

if TYPE_CHECKING:
    from agent.control.configured_control import ConfiguredControl
    from agent.control.context import ControlContext
    from agent.control.hold_record import HoldRecord
    from agent.control.model import Failsafe
    from agent.control.stamps import Moment

log = logging.getLogger(__name__)

WRITTEN_EVERY = 600.0
"""seconds between two notes of how long a failsafe has been applied"""


def hear(ground: ControlContext) -> list[str]:
    """A verified message of the centre has come; gives the limits whose failsafe applies.

    It counts at the next look at each limit: nobody else changes what is known of the centre.
    """
    now, applied = ground.world.now(), []
    for name, fit in ground.fits.items():
        if fit.modality.failsafe:
            ground.words.setdefault(name, [])[1:] = [now]
            if ground.journal.memo(fit.key).watch.since:
                applied.append(name)
    return applied


async def fallen_back(
    ground: ControlContext, fit: ConfiguredControl, rows: list[HoldRecord], now: Moment
) -> bool:
    """Apply the failsafe value while it is due; whether it is."""
    rule, memo = fit.modality.failsafe, ground.journal.memo(fit.key)
    if rule is None or memo.tested != fit.fingerprint:
        return False
    if not await _due(ground, fit, rule, now):
        return False
    for event in ground.going(fit):
        await end(ground, event, OrderState.SUPERSEDED, "the centre is not heard: failsafe")
    if fit.slots[0] not in ground.barred(fit):
        await fall_back(ground, fit, rows)
    return True


async def _due(ground: ControlContext, fit: ConfiguredControl, rule: Failsafe, now: Moment) -> bool:
    """Step on what is known of the centre. What a start needs is kept on the disk; what was heard
    is not: a start begins with the failsafe whatever was heard before.
    """
    memo = ground.journal.memo(fit.key)
    before = memo.watch
    heard = before
    for word in ground.words.pop(fit.name, ()):
        heard = failsafe.hear(heard, rule, word)
    following = before.since is not None and any(
        one.accepted >= before.entered and one.begin <= now.wall < one.end
        and one.state in schedule.WAITING
        for one in ground.journal.of(fit.key)
    )  # fmt: skip
    watch = failsafe.step(heard, rule, now, limit_since=following)
    if watch.since is not None and elapsed(watch.since, now) > WRITTEN_EVERY:
        watch = failsafe.aged(watch, now)
    if (watch.since is None) != (before.since is None):
        said = "is left" if watch.since is None else "applies: the centre is not heard"
        log.warning(
            "%s: the failsafe limit %s", fit.name, said,
            extra=fields(LogEvent.FAILSAFE_CHANGED, control=fit.name),
        )  # fmt: skip
    new = replace(memo, watch=watch)
    if failsafe.to_keep(watch) != failsafe.to_keep(before):
        await ground.remember(fit.key, new)
    else:
        ground.journal.memos[fit.key] = new
    return watch.since is not None


async def fall_back(ground: ControlContext, fit: ConfiguredControl, rows: list[HoldRecord]) -> None:
    """Bring a limit to its failsafe value now."""
    assert fit.modality.failsafe is not None
    value, slot = fit.modality.failsafe.value, fit.slots[0]
    want = wanted(ground, fit, FAILSAFE, value, (FOREVER, FOREVER), slot)
    row = next((one for one in rows if one.slot == slot), None)
    await put(ground, fit, row, want, None)
    for other in rows:
        if other is not row:
            await over(ground, other)

"""Applying and leaving the failsafe value of a limit. `failsafe.py` decides when."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.control import failsafe, schedule
from agent.control.apply import apply, setpoint_for
from agent.control.model import OrderState
from agent.control.release_retry import over
from agent.control.report import end
from agent.control.setpoint import FAILSAFE, FOREVER
from agent.control.stamps import elapsed
from agent.core.log_fields import LogEvent, fields

if TYPE_CHECKING:
    from agent.control.configured_control import ConfiguredControl
    from agent.control.context import ControlContext
    from agent.control.hold_record import HoldRecord
    from agent.control.model import Failsafe
    from agent.control.stamps import Moment

log = logging.getLogger(__name__)

WRITTEN_EVERY = 600.0
"""seconds between two records of how long a failsafe has been applied"""


def hear(context: ControlContext) -> list[str]:
    """Note that a verified message of the centre has come. Returns the limits in failsafe.

    It counts at the next check of each limit: only that changes what is known of the centre.
    """
    now, applied = context.dependencies.now(), []
    for name, control in context.controls.items():
        if control.modality.failsafe:
            # the first time shows a gap before it, the latest one that the centre is there now
            context.heartbeats.setdefault(name, [])[1:] = [now]
            if context.journal.memo(control.key).watch.since:
                applied.append(name)
    return applied


async def fallen_back(
    context: ControlContext, control: ConfiguredControl, records: list[HoldRecord], now: Moment
) -> bool:
    """Apply the failsafe value if it is due. Returns whether it is."""
    rule, memo = control.modality.failsafe, context.journal.memo(control.key)
    # at a point that has not passed its test nothing is written, not even a failsafe (rule H22)
    if rule is None or memo.tested != control.fingerprint:
        return False
    if not await _is_due(context, control, rule, now):
        return False
    for event in context.active_orders(control):
        await end(context, event, OrderState.SUPERSEDED, "the centre is not heard: failsafe")
    if control.slots[0] not in context.blocked_slots(control):
        await fall_back(context, control, records)
    return True


async def _is_due(
    context: ControlContext, control: ConfiguredControl, rule: Failsafe, now: Moment
) -> bool:
    """Update what is known of the centre. Returns whether the failsafe is applied.

    What a start needs is written to the disk. When the centre was heard is not: a start begins with
    the failsafe in any case.
    """
    memo = context.journal.memo(control.key)
    before = memo.watch
    heard = before
    for heartbeat in context.heartbeats.pop(control.name, ()):
        heard = failsafe.hear(heard, rule, heartbeat)
    following = before.since is not None and any(
        event.accepted >= before.entered and event.begin <= now.wall < event.end
        and event.state in schedule.WAITING
        for event in context.journal.of(control.key)
    )  # fmt: skip
    watch = failsafe.step(heard, rule, now, limit_since=following)
    if watch.since is not None and elapsed(watch.since, now) > WRITTEN_EVERY:
        watch = failsafe.aged(watch, now)
    if (watch.since is None) != (before.since is None):
        change = "has ended" if watch.since is None else "applies: the centre is not heard"
        log.warning(
            "%s: the failsafe limit %s", control.name, change,
            extra=fields(LogEvent.FAILSAFE_CHANGED, control=control.name),
        )  # fmt: skip
    new = replace(memo, watch=watch)
    if failsafe.to_keep(watch) != failsafe.to_keep(before):
        await context.remember(control.key, new)
    else:
        context.journal.memos[control.key] = new  # a start does not need it: memory is enough
    return watch.since is not None


async def fall_back(
    context: ControlContext, control: ConfiguredControl, records: list[HoldRecord]
) -> None:
    """Bring a limit to its failsafe value now, and release its other slot."""
    assert control.modality.failsafe is not None
    value, slot = control.modality.failsafe.value, control.slots[0]
    setpoint = setpoint_for(context, control, FAILSAFE, value, (FOREVER, FOREVER), slot)
    record = next((one for one in records if one.slot == slot), None)
    await apply(context, control, record, setpoint, None)
    for other in records:
        if other is not record:
            await over(context, other)

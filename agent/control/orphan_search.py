"""Searching our points, at a start, for a value without a hold record (rule H19).

A value in a slot that the test found free is ours, and is emptied. Any other value is left, with an
alarm.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.control import orphan_values
from agent.control.model import OrderState
from agent.control.records import Outcome, Transaction
from agent.core.errors import LinkLost, Refused, WriteRefused
from agent.core.log_fields import LogEvent, fields

if TYPE_CHECKING:
    from agent.control.configured_control import ConfiguredControl
    from agent.control.context import ControlContext
    from agent.control.point_access import PointAccess
    from agent.core.model import Value

log = logging.getLogger(__name__)


async def search_orphans(context: ControlContext, control: ConfiguredControl) -> bool:
    """Search a control's point. Returns whether it could be read; before that no order begins.

    A value that cannot be shown to be ours is reported at each check, until somebody has dealt with
    it.
    """
    memo, name = context.journal.memo(control.key), control.name
    if memo.swept:
        return True
    # a slot with an open record is not an orphan: its release is under way
    taken = {record.slot for record in context.journal.open_records(control.key)}
    ours = control.slots if control.modality.limits.emergency else control.slots[:1]
    try:
        findings = [
            await _search_slot(context, control, slot)
            for slot in dict.fromkeys((*ours, *memo.free))
            if slot not in taken
        ]
    except (LinkLost, WriteRefused, Refused) as error:
        context.alarms[name] = f"not read since the start, so no order begins: {error}"
        return False
    if strange := "; ".join(finding for finding in findings if finding):
        if context.alarms.get(name) != strange:
            log.error(
                "%s: %s", name, strange,
                extra=fields(LogEvent.VALUE_NOT_OURS, control=name, device=control.place.device),
            )  # fmt: skip
        context.alarms[name] = strange
        return True
    context.journal.memos[control.key] = replace(context.journal.memo(control.key), swept=True)
    context.alarms.pop(name, None)
    return True


async def _search_slot(
    context: ControlContext, control: ConfiguredControl, slot: int | None
) -> str:
    """Search one slot. Returns what a person must attend to; empty: nothing."""
    memo, access = (
        context.journal.memo(control.key),
        context.dependencies.access(control.place, slot),
    )
    if slot is None:
        if memo.tested == control.fingerprint:
            return ""  # the journal goes back to the test, so it would contain a hold
        return _register(control, (await access.look()).ours)
    value = (await access.look()).ours
    if value is None:
        return ""
    where = f"priority {slot} of {control.place.name}"
    if slot not in memo.free:
        return f"{value} stands at {where} without a record of ours: it was left"
    await _empty(access, slot)
    message = f"{value} stood at priority {slot} without an order: it was emptied"
    log.error(
        "%s: %s", control.name, message,
        extra=fields(LogEvent.VALUE_NOT_OURS, control=control.name, device=control.place.device),
    )  # fmt: skip
    outcome = Outcome(
        "", control.name, OrderState.ABORTED, context.dependencies.now().wall, words=message
    )
    await context.dependencies.note(Transaction(outcomes=[outcome]))
    return ""


def _register(control: ConfiguredControl, value: Value | None) -> str:
    if not orphan_values.could_be_ours(control, value):
        return ""
    return (
        f"{value} stands in {control.place.name}, which an order could have set, and the journal"
        f" does not know it: to release it, gardien control release {control.name} --to VALUE"
    )


async def _empty(access: PointAccess, slot: int) -> None:
    await access.write(None)
    left = (await access.look()).ours
    if left is not None:
        raise WriteRefused(f"{left} stands at priority {slot} still")

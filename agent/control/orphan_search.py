"""What stands at a point of ours without a row: looked for at a start, emptied where it is ours by
the record of the test, else left and said (rule H19).
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.control import orphan_values
from agent.control.model import OrderState
from agent.control.records import Outcome, Transaction
from agent.errors import LinkLost, Refused, WriteRefused
from agent.log_fields import LogEvent, fields

if TYPE_CHECKING:
    from agent.control.configured_control import ConfiguredControl
    from agent.control.context import ControlContext
    from agent.control.point_access import PointAccess
    from agent.model import Value

log = logging.getLogger(__name__)


async def sweep(context: ControlContext, control: ConfiguredControl) -> bool:
    """Whether it could be looked at: no order begins at a point before that.

    What is not ours by any record is looked at again at each round, until somebody has dealt with
    it.
    """
    memo, name = context.journal.memo(control.key), control.name
    if memo.swept:
        return True
    taken = {record.slot for record in context.journal.open_records(control.key)}
    ours = control.slots if control.modality.limits.emergency else control.slots[:1]
    try:
        findings = [
            await _slot(context, control, slot)
            for slot in dict.fromkeys((*ours, *memo.free))
            if slot not in taken
        ]
    except (LinkLost, WriteRefused, Refused) as error:
        context.alarms[name] = f"not looked at since the start: {error}"
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


async def _slot(context: ControlContext, control: ConfiguredControl, slot: int | None) -> str:
    """Gives what somebody must look at; empty: nothing."""
    memo, access = (
        context.journal.memo(control.key),
        context.dependencies.access(control.place, slot),
    )
    if slot is None:
        if memo.tested == control.fingerprint:
            return ""  # the journal has been there from the test on: it would know
        return _register(control, (await access.look()).ours)
    value = (await access.look()).ours
    if value is None:
        return ""
    where = f"priority {slot} of {control.place.name}"
    if slot not in memo.free:
        return f"{value} stands at {where}, not by our record: it is left"
    await _empty(access, slot)
    message = f"{value} stood at priority {slot} and nobody knew why: emptied"
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
        f"{value} stands in {control.place.name}, an order could have set it, and the journal knows"
        f" nothing of it: `gardien control release {control.name} --to VALUE` gives back"
    )


async def _empty(access: PointAccess, slot: int) -> None:
    await access.write(None)
    left = (await access.look()).ours
    if left is not None:
        raise WriteRefused(f"{left} stands at priority {slot} still")

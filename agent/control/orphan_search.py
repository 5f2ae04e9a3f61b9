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


async def sweep(ground: ControlContext, fit: ConfiguredControl) -> bool:
    """Whether it could be looked at: no order begins at a point before that.

    What is not ours by any record is looked at again at each round, until somebody has dealt with
    it.
    """
    memo, name = ground.journal.memo(fit.key), fit.name
    if memo.swept:
        return True
    taken = {row.slot for row in ground.journal.open_rows(fit.key)}
    ours = fit.slots if fit.modality.limits.emergency else fit.slots[:1]
    try:
        said = [
            await _slot(ground, fit, slot)
            for slot in dict.fromkeys((*ours, *memo.free))
            if slot not in taken
        ]
    except (LinkLost, WriteRefused, Refused) as error:
        ground.alarms[name] = f"not looked at since the start: {error}"
        return False
    if strange := "; ".join(words for words in said if words):
        if ground.alarms.get(name) != strange:
            log.error(
                "%s: %s", name, strange,
                extra=fields(LogEvent.VALUE_NOT_OURS, control=name, device=fit.place.device),
            )  # fmt: skip
        ground.alarms[name] = strange
        return True
    ground.journal.memos[fit.key] = replace(ground.journal.memo(fit.key), swept=True)
    ground.alarms.pop(name, None)
    return True


async def _slot(ground: ControlContext, fit: ConfiguredControl, slot: int | None) -> str:
    """Gives what somebody must look at; empty: nothing."""
    memo, plug = ground.journal.memo(fit.key), ground.world.plug(fit.place, slot)
    if slot is None:
        if memo.tested == fit.fingerprint:
            return ""  # the journal has been there from the test on: it would know
        return _register(fit, (await plug.look()).ours)
    found = (await plug.look()).ours
    if found is None:
        return ""
    where = f"priority {slot} of {fit.place.name}"
    if slot not in memo.free:
        return f"{found} stands at {where}, not by our record: it is left"
    await _empty(plug, slot)
    words = f"{found} stood at priority {slot} and nobody knew why: emptied"
    log.error(
        "%s: %s", fit.name, words,
        extra=fields(LogEvent.VALUE_NOT_OURS, control=fit.name, device=fit.place.device),
    )  # fmt: skip
    told = Outcome("", fit.name, OrderState.ABORTED, ground.world.now().wall, words=words)
    await ground.world.note(Transaction(outcomes=[told]))
    return ""


def _register(fit: ConfiguredControl, found: Value | None) -> str:
    if not orphan_values.could_be_ours(fit, found):
        return ""
    return (
        f"{found} stands in {fit.place.name}, an order could have set it, and the journal knows"
        f" nothing of it: `gardien control release {fit.name} --to VALUE` gives back"
    )


async def _empty(plug: PointAccess, slot: int) -> None:
    await plug.write(None)
    left = (await plug.look()).ours
    if left is not None:
        raise WriteRefused(f"{left} stands at priority {slot} still")

"""Releasing a register that the journal does not know, to the value that a person names.

Rule H24.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.control import orphan_values
from agent.control.records import Transaction
from agent.control.release_retry import try_release
from agent.core.errors import LinkLost, Refused, SpoolFull, StorageFailed, WriteRefused

if TYPE_CHECKING:
    from decimal import Decimal

    from agent.control.configured_control import ConfiguredControl
    from agent.control.context import ControlContext
    from agent.control.hold_record import HoldRecord


async def hand_back(context: ControlContext, name: str, value: Decimal, reason: str) -> list[str]:
    """Write the value, and read it back until it stands. Returns what is left to do.

    Raises Refused if the journal knows the value from before, or if no order could have set the
    value that stands there now.
    """
    control = context.controls[name]
    if control.slots[0] is not None:
        release = f"`gardien control release {name}`"
        raise Refused(f"{name} has a priority of ours, which a release empties: {release}")
    async with context.lock(name):
        record = await _record(context, control, value, reason)
        try:
            saved = await context.dependencies.save(Transaction(record))
        except (SpoolFull, StorageFailed) as error:
            raise Refused(
                f"nothing was written, as the journal takes no record: {error}"
            ) from error
        assert saved is not None
        context.waits.pop(saved.number, None)  # a person waits: try at once, not when it is due
        await try_release(context, saved)
        context.journal.memos[control.key] = replace(context.journal.memo(control.key), swept=True)
        return [record.alarm for record in context.journal.open_records(control.key)]


async def _record(
    context: ControlContext, control: ConfiguredControl, value: Decimal, reason: str
) -> HoldRecord:
    """The hold record that is committed before anything is written."""
    records = context.journal.open_records(control.key)
    if any(record.jti != orphan_values.HANDED for record in records):
        release = f"`gardien control release {control.name}`"
        raise Refused(f"the journal knows the value of {control.name} from before: {release}")
    if records:
        return replace(records[0], pre=value, restore=value, words=reason)
    if context.journal.memo(control.key).tested == control.fingerprint:
        raise Refused(
            f"{control.name} is released already: the journal goes back to its test, and shows no"
            " hold"
        )
    try:
        standing = await context.dependencies.access(control.place, None).look(whole=True)
    except (LinkLost, WriteRefused) as error:
        raise Refused(f"{control.name}: {error}") from error
    if not orphan_values.could_be_ours(control, standing.ours):
        raise Refused(
            f"{standing.ours} stands there, which no order could have set: it was not changed"
        )
    return orphan_values.handed(control, standing, value, reason, context.dependencies.now())

"""Giving a register of which the journal knows nothing back to what a person says stood there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.control import orphan_values
from agent.control.records import Transaction
from agent.control.release_retry import give_back
from agent.errors import LinkLost, Refused, SpoolFull, StorageFailed, WriteRefused

if TYPE_CHECKING:
    from decimal import Decimal

    from agent.control.configured_control import ConfiguredControl
    from agent.control.context import ControlContext
    from agent.control.hold_record import HoldRecord


async def hand_back(ground: ControlContext, name: str, value: Decimal, words: str) -> list[str]:
    """Gives what is left to do. Raises Refused where the journal knows better, or where it cannot
    be ours.
    """
    fit = ground.fits[name]
    if fit.slots[0] is not None:
        release = f"`gardien control release {name}`"
        raise Refused(f"{name} is given back by emptying our priority: {release}")
    async with ground.lock(name):
        row = await _row(ground, fit, value, words)
        try:
            saved = await ground.world.save(Transaction(row))
        except (SpoolFull, StorageFailed) as error:
            raise Refused(f"it cannot be written down before it is done: {error}") from error
        assert saved is not None
        ground.waits.pop(saved.number, None)
        await give_back(ground, saved)
        ground.journal.memos[fit.key] = replace(ground.journal.memo(fit.key), swept=True)
        return [row.alarm for row in ground.journal.open_rows(fit.key)]


async def _row(
    ground: ControlContext, fit: ConfiguredControl, value: Decimal, words: str
) -> HoldRecord:
    """What is written down before anything is done."""
    rows = ground.journal.open_rows(fit.key)
    if any(row.jti != orphan_values.HANDED for row in rows):
        release = f"`gardien control release {fit.name}`"
        raise Refused(f"the journal knows what stood there before {fit.name}: {release}")
    if rows:
        return replace(rows[0], pre=value, restore=value, words=words)
    if ground.journal.memo(fit.key).tested == fit.fingerprint:
        raise Refused(f"{fit.name} is given back: the journal was there and knows of nothing")
    try:
        standing = await ground.world.plug(fit.place, None).look(whole=True)
    except (LinkLost, WriteRefused) as error:
        raise Refused(f"{fit.name}: {error}") from error
    if not orphan_values.could_be_ours(fit, standing.ours):
        raise Refused(f"no order could have set {standing.ours}, which is there: left")
    return orphan_values.handed(fit, standing, value, words, ground.world.now())

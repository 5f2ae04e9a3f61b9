"""What stands between the building and one recipient: a spool, what fills and empties it."""

from __future__ import annotations

import logging
import math
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from agent.buffer.batch import BatchHead
from agent.buffer.leftover import recipients_of
from agent.buffer.spool import Spool
from agent.buffer.thread import in_own_thread
from agent.errors import Refused
from agent.house import Outlet, midnights, points_by_key, policy_of
from agent.pipeline.bases import Bases
from agent.pipeline.directory import directory
from agent.pipeline.gate import Gate
from agent.pipeline.groups import Groups, file_of
from agent.pipeline.intake import Intake
from agent.pipeline.ledger import Ledger
from agent.pipeline.sums import Sums
from agent.pipeline.totals import Totals
from agent.pipeline.totals import file_of as totals_of
from agent.registry.documents import serial_key
from agent.restored import Way
from agent.state import judged
from agent.uplink.delivery import Delivery
from agent.uplink.outbox import SpoolOutbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from agent.buffer.announced import Item
    from agent.house import House
    from agent.model import Mark, MarkKey, Reading

log = logging.getLogger(__name__)

UNPROVED = "ten minutes are over, and not every platform could say that all has come"


@asynccontextmanager
async def open_outlet(house: House, name: str) -> AsyncIterator[Outlet]:
    """Open one recipient's spool; what intake still holds is committed on leaving."""
    config, who = house.config, house.identity
    if who is None:
        raise Refused("this gateway has no identity yet: run `gardien key new`")
    settings = config.uplinks[name].settings
    head = BatchHead(who.gateway, settings.recipient, config.privacy.policy, house.last_hash)
    path = config.state / f"spool-{settings.recipient}.db"
    before = judged(config.state)
    limits = (config.spool.max, config.spool.reserve)
    opening = partial(Spool.open, path, who.spool_key, head, *limits, judged=before)
    async with in_own_thread(f"spool {name}", opening) as (spool, thread):
        if spool.set_aside:
            log.error("the spool of %s was damaged and set aside as %s", name, spool.set_aside)
        if await thread.run(spool.belongs_to, who.state):
            log.warning("%s: another state than before: a new epoch begins", name)
            house.audit("epoch.begun", {"recipient": settings.recipient, "state": who.state})
        withholds = config.uplinks[name].withheld
        totals = Totals(totals_of(config.state, settings.recipient))
        words = (house.registry, policy_of(config), settings.recipient)
        gate = Gate(*words, withholds=withholds, held=totals.held)
        marks = await thread.run(spool.marks)
        ledger = Ledger(gate, points_by_key(config.points()), marks, config.zone)
        await thread.run(spool.days, midnights(config))

        async def append(rows: Sequence[Reading], marks: Mapping[MarkKey, Mark]) -> None:
            await thread.run(spool.append, rows, marks, house.clock.now())

        bases = Bases(lambda: ledger.gate)
        intake = Intake(append, config.spool.flush, revision=bases.revision, recheck=bases.kept)
        word = config.uplinks[name].transport
        told = await thread.run(spool.announced)
        outbox = SpoolOutbox(spool, thread, house.clock, bases=bases)
        groups = Groups(file_of(config.state, settings.recipient))
        sums = Sums(house.registry, settings.recipient, groups, house.indexes, marks, house.serial)
        outlet = Outlet(
            *(name, settings, word, spool, thread, outbox, ledger, intake, Delivery(), told),
            sums,
            totals,
        )
        outbox.directory = partial(directory_of, house, outlet)
        outbox.ready = partial(listened, house)
        await outbox.catch_up()  # before anything is stored, sealed or sent
        try:
            yield outlet
        finally:
            await intake.commit()


async def account(house: House, outlet: Outlet) -> None:
    """Close the slots that went by while the agent was down, or this recipient had no uplink, in
    one commit with the new marks.

    Where the spool has no room they wait in memory, as all other rows do.
    """
    recipient, now, dated = outlet.settings.recipient, house.clock.now(), house.clock.dates
    if recipient in house.closing:
        return
    if (since := house.closing.removed(recipient)) is not None:
        # while the time is not known, the first dated reading closes them
        outlet.ledger.removed = outlet.sums.removed = since, now if dated else math.inf
    if not dated:
        return
    rows: list[Reading] = outlet.ledger.resume(now)
    await outlet.intake.put(rows, dict(outlet.ledger.marks))
    await outlet.intake.commit()
    house.closing.returned(recipient)


def forget_closed(house: House) -> None:
    """Note since when which recipients have no uplink, and that none of those is being closed."""
    recipients = [one.settings.recipient for one in house.config.uplinks.values()]
    house.closing.only(recipients, recipients_of(house.config.state), house.clock.now())


def ways(house: House) -> dict[str, Way]:
    """How it stands with each recipient's signed objects."""
    return {
        str(one.settings.recipient): Way(one.delivery.complete, one.delivery.connected_since)
        for one in house.outlets.values()
    }


def listened(house: House) -> bool:
    """Whether what was withdrawn since the building file was written has come, if there was one.

    After a restore each uplink has a say before any of them is sent anything.
    """
    found = house.restored
    if found is None or found.made is None:
        return True
    listens, before = found.listens, found.unproved
    try:
        ready = found.judge(ways(house), house.clock.now())
    except Refused as error:
        log.error("after the restore: %s", error)  # noqa: TRY400 -- no bug; it is judged again
        return False
    if listens and ready:
        house.audit("restored.heard", {"unproved": sorted(found.unproved or ())})
    if ready and found.unproved != before:
        log.warning("after the restore: %s", "all has come" if not found.unproved else UNPROVED)
    return ready


def directory_of(house: House, outlet: Outlet) -> Mapping[str, Item]:
    """What its recipient needs to read the rows, as it stands now."""
    found = directory(
        house.registry,
        outlet.ledger.gate.policy,
        outlet.settings.recipient,
        outlet.ledger.owed,
        outlet.told,
        house.config.building.timezone,
        {serial_key(mark.serial) for mark in outlet.ledger.marks.values() if mark.serial},
        house.config.building.name,
        house.sums_asked()[outlet.name].points.keys(),
    )
    return found | outcomes(house, outlet)


def outcomes(house: House, outlet: Outlet) -> dict[str, Item]:
    """What became of orders, and of the objects that a recipient has sent or signed."""
    recipient = outlet.settings.recipient
    found = house.steering.outcomes(recipient) if house.steering else {}
    if house.reception is not None:
        told = house.reception.told
        found |= told.to(outlet.name, recipient, house.mapped)
    return found

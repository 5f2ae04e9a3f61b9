"""What stands between the building and one recipient: a spool, what fills and empties it."""

from __future__ import annotations

import asyncio
import logging
import math
import os
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from agent.buffer.batch import BatchHead
from agent.buffer.memory import CAP, KEPT
from agent.buffer.orphaned_spools import recipients_of, spool_of
from agent.buffer.spool import Spool
from agent.buffer.thread import in_own_thread
from agent.buffer.unassigned_store import UnassignedStore
from agent.errors import Refused, StorageFailed
from agent.gateway import Recipient, midnights, points_by_key, policy_of
from agent.log_fields import LogEvent, LogNames, fields
from agent.pipeline.basis_recheck import RegistryBases
from agent.pipeline.directory import directory
from agent.pipeline.groups import Groups, file_of
from agent.pipeline.ingest import Ingest
from agent.pipeline.row_assignment import RowAssignment
from agent.pipeline.slots import SlotLedger
from agent.pipeline.sums import Sums
from agent.pipeline.totals import Totals
from agent.pipeline.totals import file_of as totals_of
from agent.post_restore_gate import Way
from agent.registry.inputs import NewWithdrawal
from agent.registry.records import serial_key
from agent.registry.retractions import lost_withdrawals
from agent.state import judged
from agent.storage import PROBED_EVERY, SPOOL, made, volatile
from agent.tasks import said
from agent.uplink.delivery_state import Delivery
from agent.uplink.outbox import Draining, SpoolOutbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from agent.buffer.announcements import Item
    from agent.buffer.thread import OneThread
    from agent.clock import Clock
    from agent.gateway import Gateway
    from agent.model import MarkKey, Reading, SlotMark
    from agent.registry.identity import Identity

    Opened = tuple[Spool, OneThread]

log = logging.getLogger(__name__)

NOT_COUNTED = (
    "uplinks.{}: the disk fails, and what waits on it cannot be counted: keep the uplink until the"
    " disk is well (`gardien status`)"
)
UNPROVED = "ten minutes are over, and not every platform could say that all has come"


@asynccontextmanager
async def open_outlet(
    house: Gateway, name: str, before: Recipient | None = None
) -> AsyncIterator[Recipient]:
    """Open one recipient's spool; what intake still holds is committed on leaving.

    `before`: the outlet whose spool was closed because of an error, with what it holds in memory.
    """
    config, who = house.config, house.identity
    if who is None:
        raise Refused("this gateway has no identity yet: run `gardien key new`")
    settings = config.uplinks[name].settings
    beside = memory_of(config.state, settings.recipient)
    names: LogNames = {"uplink": name, "recipient": settings.recipient}
    async with AsyncExitStack() as stack:
        disk = await _on_disk(stack, house, name)
        memory = None
        if disk is None or beside.exists():
            own = await stack.enter_async_context(AsyncExitStack())
            memory = await _in_memory(own, beside, _head(house, settings.recipient, who), who)
            if disk is not None and await _drained(disk, memory):
                memory = None
                await own.aclose()
                for file in beside.parent.glob(f"{beside.name}*"):
                    file.unlink()
        if disk is not None and before is not None and before.kept:
            before = None  # the disk goes on from its own marks
        for spool, thread in filter(None, (disk, memory)):
            if spool.set_aside:
                log.error(
                    "the spool of %s was damaged and set aside as %s", name, spool.set_aside,
                    extra=fields(LogEvent.STORE_DAMAGED, **names),
                )  # fmt: skip
            if await thread.run(spool.belongs_to, who.state):
                log.warning(
                    "uplink %s: another state than before: a new epoch begins", name,
                    extra=fields(LogEvent.EPOCH_BEGUN, **names),
                )  # fmt: skip
                house.audit("epoch.begun", {"recipient": settings.recipient, "state": who.state})
            await thread.run(spool.days, midnights(config))
        outlet = await _opened(house, name, disk, memory, before)
        try:
            yield outlet
        finally:
            try:
                await outlet.intake.commit()
            except Exception as error:  # noqa: BLE001 -- the spool is closed all the same
                why = f"what waits for {name} stays in memory: {said(error)}"
                house.jobs.faults.log(error, why, f"spool {name}")
            await outlet.intake.stalls()  # nobody who reads waits for a spool that is closed


def memory_of(state: Path, recipient: str) -> Path:
    """Where the spool of a recipient lies that is in memory while the disk fails."""
    return volatile(state) / spool_of(state, recipient).name


def _head(house: Gateway, recipient: str, who: Identity) -> BatchHead:
    return BatchHead(who.gateway, recipient, house.config.privacy.policy, house.last_hash)


def spool_opening(house: Gateway, recipient: str) -> Callable[[], AbstractContextManager[Spool]]:
    """How the spool of a recipient on the disk is opened."""
    config, who = house.config, house.identity
    assert who is not None
    head, limits = _head(house, recipient, who), (config.spool.max, config.spool.reserve)
    path, before = spool_of(config.state, recipient), who.spool_key_before
    return partial(
        Spool.open, path, who.spool_key, head, *limits, judged=judged(config.state), before=before
    )


def shelf_opening(
    house: Gateway, file: Path
) -> Callable[[], AbstractContextManager[UnassignedStore]]:
    """How a shelf in the state directory is opened."""
    who = house.identity
    assert who is not None
    before = judged(house.config.state)
    return partial(
        UnassignedStore.open, file, who.spool_key, judged=before, before=who.spool_key_before
    )


def _opening(house: Gateway, name: str) -> AbstractContextManager[Spool]:
    return spool_opening(house, house.config.uplinks[name].settings.recipient)()


async def _on_disk(stack: AsyncExitStack, house: Gateway, name: str) -> Opened | None:
    """The spool on the disk; None: the disk fails, which is noted."""
    store, own = f"{SPOOL}{name}", await stack.enter_async_context(AsyncExitStack())
    try:
        thread, opening = house.disk_thread(store), partial(_opening, house, name)
        disk = await own.enter_async_context(in_own_thread(f"spool {name}", opening, thread))
        await thread.run(disk[0].probe)
    except StorageFailed as error:
        await own.aclose()
        house.storage.failed(store, str(error))
        return None
    house.storage.recovered(store)
    return disk


async def _in_memory(stack: AsyncExitStack, path: Path, head: BatchHead, who: Identity) -> Opened:
    """The spool in memory, begun where there is none; another gateway's goes."""
    made(path.parent)
    head, before = replace(head, kept=KEPT), who.spool_key_before
    opening = partial(Spool.open, path, who.spool_key, head, CAP, before=before)
    try:
        return await stack.enter_async_context(in_own_thread("memory", opening))
    except Refused as error:
        log.error(  # noqa: TRY400 -- no bug
            "what was kept in memory is dropped: %s", error,
            extra=fields(LogEvent.STORE_DAMAGED, recipient=head.recipient),
        )  # fmt: skip
        os.unlink(path)  # noqa: PTH108 -- it is in memory
        return await stack.enter_async_context(in_own_thread("memory", opening))


async def _drained(disk: Opened, memory: Opened) -> bool:
    """Whether nothing waits any more of what was kept in memory; then the disk has the record of
    what was received of it, and its file is closed.
    """
    spool, thread = memory
    if not await thread.run(lambda: spool.backlog().settled):
        return False
    said = await thread.run(lambda: (spool.epoch, spool.disclosures(), spool.erasures()))
    await disk[1].run(disk[0].adopt, *said)
    return True


async def _opened(
    house: Gateway, name: str, disk: Opened | None, memory: Opened | None, before: Recipient | None
) -> Recipient:
    opened = [one for one in (disk, memory) if one is not None]
    spool, thread = opened[0]
    outlet = before or _outlet(house, name, spool, thread, await thread.run(spool.marks))
    outlet.spool, outlet.thread, outlet.in_memory = spool, thread, memory
    outlet.told = await thread.run(spool.announced)
    if disk is not None and memory is not None:
        await thread.run(spool.go_on_after, *await memory[1].run(lambda: memory[0].given))
    outboxes = []
    for one in opened:
        outbox = SpoolOutbox(*one, house.clock, bases=_bases(house, outlet.ledger))
        outbox.directory = partial(directory_of, house, outlet)
        outbox.ready = partial(listened, house)
        outbox.retracted = partial(withdrawn_there, house, outlet.settings.recipient)
        outboxes.append(outbox)
    outlet.outbox = Draining(*outboxes) if len(outboxes) > 1 else outboxes[0]
    await outlet.outbox.catch_up()  # before anything is stored, sealed or sent
    return outlet


async def _tried(house: Gateway, name: str) -> None:
    """Open the spool on the disk and commit something. Raises StorageFailed, Refused."""
    thread = house.disk_thread(f"{SPOOL}{name}")
    async with in_own_thread("", partial(_opening, house, name), thread) as (spool, _):
        await thread.run(spool.probe)


async def turned(house: Gateway, outlet: Recipient) -> None:
    """Return once it is to be opened anew: the disk is well again, or what was kept in memory while
    it failed is delivered.
    """
    while outlet.in_memory is not None:
        await asyncio.sleep(PROBED_EVERY)
        if outlet.kept:
            with suppress(StorageFailed, Refused):
                await _tried(house, outlet.name)
                return
        else:
            spool, thread = outlet.in_memory
            if await thread.run(lambda: spool.backlog().settled):  # noqa: B023 -- awaited at once
                return
    await asyncio.Event().wait()


def _bases(house: Gateway, ledger: SlotLedger) -> RegistryBases:
    return RegistryBases(lambda: ledger.assignment, lambda: ahead(ledger, house.clock))


def _outlet(
    house: Gateway, name: str, spool: Spool, thread: OneThread, marks: Mapping[MarkKey, SlotMark]
) -> Recipient:
    """A recipient's account, and the room in front of its spool; nothing is in them yet."""
    config, uplink = house.config, house.config.uplinks[name]
    recipient = uplink.settings.recipient
    totals = Totals(totals_of(config.state, recipient))
    words = (house.registry, policy_of(config), recipient)
    gate = RowAssignment(*words, withholds=uplink.withheld, held=totals.held)
    ledger = SlotLedger(gate, points_by_key(config.points()), marks, config.zone)
    bases = _bases(house, ledger)

    async def append(rows: Sequence[Reading], marks: Mapping[MarkKey, SlotMark]) -> None:
        await outlet.thread.run(outlet.spool.append, rows, marks, house.clock.now())

    flush = config.spool.flush
    intake = Ingest(append, flush, revision=bases.revision, recheck=bases.kept, uplink=name)
    groups = Groups(file_of(config.state, recipient))
    sums = Sums(house.registry, recipient, groups, house.indexes, marks, house.serial)
    outbox = SpoolOutbox(spool, thread, house.clock, bases=bases)
    facts = (name, uplink.settings, uplink.transport, spool, thread, outbox)
    delivery = Delivery(uplink=name, recipient=recipient)
    outlet = Recipient(*facts, ledger, intake, delivery, {}, sums, totals)
    return outlet


def ahead(ledger: SlotLedger, clock: Clock) -> int:
    """The last slot that is closed, where that lies ahead of the clock, else 0."""
    last = max((mark.slot for mark in ledger.marks.values()), default=0)
    return last if last > clock.now() else 0


async def account(house: Gateway, outlet: Recipient) -> None:
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
    outlet.intake.take(rows, dict(outlet.ledger.marks))  # nobody makes room yet
    await outlet.intake.commit()
    house.closing.returned(recipient)


def forget_closed(house: Gateway) -> None:
    """Note since when which recipients have no uplink, and that none of those is being closed."""
    recipients = [one.settings.recipient for one in house.config.uplinks.values()]
    house.closing.only(recipients, recipients_of(house.config.state), house.clock.now())


def withdrawn_there(house: Gateway, recipient: str, ids: Collection[str]) -> None:
    """Withdraw consents whose withdrawal the recipient knows, and this gateway has lost: it was in
    force, and the power went before the disk had it.
    """
    found = list(lost_withdrawals(house.registry.consents(), recipient, ids))
    if not found:
        return
    told = ", ".join(one.id for one, _ in found)
    log.warning(
        "%s knows of the withdrawal of %s", recipient, told,
        extra=fields(LogEvent.WITHDRAWAL_RECOVERED, recipient=recipient),
    )  # fmt: skip
    whole = {one.occupancy for one, channels in found if not channels}
    rows = [NewWithdrawal(occupancy=home, recipient=recipient) for home in sorted(whole)]
    rows += [
        NewWithdrawal(id=one.id, channels=channels)
        for one, channels in found
        if one.occupancy not in whole
    ]
    try:
        house.registry.withdraw(rows, recipient, "receipt", house.clock.now())
    except Refused as error:
        log.error(  # noqa: TRY400 -- no bug
            "a withdrawal that %s knows of: %s", recipient, error,
            extra=fields(LogEvent.RECORD_NOT_WRITTEN, recipient=recipient),
        )  # fmt: skip


def ways(house: Gateway) -> dict[str, Way]:
    """How it stands with each recipient's signed objects."""
    return {
        str(one.settings.recipient): Way(one.delivery.complete, one.delivery.connected_since)
        for one in house.outlets.values()
    }


def listened(house: Gateway) -> bool:
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
        log.error(  # noqa: TRY400 -- no bug; it is judged again
            "after the restore: %s", error, extra=fields(LogEvent.RECORD_NOT_WRITTEN)
        )
        return False
    if listens and ready:
        house.audit("restored.heard", {"unproved": sorted(found.unproved or ())})
    if ready and found.unproved != before:
        log.warning(
            "after the restore: %s", "all has come" if not found.unproved else UNPROVED,
            extra=fields(LogEvent.RESTORE_CHECKED),
        )  # fmt: skip
    return ready


def directory_of(house: Gateway, outlet: Recipient) -> Mapping[str, Item]:
    """What its recipient needs to read the rows, as it stands now."""
    found = directory(
        house.registry,
        outlet.ledger.assignment.policy,
        outlet.settings.recipient,
        outlet.ledger.owed,
        outlet.told,
        house.config.building.timezone,
        {serial_key(mark.serial) for mark in outlet.ledger.marks.values() if mark.serial},
        house.config.building.name,
        house.sums_asked()[outlet.name].points.keys(),
    )
    return found | outcomes(house, outlet)


def outcomes(house: Gateway, outlet: Recipient) -> dict[str, Item]:
    """What became of orders, and of the objects that a recipient has sent or signed."""
    recipient = outlet.settings.recipient
    found = house.steering.outcomes(recipient) if house.steering else {}
    if house.reception is not None:
        told = house.reception.object_status
        found |= told.to(outlet.name, recipient, house.mapped)
    return found

"""One recipient at work: its spool, what fills it, and what empties it."""

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
from agent.tasks import error_text
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
    "uplinks.{}: the disk fails, so the waiting values cannot be counted. Keep the uplink until the"
    " disk works again. State of the disk: gardien status"
)
UNPROVED = "sending begins after ten minutes, but not every platform confirmed that it sent all objects"


@asynccontextmanager
async def open_recipient(
    gateway: Gateway, name: str, before: Recipient | None = None
) -> AsyncIterator[Recipient]:
    """Open one recipient's spool; what intake still holds is committed on leaving.

    `before`: the outlet whose spool was closed because of an error, with what it holds in memory.
    """
    config, who = gateway.config, gateway.identity
    if who is None:
        raise Refused("this gateway has no identity yet: run `gardien key new`")
    settings = config.uplinks[name].settings
    memory_file = memory_of(config.state, settings.recipient)
    names: LogNames = {"uplink": name, "recipient": settings.recipient}
    async with AsyncExitStack() as stack:
        disk = await _open_on_disk(stack, gateway, name)
        memory = None
        if disk is None or memory_file.exists():
            own = await stack.enter_async_context(AsyncExitStack())
            memory = await _open_in_memory(
                own, memory_file, _head(gateway, settings.recipient, who), who
            )
            if disk is not None and await _drained(disk, memory):
                memory = None
                await own.aclose()
                for file in memory_file.parent.glob(f"{memory_file.name}*"):
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
                gateway.audit("epoch.begun", {"recipient": settings.recipient, "state": who.state})
            await thread.run(spool.days, midnights(config))
        recipient = await _connect(gateway, name, disk, memory, before)
        try:
            yield recipient
        finally:
            try:
                await recipient.intake.commit()
            except Exception as error:  # noqa: BLE001 -- the spool is closed all the same
                why = f"what waits for {name} stays in memory: {error_text(error)}"
                gateway.jobs.faults.log(error, why, f"spool {name}")
            await recipient.intake.stalls()  # nobody who reads waits for a spool that is closed


def memory_of(state: Path, recipient: str) -> Path:
    """Where the spool of a recipient lies that is in memory while the disk fails."""
    return volatile(state) / spool_of(state, recipient).name


def _head(gateway: Gateway, recipient: str, who: Identity) -> BatchHead:
    return BatchHead(who.gateway, recipient, gateway.config.privacy.policy, gateway.last_hash)


def spool_opening(gateway: Gateway, recipient: str) -> Callable[[], AbstractContextManager[Spool]]:
    """How the spool of a recipient on the disk is opened."""
    config, who = gateway.config, gateway.identity
    assert who is not None
    head, limits = _head(gateway, recipient, who), (config.spool.max, config.spool.reserve)
    path, before = spool_of(config.state, recipient), who.spool_key_before
    return partial(
        Spool.open, path, who.spool_key, head, *limits, judged=judged(config.state), before=before
    )


def store_opening(
    gateway: Gateway, file: Path
) -> Callable[[], AbstractContextManager[UnassignedStore]]:
    """How a shelf in the state directory is opened."""
    who = gateway.identity
    assert who is not None
    before = judged(gateway.config.state)
    return partial(
        UnassignedStore.open, file, who.spool_key, judged=before, before=who.spool_key_before
    )


def _opening(gateway: Gateway, name: str) -> AbstractContextManager[Spool]:
    return spool_opening(gateway, gateway.config.uplinks[name].settings.recipient)()


async def _open_on_disk(stack: AsyncExitStack, gateway: Gateway, name: str) -> Opened | None:
    """The spool on the disk; None: the disk fails, which is noted."""
    store, own = f"{SPOOL}{name}", await stack.enter_async_context(AsyncExitStack())
    try:
        thread, opening = gateway.disk_thread(store), partial(_opening, gateway, name)
        disk = await own.enter_async_context(in_own_thread(f"spool {name}", opening, thread))
        await thread.run(disk[0].probe)
    except StorageFailed as error:
        await own.aclose()
        gateway.storage.failed(store, str(error))
        return None
    gateway.storage.recovered(store)
    return disk


async def _open_in_memory(
    stack: AsyncExitStack, path: Path, head: BatchHead, who: Identity
) -> Opened:
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
    record = await thread.run(lambda: (spool.epoch, spool.disclosures(), spool.erasures()))
    await disk[1].run(disk[0].adopt, *record)
    return True


async def _connect(
    gateway: Gateway,
    name: str,
    disk: Opened | None,
    memory: Opened | None,
    before: Recipient | None,
) -> Recipient:
    opened = [one for one in (disk, memory) if one is not None]
    spool, thread = opened[0]
    recipient = before or _new_recipient(
        gateway, name, spool, thread, await thread.run(spool.marks)
    )
    recipient.spool, recipient.thread, recipient.in_memory = spool, thread, memory
    recipient.announced = await thread.run(spool.announced)
    if disk is not None and memory is not None:
        await thread.run(spool.go_on_after, *await memory[1].run(lambda: memory[0].given))
    outboxes = []
    for pair in opened:
        outbox = SpoolOutbox(*pair, gateway.clock, bases=_bases(gateway, recipient.ledger))
        outbox.directory = partial(directory_of, gateway, recipient)
        outbox.ready = partial(may_seal, gateway)
        outbox.retracted = partial(recover_withdrawals, gateway, recipient.settings.recipient)
        outboxes.append(outbox)
    recipient.outbox = Draining(*outboxes) if len(outboxes) > 1 else outboxes[0]
    await recipient.outbox.catch_up()  # before anything is stored, sealed or sent
    return recipient


async def _probe_disk(gateway: Gateway, name: str) -> None:
    """Open the spool on the disk and commit something. Raises StorageFailed, Refused."""
    thread = gateway.disk_thread(f"{SPOOL}{name}")
    async with in_own_thread("", partial(_opening, gateway, name), thread) as (spool, _):
        await thread.run(spool.probe)


async def wait_for_disk(gateway: Gateway, recipient: Recipient) -> None:
    """Return once it is to be opened anew: the disk is well again, or what was kept in memory while
    it failed is delivered.
    """
    while recipient.in_memory is not None:
        await asyncio.sleep(PROBED_EVERY)
        if recipient.kept:
            with suppress(StorageFailed, Refused):
                await _probe_disk(gateway, recipient.name)
                return
        else:
            spool, thread = recipient.in_memory
            if await thread.run(lambda: spool.backlog().settled):  # noqa: B023 -- awaited at once
                return
    await asyncio.Event().wait()


def _bases(gateway: Gateway, ledger: SlotLedger) -> RegistryBases:
    return RegistryBases(lambda: ledger.gate, lambda: ahead(ledger, gateway.clock))


def _new_recipient(
    gateway: Gateway, name: str, spool: Spool, thread: OneThread, marks: Mapping[MarkKey, SlotMark]
) -> Recipient:
    """A recipient's account, and the room in front of its spool; nothing is in them yet."""
    config, uplink = gateway.config, gateway.config.uplinks[name]
    recipient_id = uplink.settings.recipient
    totals = Totals(totals_of(config.state, recipient_id))
    terms = (gateway.registry, policy_of(config), recipient_id)
    assignment = RowAssignment(*terms, withholds=uplink.withheld, held=totals.held)
    ledger = SlotLedger(assignment, points_by_key(config.points()), marks, config.zone)
    bases = _bases(gateway, ledger)

    async def append(rows: Sequence[Reading], marks: Mapping[MarkKey, SlotMark]) -> None:
        await recipient.thread.run(recipient.spool.append, rows, marks, gateway.clock.now())

    flush = config.spool.flush
    intake = Ingest(append, flush, revision=bases.revision, recheck=bases.kept, uplink=name)
    groups = Groups(file_of(config.state, recipient_id))
    sums = Sums(gateway.registry, recipient_id, groups, gateway.indexes, marks, gateway.serial)
    outbox = SpoolOutbox(spool, thread, gateway.clock, bases=bases)
    facts = (name, uplink.settings, uplink.transport, spool, thread, outbox)
    delivery = Delivery(uplink=name, recipient=recipient_id)
    recipient = Recipient(*facts, ledger, intake, delivery, {}, sums, totals)
    return recipient


def ahead(ledger: SlotLedger, clock: Clock) -> int:
    """The last slot that is closed, where that lies ahead of the clock, else 0."""
    last = max((mark.slot for mark in ledger.marks.values()), default=0)
    return last if last > clock.now() else 0


async def close_passed_slots(gateway: Gateway, recipient: Recipient) -> None:
    """Close the slots that went by while the agent was down, or this recipient had no uplink, in
    one commit with the new marks.

    Where the spool has no room they wait in memory, as all other rows do.
    """
    recipient_id, now, dated = (
        recipient.settings.recipient,
        gateway.clock.now(),
        gateway.clock.dates,
    )
    if recipient_id in gateway.closing:
        return
    if (since := gateway.closing.removed(recipient_id)) is not None:
        # while the time is not known, the first dated reading closes them
        recipient.ledger.removed = recipient.sums.removed = since, now if dated else math.inf
    if not dated:
        return
    rows: list[Reading] = recipient.ledger.resume(now)
    recipient.intake.take(rows, dict(recipient.ledger.marks))  # nobody makes room yet
    await recipient.intake.commit()
    gateway.closing.returned(recipient_id)


def forget_closed(gateway: Gateway) -> None:
    """Note since when which recipients have no uplink, and that none of those is being closed."""
    recipients = [one.settings.recipient for one in gateway.config.uplinks.values()]
    gateway.closing.only(recipients, recipients_of(gateway.config.state), gateway.clock.now())


def recover_withdrawals(gateway: Gateway, recipient: str, ids: Collection[str]) -> None:
    """Withdraw consents whose withdrawal the recipient knows, and this gateway has lost: it was in
    force, and the power went before the disk had it.
    """
    lost = list(lost_withdrawals(gateway.registry.consents(), recipient, ids))
    if not lost:
        return
    ids_text = ", ".join(one.id for one, _ in lost)
    log.warning(
        "%s knows of the withdrawal of %s", recipient, ids_text,
        extra=fields(LogEvent.WITHDRAWAL_RECOVERED, recipient=recipient),
    )  # fmt: skip
    occupancies = {one.occupancy for one, channels in lost if not channels}
    rows = [NewWithdrawal(occupancy=home, recipient=recipient) for home in sorted(occupancies)]
    rows += [
        NewWithdrawal(id=one.id, channels=channels)
        for one, channels in lost
        if one.occupancy not in occupancies
    ]
    try:
        gateway.registry.withdraw(rows, recipient, "receipt", gateway.clock.now())
    except Refused as error:
        log.error(  # noqa: TRY400 -- no bug
            "a withdrawal that %s knows of: %s", recipient, error,
            extra=fields(LogEvent.RECORD_NOT_WRITTEN, recipient=recipient),
        )  # fmt: skip


def uplink_states(gateway: Gateway) -> dict[str, Way]:
    """How it stands with each recipient's signed objects."""
    return {
        str(one.settings.recipient): Way(one.delivery.complete, one.delivery.connected_since)
        for one in gateway.outlets.values()
    }


def may_seal(gateway: Gateway) -> bool:
    """Whether what was withdrawn since the building file was written has come, if there was one.

    After a restore each uplink has a say before any of them is sent anything.
    """
    gate = gateway.restored
    if gate is None or gate.made is None:
        return True
    listens, before = gate.listens, gate.unproved
    try:
        ready = gate.judge(uplink_states(gateway), gateway.clock.now())
    except Refused as error:
        log.error(  # noqa: TRY400 -- no bug; it is judged again
            "after the restore: %s", error, extra=fields(LogEvent.RECORD_NOT_WRITTEN)
        )
        return False
    if listens and ready:
        gateway.audit("restored.heard", {"unproved": sorted(gate.unproved or ())})
    if ready and gate.unproved != before:
        log.warning(
            "after the restore: %s", "all has come" if not gate.unproved else UNPROVED,
            extra=fields(LogEvent.RESTORE_CHECKED),
        )  # fmt: skip
    return ready


def directory_of(gateway: Gateway, recipient: Recipient) -> Mapping[str, Item]:
    """What its recipient needs to read the rows, as it stands now."""
    items = directory(
        gateway.registry,
        recipient.ledger.gate.policy,
        recipient.settings.recipient,
        recipient.ledger.owed,
        recipient.announced,
        gateway.config.building.timezone,
        {serial_key(mark.serial) for mark in recipient.ledger.marks.values() if mark.serial},
        gateway.config.building.name,
        gateway.sums_asked()[recipient.name].points.keys(),
    )
    return items | outcomes(gateway, recipient)


def outcomes(gateway: Gateway, recipient: Recipient) -> dict[str, Item]:
    """What became of orders, and of the objects that a recipient has sent or signed."""
    recipient_id = recipient.settings.recipient
    items = gateway.steering.outcomes(recipient_id) if gateway.steering else {}
    if gateway.reception is not None:
        status = gateway.reception.told
        items |= status.to(recipient.name, recipient_id, gateway.mapped)
    return items

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

from agent.acquisition.directory import directory
from agent.acquisition.ingest import Ingest
from agent.acquisition.row_assignment import RegistryBases, RowAssignment
from agent.acquisition.slots import SlotLedger
from agent.acquisition.sums import Groups, Sums, Totals, groups_file
from agent.acquisition.sums import totals_file as totals_of
from agent.buffer.batch import BatchHead
from agent.buffer.database import in_own_thread
from agent.buffer.orphaned_spools import recipients_of, spool_of
from agent.buffer.spool import CAP, KEPT, Spool
from agent.buffer.unassigned_store import UnassignedStore
from agent.core.errors import Refused, StorageFailed
from agent.core.log_fields import LogEvent, LogNames, fields
from agent.core.state import on_trial
from agent.core.storage import PROBED_EVERY, SPOOL, made, volatile
from agent.core.tasks import error_text
from agent.gateway.gateway import Recipient, midnights, points_by_key, policy_of
from agent.gateway.post_restore_gate import Way
from agent.registry.inputs import NewWithdrawal
from agent.registry.records import serial_key
from agent.registry.retractions import lost_withdrawals
from agent.uplink.outbox import Draining, SpoolOutbox
from agent.uplink.pacing import Delivery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from agent.buffer.announcements import Item
    from agent.buffer.database import OneThread
    from agent.core.clock import Clock
    from agent.core.model import MarkKey, Reading, SlotMark
    from agent.gateway.gateway import Gateway
    from agent.registry.identity import Identity

    Opened = tuple[Spool, OneThread]

log = logging.getLogger(__name__)

NOT_COUNTED = (
    "uplinks.{}: the disk fails, so the waiting values cannot be counted. Keep the uplink until the"
    " disk works again. State of the disk: gardien status"
)
UNPROVED = "sending begins after ten minutes; not every platform confirmed that all objects came"


@asynccontextmanager
async def open_recipient(
    gateway: Gateway, name: str, before: Recipient | None = None
) -> AsyncIterator[Recipient]:
    """Open the spool of one recipient. On leaving, rows in memory are committed.

    If the disk fails, a spool in memory is opened in its place. `before`: the recipient whose spool
    an error has closed; its rows in memory are kept. Raises Refused.
    """
    config, who = gateway.config, gateway.identity
    if who is None:
        raise Refused("this gateway has no identity yet. Create it: gardien key new")
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
            # The rows of the spool in memory are in its own file. The spool on the disk goes on
            # from its own marks; the marks in memory would skip slots that it never stored.
            before = None
        for spool, thread in filter(None, (disk, memory)):
            if spool.set_aside:
                log.error(
                    "the spool of %s was damaged; it was renamed to %s and a new one begun",
                    name, spool.set_aside,
                    extra=fields(LogEvent.STORE_DAMAGED, **names),
                )  # fmt: skip
            if await thread.run(spool.belongs_to, who.state):
                log.warning(
                    "uplink %s: the state is not the one before, so a new epoch begins", name,
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
                why = f"rows for {name} could not be stored and stay in memory: {error_text(error)}"
                gateway.jobs.faults.log(error, why, f"spool {name}")
            await recipient.intake.stalls()  # so that no poller waits for a closed spool


def memory_of(state: Path, recipient: str) -> Path:
    """Return the path of a recipient's spool in memory, which is used while the disk fails."""
    return volatile(state) / spool_of(state, recipient).name


def _head(gateway: Gateway, recipient: str, who: Identity) -> BatchHead:
    return BatchHead(who.gateway, recipient, gateway.config.privacy.policy, gateway.last_hash)


def spool_opening(gateway: Gateway, recipient: str) -> Callable[[], AbstractContextManager[Spool]]:
    """Return how the spool of a recipient on the disk is opened. Needs an identity."""
    config, who = gateway.config, gateway.identity
    assert who is not None
    head, limits = _head(gateway, recipient, who), (config.spool.max, config.spool.reserve)
    path, before = spool_of(config.state, recipient), who.spool_key_before
    return partial(
        Spool.open,
        path,
        who.spool_key,
        head,
        *limits,
        on_trial=on_trial(config.state),
        before=before,
    )


def store_opening(
    gateway: Gateway, file: Path
) -> Callable[[], AbstractContextManager[UnassignedStore]]:
    """Return how a store of unassigned or midnight readings is opened. Needs an identity."""
    who = gateway.identity
    assert who is not None
    before = on_trial(gateway.config.state)
    return partial(
        UnassignedStore.open, file, who.spool_key, on_trial=before, before=who.spool_key_before
    )


def _opening(gateway: Gateway, name: str) -> AbstractContextManager[Spool]:
    return spool_opening(gateway, gateway.config.uplinks[name].settings.recipient)()


async def _open_on_disk(stack: AsyncExitStack, gateway: Gateway, name: str) -> Opened | None:
    """Open the spool on the disk; if the disk fails, note the fault and return None."""
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
    """Open the spool in memory, or create it. One that belongs to another gateway is dropped."""
    made(path.parent)
    head, before = replace(head, kept=KEPT), who.spool_key_before
    opening = partial(Spool.open, path, who.spool_key, head, CAP, before=before)
    try:
        return await stack.enter_async_context(in_own_thread("memory", opening))
    except Refused as error:
        log.error(  # noqa: TRY400 -- no bug
            "the spool in memory cannot be used and is dropped: %s", error,
            extra=fields(LogEvent.STORE_DAMAGED, recipient=head.recipient),
        )  # fmt: skip
        os.unlink(path)  # noqa: PTH108 -- tmpfs: nothing to sync
        return await stack.enter_async_context(in_own_thread("memory", opening))


async def _drained(disk: Opened, memory: Opened) -> bool:
    """Whether all rows of the spool in memory are delivered.

    If so, the spool on the disk has taken over the records of what the recipient received.
    """
    spool, thread = memory
    if not await thread.run(lambda: spool.backlog().settled):
        return False
    # Without the records, the letter would not say what was delivered while the disk failed.
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
        # Both spools give versions to rows. The spool on the disk must go on above those that the
        # one in memory has given, or the platform would ignore its rows.
        await thread.run(spool.go_on_after, *await memory[1].run(lambda: memory[0].given))
    outboxes = []
    for pair in opened:
        outbox = SpoolOutbox(*pair, gateway.clock, bases=_bases(gateway, recipient.ledger))
        outbox.directory = partial(directory_of, gateway, recipient)
        outbox.ready = partial(may_seal, gateway)
        outbox.retracted = partial(recover_withdrawals, gateway, recipient.settings.recipient)
        outboxes.append(outbox)
    recipient.outbox = Draining(*outboxes) if len(outboxes) > 1 else outboxes[0]
    # Retractions made while the spool was closed come before rows are stored, sealed or sent.
    await recipient.outbox.catch_up()
    return recipient


async def _probe_disk(gateway: Gateway, name: str) -> None:
    """Test the spool on the disk with a commit. Raises StorageFailed, Refused."""
    thread = gateway.disk_thread(f"{SPOOL}{name}")
    async with in_own_thread("", partial(_opening, gateway, name), thread) as (spool, _):
        await thread.run(spool.probe)


async def wait_for_disk(gateway: Gateway, recipient: Recipient) -> None:
    """Return when the spool must be opened again; wait for ever if there is no spool in memory.

    That is when the disk works again, or when all rows of the spool in memory are delivered.
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
    return RegistryBases(lambda: ledger.assignment, lambda: ahead(ledger, gateway.clock))


def _new_recipient(
    gateway: Gateway, name: str, spool: Spool, thread: OneThread, marks: Mapping[MarkKey, SlotMark]
) -> Recipient:
    """Make a recipient with its slot ledger and ingest, both empty."""
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
    groups = Groups(groups_file(config.state, recipient_id))
    sums = Sums(gateway.registry, recipient_id, groups, gateway.indexes, marks, gateway.serial)
    outbox = SpoolOutbox(spool, thread, gateway.clock, bases=bases)
    facts = (name, uplink.settings, uplink.transport, spool, thread, outbox)
    delivery = Delivery(uplink=name, recipient=recipient_id)
    recipient = Recipient(*facts, ledger, intake, delivery, {}, sums, totals)
    return recipient


def ahead(ledger: SlotLedger, clock: Clock) -> int:
    """Return the last closed slot if it lies in the future of the clock; else 0."""
    last = max((mark.slot for mark in ledger.marks.values()), default=0)
    return last if last > clock.now() else 0


async def close_passed_slots(gateway: Gateway, recipient: Recipient) -> None:
    """Close the slots that passed while the agent was down or the recipient had no uplink.

    Rows and marks are stored in one commit. If the spool is full, they wait in memory as all rows.
    """
    recipient_id, now, dated = (
        recipient.settings.recipient,
        gateway.clock.now(),
        gateway.clock.dates,
    )
    if recipient_id in gateway.closing:
        return
    if (since := gateway.closing.removed(recipient_id)) is not None:
        # Without a trusted clock the end of that time is unknown: the first dated reading ends it.
        recipient.ledger.removed = recipient.sums.removed = since, now if dated else math.inf
    if not dated:
        return
    rows: list[Reading] = recipient.ledger.resume(now)
    # `take` does not wait for space, since no task commits yet.
    recipient.intake.take(rows, dict(recipient.ledger.marks))
    await recipient.intake.commit()
    gateway.closing.returned(recipient_id)


def forget_closed(gateway: Gateway) -> None:
    """Note since when recipients have no uplink. Those are no longer being closed either."""
    recipients = [one.settings.recipient for one in gateway.config.uplinks.values()]
    gateway.closing.only(recipients, recipients_of(gateway.config.state), gateway.clock.now())


def recover_withdrawals(gateway: Gateway, recipient: str, ids: Collection[str]) -> None:
    """Withdraw again the consents whose withdrawal this gateway has lost and the recipient knows.

    That happens if the power fails while a withdrawal is in force but not yet on the disk (rule
    D12).
    """
    lost = list(lost_withdrawals(gateway.registry.consents(), recipient, ids))
    if not lost:
        return
    ids_text = ", ".join(one.id for one, _ in lost)
    log.warning(
        "%s confirms a withdrawal that was lost here; %s is withdrawn again", recipient, ids_text,
        extra=fields(LogEvent.WITHDRAWAL_RECOVERED, recipient=recipient),
    )  # fmt: skip
    # Whole consents go by occupancy: one withdrawal then covers all that the recipient had there.
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
            "a lost withdrawal that %s confirms could not be recorded: %s", recipient, error,
            extra=fields(LogEvent.RECORD_NOT_WRITTEN, recipient=recipient),
        )  # fmt: skip


def uplink_states(gateway: Gateway) -> dict[str, Way]:
    """Return for each recipient whether all its signed objects have arrived."""
    return {
        str(one.settings.recipient): Way(one.delivery.complete, one.delivery.connected_since)
        for one in gateway.recipients.values()
    }


def may_seal(gateway: Gateway) -> bool:
    """Whether anything may be sealed: after a restore, not before all withdrawals have arrived.

    The answer is one for all uplinks: a withdrawal may arrive over any of them (rule T9).
    """
    gate = gateway.restored
    if gate is None or gate.made is None:
        return True
    listens, before = gate.listens, gate.unproved
    try:
        ready = gate.judge(uplink_states(gateway), gateway.clock.now())
    except Refused as error:
        log.error(  # noqa: TRY400 -- no bug; it is decided again
            "after the restore: %s", error, extra=fields(LogEvent.RECORD_NOT_WRITTEN)
        )
        return False
    if listens and ready:
        gateway.audit("restored.heard", {"unproved": sorted(gate.unproved or ())})
    if ready and gate.unproved != before:
        log.warning(
            "after the restore: %s", UNPROVED if gate.unproved else "all objects have arrived",
            extra=fields(LogEvent.RESTORE_CHECKED),
        )  # fmt: skip
    return ready


def directory_of(gateway: Gateway, recipient: Recipient) -> Mapping[str, Item]:
    """Return the directory of a recipient as it is now, with the outcomes of orders."""
    items = directory(
        gateway.registry,
        recipient.ledger.assignment.policy,
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
    """Return the outcomes of orders, and of the objects that a recipient has sent or signed."""
    recipient_id = recipient.settings.recipient
    items = gateway.steering.outcomes(recipient_id) if gateway.steering else {}
    if gateway.inbox is not None:
        status = gateway.inbox.object_status
        items |= status.to(recipient.name, recipient_id, gateway.mapped)
    return items

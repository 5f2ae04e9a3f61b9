"""One recipient at work: its spool, what fills it, and what empties it.

The stores of readings that no slot takes yet are filled here too.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
from asyncio import sleep
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from agent.acquisition.directory import directory, end_series, first_slots, series_items
from agent.acquisition.factors import needed
from agent.acquisition.ingest import Ingest
from agent.acquisition.row_assignment import ExpectedSeries, RegistryBases, RowAssignment
from agent.acquisition.slots import SlotLedger
from agent.acquisition.sums import Groups, Sums, Totals, groups_file
from agent.acquisition.sums import totals_file as totals_of
from agent.acquisition.unsent_readings import MidnightReadings, UnassignedReadings
from agent.buffer.batch import BatchHead
from agent.buffer.database import in_own_thread
from agent.buffer.orphaned_spools import recipients_of, spool_of
from agent.buffer.spool import CAP, KEPT, Spool
from agent.buffer.unassigned_store import UnassignedStore
from agent.core.clock import monotonic, stamp
from agent.core.errors import Refused, SpoolFull, StorageFailed
from agent.core.log_fields import LogEvent, LogNames, fields
from agent.core.state import on_trial
from agent.core.storage import PROBED_EVERY, SPOOL, made, volatile
from agent.core.tasks import LOOK, Wakeup, error_text, to_next, together
from agent.gateway.backup import Way
from agent.gateway.gateway import Recipient, midnights, point_of, points_by_key, policy_of
from agent.registry.consent_policy import LONGEST_UNSENT
from agent.registry.identity import why_absent
from agent.registry.inputs import NewWithdrawal
from agent.registry.records import serial_key
from agent.registry.retractions import lost_withdrawals
from agent.trust.claims import RECIPIENT
from agent.trust.verify import must_be_signed
from agent.uplink.outbox import Draining, SpoolOutbox
from agent.uplink.pacing import Delivery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from agent.buffer.announcements import Item
    from agent.buffer.database import OneThread
    from agent.config import Config
    from agent.core.clock import Clock
    from agent.core.model import MarkKey, Reading, SlotMark
    from agent.gateway.gateway import Gateway, Recipients
    from agent.inbox.setup import AuditNotes
    from agent.registry.identity import Identity
    from agent.registry.registry import Registry

log = logging.getLogger(__name__)

NOT_COUNTED = (
    "uplinks.{}: the disk fails, so the waiting values cannot be counted. Keep the uplink until the"
    " disk works again. State of the disk: gardien status"
)
TEND_EVERY = 1500.0
"""seconds between two rounds of upkeep. Rows are under the gateway's own key for two at most"""
TOGETHER = 1.0
"""seconds for which the sums wait for the next index: those of a slot come one after the other"""
UNPROVED = "sending begins after ten minutes; not every platform confirmed that all objects came"
SHELVE_EVERY = 300.0
"""seconds that unassigned readings stay in memory before they are stored"""


if TYPE_CHECKING:
    Opened = tuple[Spool, OneThread]


@asynccontextmanager
async def open_recipient(
    gateway: Gateway, name: str, before: Recipient | None = None
) -> AsyncIterator[Recipient]:
    """Open the spool of one recipient. On leaving, rows in memory are committed.

    If the disk fails, or the registry allows nothing at present (rule A8), a spool in memory is
    opened in its place. `before`: the recipient whose spool an error has closed; its rows in memory
    are kept. Raises Refused.
    """
    config, who = gateway.config, gateway.identity
    if not who:
        raise Refused(why_absent(who))
    settings = config.uplinks[name].settings
    names: LogNames = {"uplink": name, "recipient": settings.recipient}
    async with AsyncExitStack() as stack:
        disk = await _open_on_disk(stack, gateway, name)
        memory, in_memory = await _open_beside(stack, gateway, name, disk, before)
        if disk is not None and before is not None and before.kept:
            # The rows of the spool in memory are in its own file. The spool on the disk goes on
            # from its own marks; the marks in memory would skip slots that it never stored.
            in_memory |= before.ledger.marks
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
        if before is None and disk is not None:
            begun = first_slots(await memory[1].run(memory[0].announced) if memory else {})
            recipient.ledger.closed_in_memory(in_memory, begun)
        try:
            yield recipient
        finally:
            try:
                await recipient.intake.commit()
            except Exception as error:  # noqa: BLE001 -- the spool is closed all the same
                why = f"rows for {name} could not be stored and stay in memory: {error_text(error)}"
                gateway.jobs.faults.log(error, why, f"spool {name}")
            if disk is not None and memory is not None:
                with suppress(StorageFailed):  # then the spool in memory still has it
                    await _take_record(disk, memory)
            await recipient.intake.stalls()  # so that no poller waits for a closed spool


def memory_of(state: Path, recipient: str) -> Path:
    """Return the path of a recipient's spool in memory, which is used while the disk fails."""
    return volatile(state) / spool_of(state, recipient).name


def _head(config: Config, who: Identity, audit: AuditNotes, recipient: str) -> BatchHead:
    return BatchHead(who.gateway, recipient, config.privacy.policy, lambda: audit.chain.last)


def spool_opening(
    config: Config, who: Identity, audit: AuditNotes, recipient: str
) -> Callable[[], AbstractContextManager[Spool]]:
    """Return how the spool of a recipient on the disk is opened. Needs an identity."""
    return partial(
        Spool.open,
        spool_of(config.state, recipient),
        who.spool_key,
        _head(config, who, audit, recipient),
        config.spool.max,
        config.spool.reserve,
        on_trial=on_trial(config.state),
        before=who.spool_key_before,
    )


def store_opening(
    who: Identity, file: Path
) -> Callable[[], AbstractContextManager[UnassignedStore]]:
    """Return how a store of unassigned or midnight readings is opened. Needs an identity."""
    before, trial = who.spool_key_before, on_trial(file.parent)
    return partial(UnassignedStore.open, file, who.spool_key, on_trial=trial, before=before)


def _opening(gateway: Gateway, name: str) -> AbstractContextManager[Spool]:
    config, recipient = gateway.config, gateway.config.uplinks[name].settings.recipient
    return spool_opening(config, gateway.identity, gateway.audit, recipient)()


async def _open_on_disk(stack: AsyncExitStack, gateway: Gateway, name: str) -> Opened | None:
    """Open the spool on the disk; if the disk fails, note the fault and return None."""
    if gateway.registry.mute:  # its slots would be closed without the rows of dwellings
        return None
    store, own = f"{SPOOL}{name}", await stack.enter_async_context(AsyncExitStack())
    state_disk, opening = gateway.disk, partial(_opening, gateway, name)
    try:
        thread = state_disk.thread(store)
        disk = await own.enter_async_context(in_own_thread(f"spool {name}", opening, thread))
        await thread.run(disk[0].probe)
    except StorageFailed as error:
        await own.aclose()
        state_disk.storage.failed(store, error.text)
        return None
    state_disk.storage.recovered(store)
    return disk


async def _open_beside(
    stack: AsyncExitStack,
    gateway: Gateway,
    name: str,
    disk: Opened | None,
    before: Recipient | None,
) -> tuple[Opened | None, dict[MarkKey, SlotMark]]:
    """Open the spool in memory if the disk fails or it has rows to deliver; return it, and how far
    it has closed slots.
    """
    recipient = gateway.config.uplinks[name].settings.recipient
    file = memory_of(gateway.config.state, recipient)
    if disk is not None and not file.exists():
        return None, {}
    own = await stack.enter_async_context(AsyncExitStack())
    head = _head(gateway.config, gateway.identity, gateway.audit, recipient)
    spool, thread = memory = await _open_in_memory(own, file, head, gateway.identity)
    marks = await thread.run(spool.marks)
    taken = disk is not None and await _take_record(disk, memory)
    # At a start the spool on the disk must first store what the one in memory has closed: until
    # then a kill would have the slot that runs read again (rule M10).
    goes_on = before is not None and not before.kept
    if not (taken and goes_on and await thread.run(lambda: spool.backlog().settled)):
        return memory, marks
    await own.aclose()
    for each in file.parent.glob(f"{file.name}*"):
        each.unlink()
    return None, marks


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


async def _take_record(disk: Opened, memory: Opened) -> bool:
    """Move the record of what the recipient has received from the spool in memory to the one on the
    disk: a reboot would lose it, and once the uplink is removed nobody opens memory. Return whether
    there was room.
    """
    spool, thread = memory
    record = await thread.run(
        lambda: (spool.record_name, spool.disclosures(), spool.erasures(), spool.received_slots())
    )
    try:
        await disk[1].run(disk[0].adopt, *record)
    except SpoolFull:
        return False
    await thread.run(spool.hand_over)
    return True


async def keep_records(gateway: Gateway) -> None:
    """Move records to the disk at a start and after each reload: see `take_left_records`. Never
    returns.
    """
    wakeup = Wakeup(gateway.reloaded)
    while True:
        try:
            await take_left_records(gateway)
        except (OSError, Refused, StorageFailed):  # `status` names the fault of the disk
            await wakeup.wait(PROBED_EVERY)
        else:
            await wakeup.wait()


async def take_left_records(gateway: Gateway) -> None:
    """Move the records of recipients without an uplink from memory to the disk, once. Raises
    OSError, Refused, StorageFailed.
    """
    config, who = gateway.config, gateway.identity
    linked = {one.settings.recipient for one in config.uplinks.values()}
    for recipient in sorted({*recipients_of(config.state)} - linked) if who else ():
        file = memory_of(config.state, recipient)
        if not file.exists():
            continue
        opening = spool_opening(config, who, gateway.audit, recipient)
        async with in_own_thread(f"spool {recipient}", opening) as disk, AsyncExitStack() as stack:
            head = _head(config, who, gateway.audit, recipient)
            await _take_record(disk, await _open_in_memory(stack, file, head, who))


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
        gateway, name, spool, thread, await thread.run(spool.marks), whole=disk is not None
    )
    if unsure := recipient.intake.unsure:
        # Before anything else is stored here.
        recipient.intake.looked(stored=await thread.run(spool.ends_with, unsure))
    recipient.spool, recipient.thread, recipient.in_memory = spool, thread, memory
    # The spool in memory may hold series that the one on the disk does not know. Of others the disk
    # knows the first slot.
    announced: dict[str, Item] = {}
    for each, of in reversed(opened):
        announced |= await of.run(each.announced)
    recipient.announced = announced
    if disk is not None and memory is not None:
        # Both spools give versions to rows. The spool on the disk must go on above those that the
        # one in memory has given, or the platform would ignore its rows.
        await thread.run(spool.go_on_after, *await memory[1].run(lambda: memory[0].given))
    outboxes = []
    recipient_id, clock = recipient.settings.recipient, gateway.clock
    for pair in opened:
        bases = _bases(recipient.ledger, clock)
        outbox = SpoolOutbox(*pair, clock, bases=bases)
        if pair is opened[0]:  # the one that stores what is read
            outbox.make = partial(_store_exchange_rows, gateway, recipient, bases)
        outbox.directory = partial(directory_of, gateway, recipient)
        outbox.ready = partial(may_seal, gateway)
        outbox.signed = partial(needs_signature, gateway, recipient.settings)
        outbox.retracted = partial(recover_withdrawals, gateway.registry, clock, recipient_id)
        outboxes.append(outbox)
    recipient.outbox = Draining(*outboxes) if len(outboxes) > 1 else outboxes[0]
    # Retractions made while the spool was closed come before rows are stored, sealed or sent.
    await recipient.outbox.catch_up()
    if before is not None and disk is None:
        # With all marks: a start while the disk still fails must not close a slot again (rule M3).
        recipient.intake.take((), dict(recipient.ledger.marks))
        await recipient.intake.commit()
    return recipient


async def wait_for_disk(gateway: Gateway, recipient: Recipient) -> None:
    """Return when the spool must be opened again; wait for ever if there is no spool in memory.

    That is when the disk works again and the registry may allow again, or when all rows of the
    spool in memory are delivered.
    """
    opening = partial(_opening, gateway, recipient.name)
    while recipient.in_memory is not None:
        await asyncio.sleep(PROBED_EVERY)
        if gateway.registry.mute:
            continue
        if recipient.kept:
            with suppress(StorageFailed, Refused):
                probing = gateway.disk.thread(f"{SPOOL}{recipient.name}")
                async with in_own_thread("", opening, probing) as (spool, _):
                    await probing.run(spool.probe)
                return
        else:
            spool, thread = recipient.in_memory
            if await thread.run(lambda: spool.backlog().settled):  # noqa: B023 -- awaited at once
                return
    await asyncio.Event().wait()


def _bases(ledger: SlotLedger, clock: Clock) -> RegistryBases:
    return RegistryBases(lambda: ledger.assignment, lambda: ahead(ledger, clock))


async def _store_exchange_rows(
    gateway: Gateway, recipient: Recipient, bases: RegistryBases, after: int, now: float
) -> None:
    """A full spool goes without them."""
    if recipient.settings.recipient in gateway.recipients.closing:
        return
    stated = recipient.ledger.exchanged(after, now)
    rows = [*bases.exchange_rows(after, now), *stated]
    if not rows:
        return
    owed = _not_announced(recipient, stated)
    with suppress(SpoolFull):
        await recipient.thread.run(recipient.spool.append, rows, {}, now, series_items(owed))
        recipient.owed |= owed


def _not_announced(recipient: Recipient, rows: Sequence[Reading]) -> dict[ExpectedSeries, int]:
    """The series of these rows that the recipient does not know yet, each with its first slot: all
    earlier slots may have been closed before its basis was recorded.
    """
    known = {*first_slots(recipient.announced), *recipient.owed}
    new = [row for row in rows if ExpectedSeries.of(row.series) not in known]
    for row in new:
        recipient.ledger.owe(row.series, row.t)
    return recipient.ledger.owed_in(new)


def _new_recipient(  # noqa: PLR0913 -- a spool, and what is known of it
    gateway: Gateway,
    name: str,
    spool: Spool,
    thread: OneThread,
    marks: Mapping[MarkKey, SlotMark],
    *,
    whole: bool,
) -> Recipient:
    """Make a recipient with its slot ledger and ingest, both empty. `whole`: no other marks are on
    a disk that cannot be read.
    """
    config, uplink = gateway.config, gateway.config.uplinks[name]
    recipient_id = uplink.settings.recipient
    totals = Totals(totals_of(config.state, recipient_id))
    terms = (gateway.registry, policy_of(config), recipient_id)
    assignment = RowAssignment(*terms, withholds=uplink.withheld, held=totals.held)
    ledger = SlotLedger(assignment, points_by_key(config.points()), marks, config.zone)
    ledger.refuses_unproven = uplink.unproven == "withhold"
    ledger.marks_unknown = not whole
    bases = _bases(ledger, gateway.clock)

    async def append(rows: Sequence[Reading], marks: Mapping[MarkKey, SlotMark]) -> None:
        owed, now = ledger.owed_in(rows), gateway.clock.now()
        await recipient.thread.run(recipient.spool.append, rows, marks, now, series_items(owed))
        # Only now: a series whose first row is lost in a power cut was never owed.
        recipient.owed |= owed
        recipient.delivery.stored()

    flush = config.spool.flush
    intake = Ingest(append, flush, revision=bases.revision, recheck=bases.kept, uplink=name)
    intake.take((), ledger.moved(marks))
    groups = Groups(groups_file(config.state, recipient_id))
    known = (groups, gateway.sums.indexes, marks, gateway.lines.serial)
    sums = Sums(gateway.registry, recipient_id, *known)
    outbox = SpoolOutbox(spool, thread, gateway.clock, bases=bases)
    facts = (name, uplink.settings, uplink.transport, spool, thread, outbox)
    delivery = Delivery(uplink=name, recipient=recipient_id)
    recipient = Recipient(*facts, ledger, intake, delivery, {}, {}, sums, totals)
    return recipient


def ahead(ledger: SlotLedger, clock: Clock) -> int:
    """Return the last closed slot if it lies in the future of the clock; else 0."""
    last = max((mark.slot for mark in ledger.marks.values()), default=0)
    return last if last > clock.now() else 0


async def close_passed_slots(gateway: Gateway, recipient: Recipient) -> None:
    """Close the slots that passed while the agent was down or the recipient had no uplink.

    Rows and marks are stored in one commit. If the spool is full, they wait in memory as all rows.
    """
    recipient_id, closing = recipient.settings.recipient, gateway.recipients.closing
    now, dated = gateway.clock.now(), gateway.clock.dates
    if recipient_id in closing:
        return
    if (since := closing.removed(recipient_id)) is not None:
        # Without a trusted clock the end of that time is unknown: the first dated reading ends it.
        recipient.ledger.removed = recipient.sums.removed = since, now if dated else math.inf
    if not dated:
        return
    rows: list[Reading] = recipient.ledger.resume(now)
    # `take` does not wait for space, since no task commits yet.
    recipient.intake.take(rows, dict(recipient.ledger.marks))
    await recipient.intake.commit()
    closing.returned(recipient_id)


def forget_closed(gateway: Gateway) -> None:
    """Note since when recipients have no uplink. Those are no longer being closed either."""
    recipients = [one.settings.recipient for one in gateway.config.uplinks.values()]
    gateway.recipients.closing.only(
        recipients, recipients_of(gateway.config.state), gateway.clock.now()
    )


def recover_withdrawals(
    registry: Registry, clock: Clock, recipient: str, ids: Collection[str]
) -> None:
    """Withdraw again the consents whose withdrawal the registry has lost and the recipient, or its
    spool, knows.

    That happens if the power fails while a withdrawal is in force but not yet on the disk (rule
    D12).
    """
    lost = list(lost_withdrawals(registry.consents(), recipient, ids))
    if not lost:
        return
    ids_text = ", ".join(one.id for one, _ in lost)
    log.warning(
        "a withdrawal that was lost here is known to %s or its spool: %s is withdrawn again",
        recipient, ids_text,
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
        registry.withdraw(rows, recipient, "receipt", clock.now())
    except Refused as error:
        log.error(  # noqa: TRY400 -- no bug
            "a lost withdrawal that %s confirms could not be recorded: %s", recipient, error,
            extra=fields(LogEvent.RECORD_NOT_WRITTEN, recipient=recipient),
        )  # fmt: skip


def uplink_states(recipients: Recipients) -> dict[str, Way]:
    """Return for each recipient whether all its signed objects have arrived."""
    return {
        str(one.settings.recipient): Way(one.delivery.complete, one.delivery.connected_since)
        for one in recipients.values()
    }


def may_seal(gateway: Gateway) -> bool:
    """Whether anything may be sealed: after a restore, not before all withdrawals have arrived.

    The answer is one for all uplinks: a withdrawal may arrive over any of them (rule T9).
    """
    gate = gateway.restored
    if gate.made is None:
        return True
    listens, before = gate.listens, gate.unproved
    try:
        ready = gate.judge(uplink_states(gateway.recipients), gateway.clock.now())
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
    now, begun_again = gateway.clock.now(), recipient.ledger.begun_again
    ends = partial(recipient.ledger.end, now=now)
    ended, gone = end_series(recipient.announced, recipient.owed, ends, begun_again, now)
    recipient.announced = {**recipient.announced, **ended}
    for series in gone:
        del recipient.owed[series]
    items = directory(
        gateway.registry,
        recipient.ledger.assignment.policy,
        recipient.settings.recipient,
        recipient.owed,
        recipient.announced,
        gateway.config.building.timezone,
        {serial_key(mark.serial) for mark in recipient.ledger.marks.values() if mark.serial},
        gateway.config.building.name,
        gateway.sums.configured(gateway.config)[recipient.name].points.keys(),
        recipient.ledger.moduli(),
        now,
        factors_of(gateway),
    )
    return items | outcomes(gateway, recipient)


def factors_of(gateway: Gateway) -> dict[str, dict[str, Item]]:
    """Return how the factor of each installation and channel is proven that needs a proof."""
    registry = gateway.registry
    factors: dict[str, dict[str, Item]] = {}
    now = int(gateway.clock.now())
    for point, meter in needed(gateway.config.points(), gateway.lines.serial, registry, now):
        proof = registry.factor_proof(meter, str(point.channel), point.to_prove)
        item: Item = {"proof": "none"}
        if proof is not None:
            item = {"proof": proof.method, "at": stamp(proof.word.when)}
            if proof.factor != 1:
                item |= {"proof": "wrong", "factor": format(proof.factor, "f")}
        factors.setdefault(meter.id, {})[str(point.channel)] = item
    return factors


def outcomes(gateway: Gateway, recipient: Recipient) -> dict[str, Item]:
    """Return the outcomes of orders, and of the objects that a recipient has sent or signed."""
    recipient_id, inbox = recipient.settings.recipient, gateway.objects.inbox
    items = gateway.steering.outcomes(recipient_id, recipient.name)
    if inbox:
        items |= inbox.object_status.to(recipient.name, recipient_id, gateway.objects.report)
    return items


def urgent_outcomes(gateway: Gateway, recipient: Recipient) -> frozenset[str]:
    """Return the keys of those of these outcomes that must not wait for the next regular batch."""
    recipient_id, inbox = recipient.settings.recipient, gateway.objects.inbox
    keys = frozenset(gateway.steering.outcomes(recipient_id, recipient.name))
    return keys | inbox.object_status.urgent(recipient.name, recipient_id) if inbox else keys


def needs_signature(gateway: Gateway, settings: Any) -> bool:
    """Whether only signed receipts of a recipient count now (rule T35)."""
    inbox = gateway.objects.inbox
    listed = inbox.trust_store.trust if inbox else None
    return getattr(settings, "receipt", "") == "signed" or (
        listed is not None and must_be_signed(settings.recipient, listed.members.values())
    )


def jobs_of(gateway: Gateway, recipient: Recipient) -> dict[str, Callable[[], Awaitable[None]]]:
    """Return the jobs on an open spool in addition to its uplink; each may fail alone."""
    return {
        "withdrawals": partial(_obey, gateway, recipient),
        "receipt keys": partial(_distrust, gateway, recipient),
        "sums": partial(_add_up, gateway, recipient),
        "upkeep": partial(_tend, gateway, recipient),
    }


async def _obey(gateway: Gateway, recipient: Recipient) -> None:
    """Apply retractions of the registry, even while the uplink is down. Never returns."""
    wakeup = Wakeup(gateway.registry.changed)
    while True:
        await recipient.outbox.catch_up()
        recipient.delivery.stored()
        await wakeup.wait()


async def _distrust(gateway: Gateway, recipient: Recipient) -> None:
    """Offer batches again whose receipts were signed with a key that is revoked now (rule T38).
    Never returns.
    """
    done: frozenset[str] = frozenset()
    wakeup = Wakeup(gateway.objects.changed)
    while True:
        if inbox := gateway.objects.inbox:
            kids = inbox.trust_store.taken.keys_of(recipient.settings.recipient, RECIPIENT)
            if kids != done:
                for spool, thread in recipient.spools:
                    if await thread.run(spool.distrust, sorted(kids), gateway.clock.now()):
                        recipient.delivery.send_now()
                done = kids
        await wakeup.wait(to_next(LOOK))  # a list may revoke a key from a time on


async def _add_up(gateway: Gateway, recipient: Recipient) -> None:
    """Make the sums over dwellings, slot by slot. Never returns."""
    clock, closing, sums = gateway.clock, gateway.recipients.closing, gateway.sums
    registry, reloaded = gateway.registry.changed, gateway.reloaded
    wakeup = Wakeup(clock.changed, sums.indexes.changed, registry, reloaded)
    while True:
        config, now = gateway.config, clock.now()
        due = clock.dates and recipient.settings.recipient not in closing
        due = due and not gateway.registry.mute  # it would not know which totals tell of few
        await sums.add_up(recipient, config, now if due else None)
        await wakeup.wait(clock.bound(sums.next_due(recipient, config, now) - clock.now()))
        await sleep(TOGETHER)


async def _tend(gateway: Gateway, recipient: Recipient) -> None:
    """Maintain a spool; delete receipted batches after the configured time. Never returns."""
    while True:
        clock = gateway.clock
        # After a sudden jump of the clock nothing is deleted because of its age (rule C14).
        before = clock.now() - gateway.config.spool.keep if clock.ages else 0.0
        gateway.audit.receipted(await recipient.thread.run(recipient.spool.receipted_audit))
        await recipient.thread.run(recipient.spool.forget, before)
        await recipient.outbox.tend(LONGEST_UNSENT if clock.ages else clock.now())
        await sleep(TEND_EVERY)


class ReadingStores:
    """Opens and serves both stores. `opened` is called when one of them is open."""

    def __init__(self, gateway: Gateway, opened: Callable[[], None]) -> None:
        self._gateway, self._opened = gateway, opened

    async def open(self) -> None:
        """Open the stores of unassigned readings and of midnight readings."""
        jobs = self._gateway.jobs
        await jobs.open("shelf", partial(self._hold, "shelf", UnassignedReadings))
        await jobs.open("registers", partial(self._hold, "registers", MidnightReadings))

    @asynccontextmanager
    async def _hold(
        self, name: str, kind: type[UnassignedReadings | MidnightReadings]
    ) -> AsyncIterator[Awaitable[object]]:
        gateway, unsent = self._gateway, cast("dict[str, Any]", self._gateway.unsent)
        disk_thread, file = gateway.disk.thread(name), gateway.config.state / f"{name}.db"
        opening = store_opening(gateway.identity, file)
        async with in_own_thread(name, opening, disk_thread) as (store, thread):
            readings = unsent.setdefault(name, kind(gateway.registry, store, thread))
            readings.store, readings.thread = store, thread
            async with self._serve(readings) as broken:
                yield broken

    @asynccontextmanager
    async def _serve(
        self, readings: UnassignedReadings | MidnightReadings
    ) -> AsyncIterator[Awaitable[object]]:
        self._opened()
        try:
            yield together(self._assign(readings), readings.thread.broken())
        finally:
            try:
                await readings.commit()
            except Exception as error:  # noqa: BLE001 -- the store is closed all the same
                self._gateway.jobs.faults.log(
                    error, f"readings stay in memory: {error_text(error)}", "shelf"
                )

    async def _assign(self, readings: UnassignedReadings | MidnightReadings) -> None:
        """Assign stored readings once the registry knows their place. Never returns.

        These are readings of unassigned meters, and the midnight readings that a duty needs after a
        change of occupants was recorded late.
        """
        gateway, clock = self._gateway, self._gateway.clock
        done = monotonic()
        wakeup = Wakeup(gateway.registry.changed, clock.changed, readings.filled)
        while True:
            changed = readings.asked != gateway.registry.revision
            every = gateway.config.spool.flush if readings.soon else SHELVE_EVERY
            due = changed or readings.full or monotonic() - done >= every
            # Undated readings are dated first: they may hold the same index, and are given there.
            undated = any(poller.undated for poller in gateway.lines.pollers())
            if due and clock.dates and not undated:
                try:
                    # Retractions come before the rows that replace them.
                    await gateway.recipients.catch_up()
                    # While one spool is closed, assigning would have to be repeated for it later,
                    # and the other recipients would get the rows twice. After a sudden jump of the
                    # clock nothing is destroyed because of its age (rule C14).
                    if gateway.recipients.unopened or not clock.ages:
                        await readings.commit()
                    else:
                        await readings.tend(
                            clock.now(),
                            gateway.recipients.accounts(),
                            lambda device, name: point_of(gateway.config, device, name),
                        )
                except (SpoolFull, StorageFailed) as error:
                    log.warning(
                        "stored readings could not be assigned and are tried again: %s", error,
                        extra=fields(LogEvent.RECORD_NOT_WRITTEN, store="shelf"),
                    )  # fmt: skip
                    await sleep(SHELVE_EVERY)
                done = monotonic()
                due = False
            # what is still due waits for the clock
            left = to_next(LOOK) if due else done + every - monotonic()
            await wakeup.wait(clock.bound(left))

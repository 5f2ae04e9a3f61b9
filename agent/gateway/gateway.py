"""The gateway: what is configured, and what of it is open."""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from agent.acquisition.ingest import SlotAccount
from agent.acquisition.poller import Poller
from agent.acquisition.sums import ReadingCache
from agent.acquisition.timekeeper import SlotBook
from agent.acquisition.timetable import running_slot
from agent.buffer.database import Damaged, DiskThread
from agent.buffer.spool import KEPT
from agent.config.config import sums_asked
from agent.core.atomic_write import SILENT, DiskWriter
from agent.core.errors import NotRecorded, Refused, StorageFailed
from agent.core.log_fields import LogEvent, LogNames, fields
from agent.core.storage import Storage, probed
from agent.core.tasks import Supervisor
from agent.gateway.controls import open_steering as opened
from agent.inbox.inbox import BY_HAND, store_is_broken
from agent.registry.consent_policy import CommonBasis, Policy, policy
from agent.registry.dates import DAY
from agent.registry.matching import Met, mapping
from agent.registry.records import Installation, covers, serial_key
from agent.trust.jws import MAP, Key
from agent.uplink.base import Cursors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from agent.acquisition.device import Device
    from agent.acquisition.ingest import Ingest
    from agent.acquisition.slots import SlotLedger
    from agent.acquisition.sums import ConfiguredSums, Sums, Totals
    from agent.acquisition.timekeeper import Timekeeper
    from agent.acquisition.unsent_readings import MidnightReadings, UnassignedReadings
    from agent.buffer.announcements import Item
    from agent.buffer.database import OneThread
    from agent.buffer.spool import Spool
    from agent.config import Config
    from agent.control.model import WriteTarget
    from agent.core.clock import Clock
    from agent.core.model import MarkKey, Point, Sample
    from agent.drivers.link import Link
    from agent.gateway.backup_file import BuildingFile
    from agent.gateway.controls import Steering
    from agent.gateway.data_usage import Traffic
    from agent.gateway.export_log import Exports
    from agent.gateway.lines import LinkDevices
    from agent.gateway.post_restore_gate import PostRestoreGate
    from agent.gateway.uplink_changes import Moves, UplinkShutdown
    from agent.inbox.inbox import Inbox
    from agent.inbox.setup import AuditNotes
    from agent.registry.access_log import AccessLog
    from agent.registry.identity import Identity
    from agent.registry.registry import Registry
    from agent.trust.verify import Verified
    from agent.uplink.outbox import Draining, SpoolOutbox
    from agent.uplink.pacing import Delivery

log = logging.getLogger(__name__)

STATE = "the state folder"
"""name of the state directory among the stores"""
OF_THE_CONTROLS = ("dr-command+jwt", "dr-grant+jwt", "dr-revoke+jwt")
"""types of signed objects that go to the controls"""


@dataclass
class Recipient:
    """One recipient at work: its slots, its spool and its delivery."""

    name: str
    """of its uplink"""
    settings: Any
    """settings of its transport"""
    transport: str
    spool: Spool
    thread: OneThread
    outbox: SpoolOutbox | Draining
    ledger: SlotLedger
    intake: Ingest
    delivery: Delivery
    announced: Mapping[str, Item]
    """the directory as the recipient had it when the spool was opened"""
    sums: Sums
    """the sums over dwellings that are not sent one by one"""
    totals: Totals
    """indexes of the whole building that are never sent"""
    in_memory: tuple[Spool, OneThread] | None = None
    """the spool in memory, used while the disk fails and until its rows are delivered"""

    @property
    def names(self) -> LogNames:
        """Its names, for log records."""
        return {"uplink": self.name, "recipient": str(self.settings.recipient)}

    @property
    def kept(self) -> str:
        """Where rows are stored now: `memory` while the disk fails, else empty."""
        return KEPT if self.in_memory and self.in_memory[0] is self.spool else ""

    @property
    def spools(self) -> list[tuple[Spool, OneThread]]:
        """All open spools of this recipient; the one on the disk comes first."""
        both = [(self.spool, self.thread)]
        return both if self.kept or self.in_memory is None else [*both, self.in_memory]

    async def waiting(self) -> int:
        """Count the values that the recipient has not receipted."""
        backlogs = [await thread.run(spool.backlog) for spool, thread in self.spools]
        return sum(one.slots + one.batch_rows for one in backlogs)


@dataclass
class Gateway:
    """What is configured and open, for all calls and components."""

    config: Config
    identity: Identity | None
    """None: `gardien key new` has not been run"""
    registry: Registry
    clock: Clock
    lines: dict[str, LinkDevices]
    recipients: dict[str, Recipient]
    started: float
    """when this process opened it, wall time"""
    traffic: Traffic
    """the data that each recipient's connection has used this month"""
    moves: Moves
    """uplinks that move to another address"""
    closing: UplinkShutdown
    """recipients for whom nothing more is stored"""
    access_log: AccessLog | None = None
    """the access log; None: nothing is shown to anybody"""
    unopened: dict[str, Recipient] = field(default_factory=dict)
    """recipients whose spool is closed and will be opened again: their rows wait in memory"""
    jobs: Supervisor = field(default_factory=Supervisor)
    """the components that run, and their faults"""
    steering: Steering | None = None
    """the controls; None: none are configured, or their journal is not open"""
    notes: AuditNotes | None = None
    """writes decisions to the audit chain"""
    inbox: Inbox | None = None
    """accepts signed objects; None: this gateway has no identity yet"""
    open_trust_store: Callable[[], None] | None = None
    """opens the trust store, again if it is open; None: no identity yet"""
    trust_store_broken: asyncio.Event = field(default_factory=asyncio.Event)
    """set when the trust store cannot be read any more and must be opened again"""
    unassigned: UnassignedReadings | None = None
    """readings of meters without a recorded installation; None: nothing is polled"""
    midnight_readings: MidnightReadings | None = None
    """past midnight readings that a duty may still need; None: nothing is polled"""
    restored: PostRestoreGate | None = None
    """whether anything may be sent after a restore; None: nothing is sent at all"""
    proved: dict[str, int] = field(default_factory=dict)
    """by uplink: when the certificate was installed that a receipt has proved to work"""
    certificate_said: str = ""
    """why the earlier certificate is in use again; empty if it is not"""
    rotation: dict[str, tuple[int, int]] = field(default_factory=dict)
    """progress of a rotation of the spool key, by file: bytes done, and bytes in all"""
    rotating: asyncio.Lock = field(default_factory=asyncio.Lock)
    """held while a new spool key is drawn"""
    rotation_waits: str = ""
    """why the rotation cannot go on; empty if it goes on"""
    storage: Storage = field(default_factory=Storage)
    """the stores that cannot be written now"""
    disks: dict[str, DiskThread] = field(default_factory=dict)
    """by uplink, `shelf` and `registers`: the thread that last had the file open"""
    building: BuildingFile | None = None
    """the latest backup and who holds it; None: no identity yet"""
    exports: Exports | None = None
    """the log of exports of the manager's software; None: nothing is open yet"""
    backup_said: str = ""
    """why the backup is not up to date; empty if it is, or if none is configured"""
    reload: Callable[[], Awaitable[dict[str, Any]]] | None = None
    """loads the configuration again; None: no daemon runs"""
    reopen: Callable[[], Awaitable[None]] | None = None
    """tries uplinks that are not connected at once; None: no daemon runs"""
    close: Callable[[str, bool], Awaitable[int]] | None = None
    """stops collecting for an uplink; with True it also destroys the waiting values and returns how
    many there were. None: no daemon runs"""
    timekeeper: Timekeeper | None = None
    """admits the periods of the clock; None: nothing is polled"""
    indexes: ReadingCache = field(init=False)
    """the indexes from which sums over dwellings are made"""
    _asked: tuple[Config | None, Mapping[str, ConfiguredSums]] = (None, MappingProxyType({}))
    cursors: Cursors = field(default_factory=Cursors)
    """how far signed objects were fetched from platforms that do not push them"""
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    proposals: dict[str, list[str]] = field(default_factory=dict)
    """by line: new meters that may have replaced a silent one"""
    describe: Callable[[], Awaitable[dict[str, Any]]] | None = None
    """returns what `gardien status` shows; None: no daemon runs"""

    def __post_init__(self) -> None:
        """Create the cache of readings, which all recipients share."""
        self.indexes = ReadingCache(self.registry)

    def disk_thread(self, name: str) -> DiskThread:
        """Return a new thread for a file on the disk.

        Raises StorageFailed while the earlier thread of this file still waits for the disk: else
        each attempt on a disk that hangs would leave one more thread behind.
        """
        if name in self.disks and not self.disks[name].over:
            raise StorageFailed(SILENT)
        self.disks[name] = DiskThread(name)
        return self.disks[name]

    async def ask_disk(self) -> None:
        """Return once the disk has answered, or is known to hang.

        Call it before the event loop itself writes: a disk that hangs would stop the loop.
        """
        async with self._asking:
            if DiskWriter.silent():
                return
            try:
                thread = self.disk_thread(STATE)
                try:
                    await thread.run(probed, self.config.state)
                finally:
                    # `int` does nothing. The thread runs it once the disk answers: see `over`.
                    await thread.leave(int)
            except StorageFailed:
                self.storage.failed(STATE, SILENT)

    def disk_answers(self) -> None:
        """Clear the fault of the state directory if the disk has answered `ask_disk` by now."""
        if STATE in self.storage.faults and self.disks[STATE].over:
            self.storage.recovered(STATE)

    def device(self, name: str) -> tuple[LinkDevices, Device]:
        """Return a configured device with its line. Raises Refused if there is none."""
        for line in self.lines.values():
            if name in line.devices:
                return line, line.devices[name]
        known = ", ".join(sorted(self.config.devices)[:10]) or "none"
        raise Refused(f'no device "{name}" is configured. Configured devices: {known}')

    async def read_guards(self, name: str) -> None:
        """Read the guards and the inhibit of a control now, out of schedule. Raises LinkLost."""
        control = self.config.controls[name]
        for reference in (*(one.point for one in control.guards), control.inhibit):
            if reference is not None:
                point = self.config.point(reference)
                line, device = self.device(point.device)
                await line.link.tried()
                (device.latest[point.name],) = await line.link.read([point])

    def link_of(self, place: WriteTarget) -> Link | None:
        """Return the configured line of a write target; None if no line has its settings."""
        for name, link in self.config.links.items():
            if (link.driver, link.settings.model_dump_json()) == (place.driver, place.settings):
                return self.lines[name].link
        return None

    def label(self, device: Device) -> str | None:
        """Return the label of the place that a device measures now; None if none is recorded."""
        for point in device.points:
            place = point.place
            if place is None and point.channel is not None:
                now = int(self.clock.now())
                installation = self.registry.whose(device.name, device.serial, point.channel, now)
                place = installation.place if isinstance(installation, Installation) else None
            if place is not None:
                return self.registry.label(place) or place
        return None

    def latest(self, device: str, point: str) -> Sample | None:
        """Return the last sample of a point; None if there is none yet."""
        for line in self.lines.values():
            if device in line.devices:
                return line.devices[device].latest.get(point)
        return None

    def home(self, occupancy: str, device: str) -> tuple[float, float] | None:
        """Return since when and until when an occupancy lasts, in Unix seconds.

        None if it is not recorded, or if the device is in another dwelling.
        """
        occupied = next((one for one in self.registry.occupancies() if one.id == occupancy), None)
        if occupied is None:
            return None
        dwellings = self._dwellings(device)
        if dwellings and occupied.place not in dwellings:
            return None
        return occupied.since, math.inf if occupied.until is None else occupied.until

    def _dwellings(self, name: str) -> set[str]:
        """Return the ids of the dwellings in which a device is installed now."""
        now, seen = int(self.clock.now()), None
        for line in self.lines.values():
            if name in line.devices:
                seen = line.devices[name].serial
        serial = serial_key(seen) if seen else None
        return {
            one.place
            for one in self.registry.installations()
            if one.place[0] == "D"
            and covers(one, now)
            and (one.device == name or (serial and one.serial and serial_key(one.serial) == serial))
        }

    def audit(self, kind: str, body: Mapping[str, Any]) -> None:
        """Write a decision to the audit chain: ids and who acted, never readings or people."""
        if self.notes is not None:
            self.notes(kind, body)

    def last_hash(self) -> str | None:
        """Return the hash of the last record of the audit chain; None if there is none."""
        return self.notes.chain.last if self.notes else None

    async def accept(self, raw: bytes, via: str) -> dict[str, Any]:
        """Accept a signed object that arrived by `via`; return its outcome.

        Raises Forged if it does not verify, and NotRecorded if the disk did not store it.
        """
        inbox = self.inbox_open()
        if self.steering is not None:
            # Each time: the controls may have been reopened since the last object.
            inbox.handlers.update(dict.fromkeys(OF_THE_CONTROLS, self.steering.orders.take))
        await self.ask_disk()
        answer = await inbox.accept(raw, via)
        # An object proves that the platform is alive, which ends a failsafe. What a person brings
        # by hand proves nothing, unless it is an order.
        lives = via != BY_HAND or answer.get("typ") == OF_THE_CONTROLS[0]
        if self.steering is not None and lives and not answer.get("again"):
            self.steering.controller.heard()
        await self.registry_changed()
        return answer | ({"report": self.mapped()} if answer.get("typ") == MAP else {})

    async def carried(self, raw: bytes, via: str) -> None:
        """Accept a signed object from a transport. When this returns, the object is settled.

        Raises NotRecorded if the disk did not store it: the transport must deliver it again.
        """
        if self.trust_store_broken.is_set():
            raise NotRecorded("the trust store cannot be read and is being opened again")
        try:
            await self.accept(raw, via)
        except (NotRecorded, Damaged):
            raise
        except Refused as error:
            log.debug("a signed object from %s was refused: %s", via, error)
        except Exception as error:
            if store_is_broken(error):
                self.trust_store_broken.set()
                raise
            # The object is verified and on the disk. Raising would make the platform send it again
            # for ever. What failed is tried again with the next object.
            log.exception(
                "a signed object from %s was stored, but applying it failed", via,
                extra=fields(LogEvent.OBJECT_FAILED, uplink=via),
            )  # fmt: skip

    def without_controls(self) -> None:
        """Note that the journal is closed: orders get NotRecorded, and must be sent again."""
        self.steering = None
        if self.inbox is not None:
            self.inbox.handlers.update(dict.fromkeys(OF_THE_CONTROLS, _no_journal))

    def inbox_open(self) -> Inbox:
        """Return the inbox. Raises Refused while this gateway has no identity."""
        if self.inbox is None:
            raise Refused("this gateway has no identity yet. Create it: gardien key new")
        return self.inbox

    async def registry_changed(self) -> None:
        """Audit what the registry has recorded; try the objects again that waited for it."""
        if self.notes is not None:
            self.notes.registry_changed(self.registry)
        if self.inbox is not None and await self.inbox.retry_waiting() and self.notes is not None:
            self.notes.registry_changed(self.registry)

    def mapped(self) -> dict[str, Any]:
        """Compare the places and meters of the registry with the devices on the lines."""
        met = [
            Met(one.name, one.serial, {point.channel for point in one.points if point.channel})
            for line in self.lines.values()
            for one in line.devices.values()
            if not any(point.place for point in one.points)
        ]
        return mapping(self.registry, met, int(self.clock.now()))

    def accounts(self) -> list[SlotAccount]:
        """Return the slot accounts of all recipients for whom rows are stored."""
        return [
            SlotAccount(recipient.ledger, recipient.intake)
            for recipient in (*self.recipients.values(), *self.unopened.values())
            if recipient.settings.recipient not in self.closing
        ]

    def books(self) -> list[SlotBook]:
        """Return for every recipient what is needed to correct slots closed by a wrong clock."""
        asked = self.sums_asked()
        return [
            SlotBook(
                recipient.settings.recipient,
                recipient.ledger,
                recipient.intake,
                recipient.spool,
                recipient.thread.run,
                recipient.sums,
                asked.get(recipient.name),
                [(spool, thread.run) for spool, thread in recipient.spools[1:]],
            )
            for recipient in self.recipients.values()
        ]

    def pollers(self) -> list[Poller]:
        """Return the pollers of all lines that are polled."""
        return [line.poller for line in self.lines.values() if line.poller is not None]

    def point(self, device: str, name: str) -> Point | None:
        """Return a configured point; None if it is no longer configured."""
        points = self.config.points().get(device, ())
        return next((one for one in points if one.name == name), None)

    async def add_up(self, recipient: Recipient) -> None:
        """Close the due slots of one recipient's sums over dwellings."""
        asked = self.sums_asked()
        steps = {channel: step for one in asked.values() for channel, step in one.steps().items()}
        # Again each time, since a reload may have changed the steps.
        self.indexes.set_steps(steps, self.config.zone)
        if self.clock.dates and recipient.settings.recipient not in self.closing:
            now, target = self.clock.now(), (recipient.ledger, recipient.intake)
            recipient.totals.look(
                recipient.ledger.assignment, asked[recipient.name].whole, int(now)
            )
            await recipient.sums.tend(asked[recipient.name], now, *target)

    def sums_asked(self) -> Mapping[str, ConfiguredSums]:
        """Return the configured sums by uplink."""
        known, asked = self._asked
        if known is not self.config:  # a reload replaces the object, so identity is enough
            asked = {name: sums_asked(self.config, name) for name in self.config.uplinks}
            self._asked = self.config, asked
        return asked

    def serial(self, name: str) -> str | None:
        """Return the serial number that a device gave; None if it gave none yet."""
        devices = (line.devices.get(name) for line in self.lines.values())
        return next((one.serial for one in devices if one is not None), None)

    async def obey(self) -> None:
        """Apply the retractions of the registry to every open spool before returning.

        A closed spool applies them when it is opened, before anything is sent. If one spool fails,
        the others are done first; then its error is raised.
        """
        failed: Exception | None = None
        for recipient in list(self.recipients.values()):
            try:
                await recipient.outbox.catch_up()
            # A withdrawal must reach every other spool even if one fails.
            except Exception as error:  # noqa: BLE001 -- raised below
                failed = error
        if failed is not None:
            raise failed

    def pin_all(self) -> None:
        """Bind installations that name only a device to the serial number that it gave already."""
        devices = [one for line in self.lines.values() for one in line.devices.values()]
        serials = {one.name: one.serial for one in devices if one.serial}
        try:
            outcome = self.registry.pin_all(serials, "gardien", "devices said so", self.clock.now())
        except Refused as error:
            log.error(  # noqa: TRY400 -- no bug
                "the serial numbers of devices could not be recorded: %s", error,
                extra=fields(LogEvent.RECORD_NOT_WRITTEN),
            )  # fmt: skip
            return
        pinned, refused = outcome
        for meter in pinned:
            log.info(
                "the device %s is now recorded as meter %s", meter.device, meter.serial,
                extra=fields(LogEvent.METER_IDENTIFIED, device=meter.device or ""),
            )  # fmt: skip
        for device, why in refused.items():
            log.error(
                "the device %s gives the serial number %s: %s", device, serials[device], why,
                extra=fields(LogEvent.METER_MISMATCH, device=device),
            )  # fmt: skip

    def identified(self, device: str, serial: str) -> None:
        """Bind installations that name only this device to the serial number that it gives."""
        try:
            pinned = self.registry.pin(
                device, serial, "gardien", f"{device} said so", self.clock.now()
            )
        except Refused as error:
            log.error(  # noqa: TRY400 -- no bug
                "the device %s gives the serial number %s: %s", device, serial, error,
                extra=fields(LogEvent.METER_MISMATCH, device=device),
            )  # fmt: skip
            return
        if pinned:
            log.info(
                "the device %s is now recorded as meter %s", device, serial,
                extra=fields(LogEvent.METER_IDENTIFIED, device=device),
            )  # fmt: skip


async def _no_journal(_: Verified) -> dict[str, Any]:
    raise NotRecorded("the journal of the controls is not open: send the order again later")


def open_steering(gateway: Gateway) -> AbstractAsyncContextManager[Steering]:
    """Open the journal of the controls. Nothing is written to a device yet."""
    own = Key.of(gateway.identity.signing_key.public_key()).kid if gateway.identity else ""
    return opened(
        gateway.config,
        gateway.clock,
        gateway.link_of,
        gateway.latest,
        gateway.audit,
        home=gateway.home,
        ask=gateway.read_guards,
        witness=own,
        taken=gateway.inbox.trust_store.taken.all() if gateway.inbox else (),
        storage=gateway.storage,
    )


def new_poller(gateway: Gateway, line: LinkDevices, before: Poller | None = None) -> Poller:
    """Make the poller of a line. Devices get the serial numbers that they last gave.

    `before`: the poller whose work the new one continues.
    """
    accounts = gateway.accounts()
    for account in accounts:
        for (name, _), mark in account.ledger.marks.items():
            if name in line.devices and mark.serial and line.devices[name].serial is None:
                line.devices[name].serial = mark.serial
    poller = Poller(
        line.link,
        list(line.devices.values()),
        accounts,
        gateway.clock,
        gateway.identified,
        gateway.config.zone,
        gateway.unassigned,
        gateway.midnight_readings,
        gateway.indexes,
        gateway.jobs.faults,
    )
    if before is not None:
        poller.go_on_from(before)
    return poller


def policy_of(config: Config) -> Policy:
    """Return the privacy policy, with the building's own basis for common areas."""
    common, written = None, config.privacy.common
    if written is not None:
        common = CommonBasis(written.basis, config.midnight(written.from_))
    return policy(config.privacy.policy, common, config.zone, config.privacy.fewest)


def midnights(config: Config) -> Callable[[int], int]:
    """Return a cached function from a time to the beginning of its day at the building."""
    return lru_cache(10_000)(lambda t: running_slot(DAY, t, config.zone))


def points_by_key(points: Mapping[str, Sequence[Point]]) -> dict[MarkKey, list[Point]]:
    """Group the configured points by device and step."""
    points_of: dict[MarkKey, list[Point]] = {}
    for device, group in points.items():
        for point in group:
            points_of.setdefault((device, point.every), []).append(point)
    return points_of

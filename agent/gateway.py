"""The building as configured, put together: its lines, its outlets with their spools."""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from agent.atomic_write import SILENT, DiskWriter
from agent.buffer.database import Damaged
from agent.buffer.memory import KEPT
from agent.buffer.thread import DiskThread
from agent.config.sums import sums_asked
from agent.errors import NotRecorded, Refused, StorageFailed
from agent.inbox.inbox import BY_HAND, store_is_broken
from agent.log_fields import LogEvent, LogNames, fields
from agent.pipeline.account import SlotAccount
from agent.pipeline.poller import Poller
from agent.pipeline.reading_cache import ReadingCache
from agent.pipeline.timekeeper import SlotBook
from agent.pipeline.timetable import running_slot
from agent.registry.consent_policy import CommonBasis, Policy, policy
from agent.registry.dates import DAY
from agent.registry.mapping import Met, mapping
from agent.registry.records import Installation, covers, serial_key
from agent.steering.setup import open_steering as opened
from agent.storage import Storage, probed
from agent.tasks import Supervisor
from agent.trust.jws import MAP
from agent.trust.key import Key
from agent.uplink.cursors import Cursors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from agent.backup_file import BuildingFile
    from agent.buffer.announcements import Item
    from agent.buffer.spool import Spool
    from agent.buffer.thread import OneThread
    from agent.clock import Clock
    from agent.config import Config
    from agent.control.hold_record import WriteTarget
    from agent.data_usage import Traffic
    from agent.export_log import Exports
    from agent.inbox.inbox import Inbox
    from agent.inbox.setup import AuditNotes
    from agent.lines import LinkDevices
    from agent.link import Link
    from agent.model import MarkKey, Point, Sample
    from agent.pipeline.device import Device
    from agent.pipeline.ingest import Ingest
    from agent.pipeline.midnight_readings import MidnightReadings
    from agent.pipeline.slots import SlotLedger
    from agent.pipeline.sums import ConfiguredSums, Sums
    from agent.pipeline.timekeeper import Timekeeper
    from agent.pipeline.totals import Totals
    from agent.pipeline.unassigned import UnassignedReadings
    from agent.post_restore_gate import PostRestoreGate
    from agent.registry.access_log import AccessLog
    from agent.registry.identity import Identity
    from agent.registry.registry import Registry
    from agent.steering.setup import Steering
    from agent.trust.verify import Verified
    from agent.uplink.delivery_state import Delivery
    from agent.uplink.outbox import Draining, SpoolOutbox
    from agent.uplink_migration import Moves
    from agent.uplink_shutdown import UplinkShutdown

log = logging.getLogger(__name__)

STATE = "the state folder"
"""how what is written there is called among the stores, where no other is named"""
OF_THE_CONTROLS = ("dr-command+jwt", "dr-grant+jwt", "dr-revoke+jwt")
"""signed objects that the desk of the controls takes"""


@dataclass
class Recipient:
    """One recipient: the account of its slots, its spool, and how delivery goes."""

    name: str
    settings: Any
    """of the transport, as configured"""
    transport: str
    spool: Spool
    thread: OneThread
    outbox: SpoolOutbox | Draining
    ledger: SlotLedger
    intake: Ingest
    delivery: Delivery
    announced: Mapping[str, Item]
    """what its recipient had been told of the building when this outlet was opened"""
    sums: Sums
    """over dwellings that are not sent one by one"""
    totals: Totals
    """indexes of the whole building that stay here for good"""
    in_memory: tuple[Spool, OneThread] | None = None
    """what was kept in memory while the disk failed, and is not delivered yet"""

    @property
    def names(self) -> LogNames:
        """Its names, for log records."""
        return {"uplink": self.name, "recipient": str(self.settings.recipient)}

    @property
    def kept(self) -> str:
        """Where rows are kept now: `memory` while the disk fails, else nothing."""
        return KEPT if self.in_memory and self.in_memory[0] is self.spool else ""

    @property
    def spools(self) -> list[tuple[Spool, OneThread]]:
        """All that is open for this recipient, that of the disk first."""
        both = [(self.spool, self.thread)]
        return both if self.kept or self.in_memory is None else [*both, self.in_memory]

    async def waiting(self) -> int:
        """Values that its recipient has not receipted."""
        backlogs = [await thread.run(spool.backlog) for spool, thread in self.spools]
        return sum(one.slots + one.batch_rows for one in backlogs)


@dataclass
class Gateway:
    """Everything that calls may use: what is configured, and what of it is open."""

    config: Config
    identity: Identity | None
    """None: `gardien key new` has not been run"""
    registry: Registry
    clock: Clock
    lines: dict[str, LinkDevices]
    outlets: dict[str, Recipient]
    started: float
    """wall time"""
    traffic: Traffic
    """what each recipient's line has moved"""
    moves: Moves
    """uplinks on their way to another address"""
    closing: UplinkShutdown
    """recipients for whom nothing more is kept"""
    looks: AccessLog | None = None
    """who has seen what of dwellings here; None: nothing is shown to anybody"""
    unopened: dict[str, Recipient] = field(default_factory=dict)
    """outlets whose spool is closed and will be opened again: rows for them wait in memory"""
    jobs: Supervisor = field(default_factory=Supervisor)
    """what runs, and what of it does not work"""
    steering: Steering | None = None
    """None: nothing may be commanded here, or nothing is open yet"""
    notes: AuditNotes | None = None
    """writes decisions into the audit chain"""
    reception: Inbox | None = None
    """takes signed objects; None: this gateway has no identity yet"""
    open_book: Callable[[], None] | None = None
    """opens the reception's file, or opens it anew; None: no identity yet"""
    book_broken: asyncio.Event = field(default_factory=asyncio.Event)
    """that file cannot be read any more, and must be opened anew"""
    unclaimed: UnassignedReadings | None = None
    """keeps readings of meters that nobody knows whose they are; None: nothing is polled"""
    registers: MidnightReadings | None = None
    """keeps what a duty may need of midnights that passed; None: nothing is polled"""
    restored: PostRestoreGate | None = None
    """whether what was said since a building file was written has come; None: nothing is sent"""
    proved: dict[str, int] = field(default_factory=dict)
    """by uplink: the certificate that a receipt has proved to work, by when it was installed"""
    certificate_said: str = ""
    """why the certificate before is in use again; empty: it is not"""
    rotation: dict[str, tuple[int, int]] = field(default_factory=dict)
    """while the spool key is rotated: by file, bytes that were looked at, and bytes there are"""
    rotating: asyncio.Lock = field(default_factory=asyncio.Lock)
    """held while a new spool key is drawn"""
    rotation_waits: str = ""
    """why that cannot go on; empty: it goes on"""
    storage: Storage = field(default_factory=Storage)
    """which stores cannot be written now"""
    disks: dict[str, DiskThread] = field(default_factory=dict)
    """by uplink, `shelf` and `registers`: the thread that last had the file on the disk open"""
    building: BuildingFile | None = None
    """all that people told, sealed, and who holds it; None: no identity yet"""
    exports: Exports | None = None
    """what has become of the exports of the syndic's software; None: nothing is open yet"""
    backup_said: str = ""
    """why the building file is not up to date; empty: it is, or nobody wants one"""
    reload: Callable[[], Awaitable[dict[str, Any]]] | None = None
    """takes the configuration anew; None: no daemon runs"""
    reopen: Callable[[], Awaitable[None]] | None = None
    """tries uplinks that are not connected again at once; None: no daemon runs"""
    close: Callable[[str, bool], Awaitable[int]] | None = None
    """keeps nothing more for an uplink and, if so asked, destroys what waits: how many values.
    None: no daemon runs"""
    timekeeper: Timekeeper | None = None
    """lets the periods of the clock in; None: nothing is polled"""
    indexes: ReadingCache = field(init=False)
    """what the sums over dwellings are made of"""
    _asked: tuple[Config | None, Mapping[str, ConfiguredSums]] = (None, MappingProxyType({}))
    cursors: Cursors = field(default_factory=Cursors)
    """how far signed objects were fetched where they do not come by themselves"""
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    proposals: dict[str, list[str]] = field(default_factory=dict)
    """by line: which new meter may have taken a silent one's place"""
    describe: Callable[[], Awaitable[dict[str, Any]]] | None = None
    """how everything is, as `gardien status` says; None: no daemon runs"""

    def __post_init__(self) -> None:
        """In memory only, for all recipients."""
        self.indexes = ReadingCache(self.registry)

    def disk_thread(self, name: str) -> DiskThread:
        """A new thread for a file on the disk. Raises StorageFailed while the one before it waits
        for the disk.
        """
        if name in self.disks and not self.disks[name].over:
            raise StorageFailed(SILENT)
        self.disks[name] = DiskThread(name)
        return self.disks[name]

    async def ask_disk(self) -> None:
        """Return once the disk has answered, or is known not to: what is written next on the event
        loop does not find out first.
        """
        async with self._asking:
            if DiskWriter.silent():
                return
            try:
                thread = self.disk_thread(STATE)
                try:
                    await thread.run(probed, self.config.state)
                finally:
                    await thread.leave(int)
            except StorageFailed:
                self.storage.failed(STATE, SILENT)

    def disk_answers(self) -> None:
        """Take note if the disk has answered what it was asked (`ask_disk`)."""
        if STATE in self.storage.faults and self.disks[STATE].over:
            self.storage.recovered(STATE)

    def device(self, name: str) -> tuple[LinkDevices, Device]:
        """A configured device with its line. Raises Refused where there is none of that name."""
        for line in self.lines.values():
            if name in line.devices:
                return line, line.devices[name]
        known = ", ".join(sorted(self.config.devices)[:10]) or "none"
        raise Refused(f'no device "{name}" is configured; there are: {known}')

    async def read_guards(self, name: str) -> None:
        """Ask the guards of a control, and its off switch, out of turn. Raises LinkLost."""
        control = self.config.controls[name]
        for reference in (*(one.point for one in control.guards), control.inhibit):
            if reference is not None:
                point = self.config.point(reference)
                line, device = self.device(point.device)
                await line.link.tried()
                (device.latest[point.name],) = await line.link.read([point])

    def link_of(self, place: WriteTarget) -> Link | None:
        """The configured line that a place is on; None: there is none with these settings."""
        for name, link in self.config.links.items():
            if (link.driver, link.settings.model_dump_json()) == (place.driver, place.settings):
                return self.lines[name].link
        return None

    def label(self, device: Device) -> str | None:
        """What people call the place that a device measures now; None where nobody knows."""
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
        """What a point last said; None: nothing yet."""
        for line in self.lines.values():
            if device in line.devices:
                return line.devices[device].latest.get(point)
        return None

    def home(self, occupancy: str, device: str) -> tuple[float, float] | None:
        """From when until when somebody lives there; None: nobody knows of such an occupancy, or
        the device is in a dwelling that is another's.
        """
        occupied = next((one for one in self.registry.occupancies() if one.id == occupancy), None)
        if occupied is None:
            return None
        dwellings = self._dwellings(device)
        if dwellings and occupied.place not in dwellings:
            return None
        return occupied.since, math.inf if occupied.until is None else occupied.until

    def _dwellings(self, name: str) -> set[str]:
        """The dwellings, by id, in which a device is installed now; none of common plant."""
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
        """Write a decision down for ever: ids and who acted, never readings or who lives there."""
        if self.notes is not None:
            self.notes(kind, body)

    def last_hash(self) -> str | None:
        """The hash of the last decision that was written down."""
        return self.notes.chain.last if self.notes else None

    async def accept(self, raw: bytes, via: str) -> dict[str, Any]:
        """Take a signed object that came by `via`; what became of it.

        Raises Forged, and NotRecorded where the disk did not take it.
        """
        reception = self.reception_open()
        if self.steering is not None:
            reception.seats.update(dict.fromkeys(OF_THE_CONTROLS, self.steering.desk.take))
        await self.ask_disk()
        answer = await reception.accept(raw, via)
        # of what a person brings only an order says that the centre lives
        lives = via != BY_HAND or answer.get("typ") == OF_THE_CONTROLS[0]
        if self.steering is not None and lives and not answer.get("again"):
            self.steering.keeper.heard()
        await self.registry_changed()
        return answer | ({"report": self.mapped()} if answer.get("typ") == MAP else {})

    async def carried(self, raw: bytes, via: str) -> None:
        """Take a signed object from a transport; when this returns, it is dealt with.

        Raises NotRecorded where the disk did not take it: it must come again.
        """
        if self.book_broken.is_set():
            raise NotRecorded("the file of signed objects cannot be read: it is opened anew")
        try:
            await self.accept(raw, via)
        except (NotRecorded, Damaged):
            raise
        except Refused as error:
            log.debug("%s brought what was not taken: %s", via, error)
        except Exception as error:
            if store_is_broken(error):
                self.book_broken.set()
                raise
            # it was judged and is on the disk; what follows from it is tried again with the next
            log.exception(
                "an object of %s was taken, and what follows from it failed", via,
                extra=fields(LogEvent.OBJECT_FAILED, uplink=via),
            )  # fmt: skip

    def without_controls(self) -> None:
        """The journal is not open: orders are not taken, and must come again."""
        self.steering = None
        if self.reception is not None:
            self.reception.seats.update(dict.fromkeys(OF_THE_CONTROLS, _no_journal))

    def reception_open(self) -> Inbox:
        """What takes signed objects. Raises Refused where nobody could address us yet."""
        if self.reception is None:
            raise Refused("this gateway has no identity yet: run `gardien key new`")
        return self.reception

    async def registry_changed(self) -> None:
        """Write down what the registry has recorded; take what has waited for it."""
        if self.notes is not None:
            self.notes.registry_changed(self.registry)
        if self.reception is not None and await self.reception.again() and self.notes is not None:
            self.notes.registry_changed(self.registry)

    def mapped(self) -> dict[str, Any]:
        """How the places and the meters of the building fit."""
        met = [
            Met(one.name, one.serial, {point.channel for point in one.points if point.channel})
            for line in self.lines.values()
            for one in line.devices.values()
            if not any(point.place for point in one.points)
        ]
        return mapping(self.registry, met, int(self.clock.now()))

    def accounts(self) -> list[SlotAccount]:
        """The recipients for whom rows are kept."""
        return [
            SlotAccount(outlet.ledger, outlet.intake)
            for outlet in (*self.outlets.values(), *self.unopened.values())
            if outlet.settings.recipient not in self.closing
        ]

    def books(self) -> list[SlotBook]:
        """What the clock closes slots in, for every recipient."""
        asked = self.sums_asked()
        return [
            SlotBook(
                outlet.settings.recipient,
                outlet.ledger,
                outlet.intake,
                outlet.spool,
                outlet.thread.run,
                outlet.sums,
                asked.get(outlet.name),
                [(spool, thread.run) for spool, thread in outlet.spools[1:]],
            )
            for outlet in self.outlets.values()
        ]

    def pollers(self) -> list[Poller]:
        """Those of all lines that are polled."""
        return [line.poller for line in self.lines.values() if line.poller is not None]

    def point(self, device: str, name: str) -> Point | None:
        """A configured point; None: it is configured no more."""
        points = self.config.points().get(device, ())
        return next((one for one in points if one.name == name), None)

    async def add_up(self, recipient: Recipient) -> None:
        """Close the slots of one recipient's sums over dwellings that are due."""
        asked = self.sums_asked()
        steps = {channel: step for one in asked.values() for channel, step in one.steps().items()}
        self.indexes.want(steps, self.config.zone)
        if self.clock.dates and recipient.settings.recipient not in self.closing:
            now, target = self.clock.now(), (recipient.ledger, recipient.intake)
            recipient.totals.look(recipient.ledger.gate, asked[recipient.name].whole, int(now))
            await recipient.sums.tend(asked[recipient.name], now, *target)

    def sums_asked(self) -> Mapping[str, ConfiguredSums]:
        """By uplink, the sums that its recipient is to have."""
        known, asked = self._asked
        if known is not self.config:
            asked = {name: sums_asked(self.config, name) for name in self.config.uplinks}
            self._asked = self.config, asked
        return asked

    def serial(self, name: str) -> str | None:
        """What a device says it is; None: nothing yet."""
        devices = (line.devices.get(name) for line in self.lines.values())
        return next((one.serial for one in devices if one is not None), None)

    async def obey(self) -> None:
        """Apply what the registry takes back, everywhere: done when it returns.

        A spool that is not open applies it before anything leaves. What fails with one is raised
        after the others.
        """
        failed: Exception | None = None
        for recipient in list(self.outlets.values()):
            try:
                await recipient.outbox.catch_up()
            except Exception as error:  # noqa: BLE001 -- raised below
                failed = error
        if failed is not None:
            raise failed

    def pin_all(self) -> None:
        """Bind assignments that name only a device to the serial number it has said already."""
        devices = [one for line in self.lines.values() for one in line.devices.values()]
        serials = {one.name: one.serial for one in devices if one.serial}
        try:
            outcome = self.registry.pin_all(serials, "gardien", "devices said so", self.clock.now())
        except Refused as error:
            log.error(  # noqa: TRY400 -- no bug
                "what devices say that they are is not recorded: %s", error,
                extra=fields(LogEvent.RECORD_NOT_WRITTEN),
            )  # fmt: skip
            return
        pinned, refused = outcome
        for meter in pinned:
            log.info(
                "%s is meter %s from now on", meter.device, meter.serial,
                extra=fields(LogEvent.METER_IDENTIFIED, device=meter.device or ""),
            )  # fmt: skip
        for device, why in refused.items():
            log.error(
                "%s says that it is %s: %s", device, serials[device], why,
                extra=fields(LogEvent.METER_MISMATCH, device=device),
            )  # fmt: skip

    def identified(self, device: str, serial: str) -> None:
        """Bind assignments that name only this device to the serial number that it says."""
        try:
            pinned = self.registry.pin(
                device, serial, "gardien", f"{device} said so", self.clock.now()
            )
        except Refused as error:
            log.error(  # noqa: TRY400 -- no bug
                "%s says that it is %s: %s", device, serial, error,
                extra=fields(LogEvent.METER_MISMATCH, device=device),
            )  # fmt: skip
            return
        if pinned:
            log.info(
                "%s is meter %s from now on", device, serial,
                extra=fields(LogEvent.METER_IDENTIFIED, device=device),
            )  # fmt: skip


async def _no_journal(_: Verified) -> dict[str, Any]:
    raise NotRecorded("the journal of the controls is not open")


def open_steering(gateway: Gateway) -> AbstractAsyncContextManager[Steering]:
    """Open the journal of the controls; nothing is written to any device yet."""
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
        taken=gateway.reception.book.taken.all() if gateway.reception else (),
        storage=gateway.storage,
    )


def new_poller(gateway: Gateway, line: LinkDevices, before: Poller | None = None) -> Poller:
    """A line's poller; devices are known by the serial numbers they last said.

    `before`: the one whose work it goes on with.
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
        gateway.unclaimed,
        gateway.registers,
        gateway.indexes,
        gateway.jobs.faults,
    )
    if before is not None:
        poller.go_on_from(before)
    return poller


def policy_of(config: Config) -> Policy:
    """The privacy policy with the building's own basis for common areas."""
    common, written = None, config.privacy.common
    if written is not None:
        common = CommonBasis(written.basis, config.midnight(written.from_))
    return policy(config.privacy.policy, common, config.zone, config.privacy.fewest)


def midnights(config: Config) -> Callable[[int], int]:
    """When the building's day began in which a moment lies."""
    return lru_cache(10_000)(lambda t: running_slot(DAY, t, config.zone))


def points_by_key(points: Mapping[str, Sequence[Point]]) -> dict[MarkKey, list[Point]]:
    """The configured points, by device and step."""
    points_of: dict[MarkKey, list[Point]] = {}
    for device, group in points.items():
        for point in group:
            points_of.setdefault((device, point.every), []).append(point)
    return points_of

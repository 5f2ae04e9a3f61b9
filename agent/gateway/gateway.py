"""The gateway: what is configured, and what of it is open."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import lru_cache, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, cast

from agent.acquisition.common_history import CommonHistory
from agent.acquisition.directory import first_slots
from agent.acquisition.ingest import SlotAccount
from agent.acquisition.sums import ReadingCache
from agent.acquisition.timekeeper import SlotBook, Timekeeper
from agent.acquisition.timetable import running_slot
from agent.buffer.announcements import series_key
from agent.buffer.spool import KEPT
from agent.config.config import sums_asked
from agent.core.errors import Refused
from agent.core.state import DEFAULT_CONFIG
from agent.core.tasks import LOOK, Change, Supervisor, error_text
from agent.gateway.controls import NoControls
from agent.gateway.flight_recorder import FlightRecorder
from agent.registry.consent_policy import CommonBasis, Policy, policy
from agent.registry.dates import DAY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from agent.acquisition.factors import FactorDays
    from agent.acquisition.ingest import Ingest
    from agent.acquisition.plausibility import Plausibility
    from agent.acquisition.row_assignment import ExpectedSeries
    from agent.acquisition.slots import SlotLedger
    from agent.acquisition.sums import ConfiguredSums, Sums, Totals
    from agent.acquisition.unsent_readings import MidnightReadings, UnassignedReadings
    from agent.buffer.announcements import Item
    from agent.buffer.database import OneThread
    from agent.buffer.history_store import HistoryStore
    from agent.buffer.schema import Wrong
    from agent.buffer.spool import Spool
    from agent.config import Config
    from agent.core.clock import Clock
    from agent.core.log_fields import LogNames
    from agent.core.model import MarkKey, Point
    from agent.gateway.acknowledged import Acknowledgements
    from agent.gateway.backup import BuildingFile, PostRestoreGate
    from agent.gateway.controls import Steering
    from agent.gateway.disk import StateDisk
    from agent.gateway.export_log import Exports
    from agent.gateway.first_seen import FirstSeen
    from agent.gateway.lines import Lines
    from agent.gateway.page_logins import PageLogins
    from agent.gateway.signed_objects import SignedObjects
    from agent.gateway.uplink_state import Moves, Traffic, UplinkShutdown
    from agent.inbox.setup import AuditNotes
    from agent.registry.access_log import AccessLog
    from agent.registry.identity import Identity
    from agent.registry.registry import Registry
    from agent.uplink.base import Cursors
    from agent.uplink.outbox import Draining, SpoolOutbox
    from agent.uplink.pacing import Delivery


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
    """the directory as the recipient had it, or was to have it, when the spools were opened; series
    that have ended since then are in it with their end
    """
    owed: dict[ExpectedSeries, int]
    """the first slot of each series of which rows were stored since the start"""
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
        """Count the values that the recipient has not receipted, those in quarantine too."""
        backlogs = [await thread.run(spool.backlog) for spool, thread in self.spools]
        return sum(one.slots + one.batch_rows + one.quarantined_rows for one in backlogs)

    async def unreceipted_retractions(self) -> int:
        """Count the retractions that the recipient has not receipted."""
        return max([await thread.run(one.unreceipted_retractions) for one, thread in self.spools])


class Recipients(dict[str, Recipient]):
    """The recipients whose spool is open, by uplink."""

    def __init__(self, closing: UplinkShutdown) -> None:
        super().__init__()
        self.closing = closing
        """recipients for whom nothing more is stored"""
        self.unopened: dict[str, Recipient] = {}
        """recipients whose spool is closed and will be opened again: their rows wait in memory"""

    def accounts(self) -> list[SlotAccount]:
        """Return the slot accounts of all recipients for whom rows are stored."""
        return [
            SlotAccount(recipient.ledger, recipient.intake)
            for recipient in (*self.values(), *self.unopened.values())
            if recipient.settings.recipient not in self.closing
        ]

    async def catch_up(self) -> None:
        """Apply the retractions of the registry to every open spool before returning.

        A closed spool applies them when it is opened, before anything is sent. If one spool fails,
        the others are done first; then its error is raised.
        """
        failed: Exception | None = None
        for recipient in list(self.values()):
            try:
                await recipient.outbox.catch_up()
            # A withdrawal must reach every other spool even if one fails.
            except Exception as error:  # noqa: BLE001 -- raised below
                failed = error
        if failed is not None:
            raise failed


class DwellingSums:
    """The configured sums over dwellings, and the indexes from which all recipients' are made."""

    def __init__(self, registry: Registry) -> None:
        self.indexes = ReadingCache(registry)
        self._known: tuple[object, Mapping[str, ConfiguredSums]] = (None, MappingProxyType({}))

    def configured(self, config: Config) -> Mapping[str, ConfiguredSums]:
        """Return the configured sums by uplink."""
        known, sums = self._known
        if known is not config:  # a reload replaces the object, so identity is enough
            sums = {name: sums_asked(config, name) for name in config.uplinks}
            self._known = config, sums
        return sums

    async def add_up(self, recipient: Recipient, config: Config, now: float | None) -> None:
        """Close the due slots of one recipient's sums. `now`: None: no slot is due."""
        configured = self.configured(config)
        steps = {
            channel: step for one in configured.values() for channel, step in one.steps().items()
        }
        # Again each time, since a reload may have changed the steps.
        self.indexes.set_steps(steps, config.zone)
        if now is not None:
            own, target = configured[recipient.name], (recipient.ledger, recipient.intake)
            recipient.totals.look(recipient.ledger.assignment, own.whole, int(now))
            await recipient.sums.tend(own, now, *target)

    def next_due(self, recipient: Recipient, config: Config, now: float) -> float:
        """Return the next time at which a slot of a recipient's sums may be due if no index comes
        before; in seconds since 1970, as `now`.
        """
        return recipient.sums.next_due(self.configured(config)[recipient.name], now)


class UnsentReadings(TypedDict, total=False):
    """The open stores of readings that no slot takes yet; while nothing is polled there is none."""

    shelf: UnassignedReadings
    """of meters without a recorded installation"""
    registers: MidnightReadings
    """past midnight readings that a duty may still need"""


class RotationProgress(NamedTuple):
    """Progress of a rotation in one file."""

    passed: int
    """bytes that are done"""
    of: int
    """bytes in all, approximately"""


class OpenHistory(NamedTuple):
    """The open file."""

    store: HistoryStore
    thread: OneThread


@dataclass
class PlantHistory:
    """The small history of a gateway."""

    values: CommonHistory = field(default_factory=CommonHistory)
    """what waits to be written"""
    opened: OpenHistory | None = None
    """None: the file is not open"""
    seen: tuple[object, ...] = ()
    """configuration and change of the registry for which `values.kept` was determined"""
    sent: dict[str, tuple[str, int]] = field(default_factory=dict)
    """by recipient: month and bytes of the data counter at the last quarter"""


@dataclass
class KeyRotation:
    """A rotation of the spool key."""

    begun: Change = field(default_factory=Change)
    """one has begun"""
    files: dict[str, RotationProgress] = field(default_factory=dict)
    waits: str = ""
    """why it cannot go on; empty if it goes on"""
    beginning: asyncio.Lock = field(default_factory=asyncio.Lock)
    """held while a new spool key is drawn"""


@dataclass
class CertificateProof:
    """Whether the latest certificate works."""

    proved: dict[str, int] = field(default_factory=dict)
    """by uplink: when the certificate was installed that a receipt has proved to work"""
    problem: str = ""
    """why the earlier certificate is in use again; empty if it is not"""


async def _nothing() -> dict[str, Any]:
    return {}


class Daemon:
    """What only a daemon can do. This class itself stands in while none runs, and is false."""

    def __init__(self) -> None:
        self.describe: Callable[[], Awaitable[dict[str, Any]]] = _nothing
        """returns what `gardien status` shows, and each recipient's `metrics`; nothing before the
        daemon has started
        """
        self.path = DEFAULT_CONFIG
        """the configuration file that it has loaded"""
        self.editing = asyncio.Lock()
        """held while a call changes that file"""
        self.bundling = asyncio.Lock()
        """held while a support bundle is made"""

    def __bool__(self) -> bool:
        return False

    async def reload(self) -> dict[str, Any]:
        """Load the configuration again, and name what has changed. Raises Refused."""
        raise Refused("gardien is not running: it reads the configuration at its next start")

    async def reopen(self) -> None:
        """Try uplinks that are not connected at once."""

    async def close(self, name: str, drop: bool) -> int:
        """Stop collecting for an uplink. `drop`: destroy its waiting values; return how many.

        Raises Refused.
        """
        del name, drop
        raise Refused(
            "gardien is not running, and only a running gateway delivers: start it and try again"
        )

    def timekeeper(self, gateway: Gateway) -> Timekeeper:
        """Return what admits the periods of the clock."""
        return Timekeeper(
            gateway.clock,
            lambda: books(gateway),
            gateway.lines.pollers,
            gateway.audit,
            partial(set_back_unsent, gateway),
        )


@dataclass(frozen=True, slots=True)
class Waits:
    """How long components wait, in seconds. A simulation shortens them."""

    backup: float = 30.0
    """between two checks whether something has changed that a backup contains"""
    upload: float = LOOK
    """between two checks for a new backup to upload"""
    batches: float = 60.0
    """for batches under way, before each part of a backup: it must not wait for days of backlog"""
    proof: float = 300.0
    """for a receipt over a connection to a new address"""
    usage: float = LOOK
    """between two readings of the data counter"""
    status: float = 60.0
    """between two looks at the gateway's state, for the diagnosis and for recipients (rule T31)"""


@dataclass
class Gateway:
    """What is configured and open, in the order of opening. Parts that are missing are false."""

    config: Config
    """replaced by a reload; then `reloaded` tells"""
    identity: Identity
    """replaced by a rotation of the spool key"""
    clock: Clock
    disk: StateDisk
    registry: Registry
    moves: Moves
    """uplinks that move to another address"""
    traffic: Traffic
    """the data that each recipient's connection has used this month"""
    lines: Lines
    started: float
    """when this process opened it, wall time"""
    recipients: Recipients
    access_log: AccessLog
    restored: PostRestoreGate
    """whether anything may be sent after a restore"""
    building: BuildingFile
    """the latest backup and who holds it"""
    exports: Exports
    """the log of exports of the manager's software"""
    audit: AuditNotes
    """writes decisions to the audit chain: ids and who acted, never readings or people"""
    cursors: Cursors
    """how far signed objects were fetched from platforms that do not push them"""
    objects: SignedObjects
    """the inbox"""
    sums: DwellingSums
    factor_days: FactorDays
    first_seen: FirstSeen
    """since when each finding of the diagnosis is there"""
    acknowledged: Acknowledgements
    """which findings somebody works on"""
    plausibility: Plausibility
    """which devices' readings contradict each other"""
    page: PageLogins
    """who may use the web page, and who does"""
    jobs: Supervisor = field(default_factory=Supervisor)
    """the components that run, and their faults"""
    steering: Steering = field(default_factory=NoControls)
    """the controls; false: none are configured, or their journal is not open"""
    unsent: UnsentReadings = field(default_factory=UnsentReadings)
    history: PlantHistory = field(default_factory=PlantHistory)
    """the small history of common areas, plant and the gateway itself"""
    certificate: CertificateProof = field(default_factory=CertificateProof)
    rotation: KeyRotation = field(default_factory=KeyRotation)
    daemon: Daemon = field(default_factory=Daemon)
    reloaded: Change = field(default_factory=Change)
    """another configuration is in force"""
    decided: Change = field(default_factory=Change)
    """what became of an order has changed"""
    waits: Waits = field(default_factory=Waits)
    flight: FlightRecorder = field(default_factory=FlightRecorder)
    """remembers what happens to the agent; it records nothing in a command without daemon"""


async def set_back_unsent(gateway: Gateway, wrong: Wrong) -> None:
    """Destroy the unsent readings of slots that a wrong clock closed. A store that fails destroys
    them before it assigns others; readings are dated all the same.
    """
    for name, readings in gateway.unsent.items():
        try:
            await cast("UnassignedReadings | MidnightReadings", readings).set_back(wrong)
        except Exception as error:  # noqa: BLE001 -- the clock's period begins without this store
            gateway.jobs.faults.log(
                error, f"{name}: readings of a wrong clock stay: {error_text(error)}", name
            )


def books(gateway: Gateway) -> list[SlotBook]:
    """Return for every recipient what is needed to correct slots closed by a wrong clock."""
    configured = gateway.sums.configured(gateway.config)
    return [
        SlotBook(
            recipient.settings.recipient,
            recipient.ledger,
            recipient.intake,
            recipient.spool,
            recipient.thread.run,
            recipient.sums,
            configured.get(recipient.name),
            [(spool, thread.run) for spool, thread in recipient.spools[1:]],
            partial(_stored, recipient),
            partial(_known_series, recipient),
            partial(_reopen, recipient),
        )
        for recipient in gateway.recipients.values()
    ]


def _stored(recipient: Recipient, owed: Mapping[ExpectedSeries, int]) -> None:
    recipient.owed |= owed
    recipient.delivery.stored()


def _known_series(recipient: Recipient) -> Collection[ExpectedSeries]:
    return first_slots(recipient.announced).keys()


def _reopen(recipient: Recipient, series: Collection[ExpectedSeries]) -> None:
    """State the ends of these series anew: what said them was taken back."""
    keys = {series_key(each.place, each.channel, each.kind, each.step) for each in series}
    recipient.announced = {
        key: {name: value for name, value in item.items() if name != "until"}
        if key in keys
        else item
        for key, item in recipient.announced.items()
    }


def policy_of(config: Config) -> Policy:
    """Return the privacy policy, with the building's own basis for common areas."""
    common, written = None, config.privacy.common
    if written is not None:
        common = CommonBasis(written.basis, config.midnight(written.from_))
    return policy(config.privacy.policy, common, config.zone, config.privacy.fewest)


def point_of(config: Config, device: str, name: str) -> Point | None:
    """Return a configured point; None if it is no longer configured."""
    points = config.points().get(device, ())
    return next((one for one in points if one.name == name), None)


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

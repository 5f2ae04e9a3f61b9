"""A clock, a device and a store that can be made to fail between any two steps of the real code."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

from agent.control.context import ControlDependencies
from agent.control.controller import Controller
from agent.control.guard import GuardReading
from agent.control.journal import Journal
from agent.control.model import (
    AcceptedOrder,
    ConfiguredControl,
    ControlOrder,
    Failsafe,
    Guard,
    Limits,
    LossRule,
    Modality,
    Moment,
    OrderState,
    WatchdogTarget,
    WriteTarget,
)
from agent.control.point_access import Standing
from agent.control.records import Phase, Transaction
from agent.core.errors import SpoolFull, WriteRefused

ZONE = ZoneInfo("Europe/Paris")
BEGIN = 1_800_000_000.0
PLACE = WriteTarget("bms", "bacnet", "{}", "boiler", "offset", "1201", "analog-value,7", "K")
FOLDER = Path("/dev/shm") if Path("/dev/shm").is_dir() else None


class Crash(BaseException):
    """The power is gone."""


@dataclass
class Truth:
    """What is really so, whatever the agent knows."""

    at: float = 0.0
    """seconds since the begin"""
    booted: float = -1000.0
    boot: str = "a"
    wrong: float = 0.0
    """by how much the wall clock lies"""
    trusted: bool = True
    reachable: bool = True
    guard: Decimal | None = Decimal(20)
    inhibit: Decimal = Decimal(0)
    full: bool = False
    """the disk"""

    def moment(self) -> Moment:
        return Moment(BEGIN + self.at + self.wrong, self.at - self.booted, self.boot, self.trusted)


@dataclass
class Steps:
    """Counts the steps of the agent, and ends it at one of them."""

    fatal: int = -1
    now: int = 0

    def __call__(self) -> None:
        self.now += 1
        if self.now == self.fatal:
            raise Crash


@dataclass
class Device:
    """A point with priorities, or a register; it keeps what it was told whoever dies."""

    truth: Truth
    array: bool = True
    slots: dict[int, Decimal | None] = field(default_factory=dict)
    register: Decimal = Decimal(32)
    by_default: Decimal = Decimal(0)
    timeout: Decimal = Decimal(0)
    """the register of the device's own watchdog; 0: it does not watch"""
    told: float = 0.0
    """when the watchdog was last told anything"""
    fallback: Decimal = Decimal(8)
    fed_by_reads: bool = False
    """any request is a sign of life for its watchdog"""
    log: list[tuple[float, Decimal | None]] = field(default_factory=list)

    def ours(self, slot: int | None) -> Decimal | None:
        return self.slots.get(slot) if slot is not None else self.register

    def live(self) -> None:
        """What the device does by itself."""
        if self.timeout and self.truth.at - self.told > float(self.timeout):
            self.register = self.fallback

    @property
    def effective(self) -> Decimal:
        if not self.array:
            return self.register
        standing = [value for _, value in sorted(self.slots.items()) if value is not None]
        return standing[0] if standing else self.by_default

    def person(self, value: Decimal | None, slot: int = 8) -> None:
        if self.array:
            self.slots[slot] = value
        elif value is not None:
            self.register = value


DOG = WatchdogTarget(
    replace(PLACE, point="timeout"), Decimal(60), 30.0, replace(PLACE, point="fallback")
)


@dataclass
class DogHand:
    """The device's watchdog register, or the value it falls back to."""

    device: Device
    word: str
    steps: Steps

    async def look(self, *, whole: bool = False) -> Standing:
        del whole
        self.steps()
        if not self.device.truth.reachable:
            raise WriteRefused("silent")
        return Standing(getattr(self.device, self.word))

    async def write(self, value: Decimal | None) -> None:
        self.steps()
        if not self.device.truth.reachable:
            raise WriteRefused("silent")
        self.device.timeout, self.device.told = value, self.device.truth.at
        self.steps()


@dataclass
class Hand:
    """The plug of a device, each request a step before and after."""

    device: Device
    slot: int | None
    steps: Steps
    on_write: object

    async def look(self, *, whole: bool = False) -> Standing:
        self.steps()
        if not self.device.truth.reachable:
            raise WriteRefused("silent")
        self.device.live()
        if self.device.fed_by_reads:
            self.device.told = self.device.truth.at
        over = [
            n for n, value in self.device.slots.items() if value is not None and n < 13 and n != 10
        ]
        said = f"priority {min(over)}" if self.device.array and over else ""
        ours = self.device.ours(self.slot)
        return Standing(ours, said, self.device.effective if whole else None)

    async def write(self, value: Decimal | None) -> None:
        self.steps()
        if not self.device.truth.reachable:
            raise WriteRefused("silent")
        self.on_write(self.slot, value)
        self.device.log.append((self.device.truth.at, value))
        if self.slot is None:
            self.device.register = value
        else:
            self.device.slots[self.slot] = value
        self.steps()


def agreed(kind: LossRule = LossRule.SHIFT, **over) -> Modality:
    limit = kind is LossRule.LIMIT
    plain = {
        "name": "it",
        "action": "limit" if limit else "offset",
        "kind": kind,
        "unit": "K",
        "limits": Limits(least=Decimal(-2), most=Decimal(40), duration=7200.0),
        "equipment": "heating",
        "guards": (Guard("stairs", "stairs", "temp", 60, Decimal(18), None, "Cel"),),
        "inhibit": ("boiler", "inhibit"),
        "failsafe": Failsafe(Decimal(10), 7200.0, 60.0) if limit else None,
    }
    return Modality(**(plain | over))


def order(jti: str = "one", value: str = "-1.5", start: float = 30.0, lasts: float = 180.0, **over):
    return ControlOrder(
        jti, "it", "metropole", "grid_operator", over.pop("action", "offset"), Decimal(value), "K",
        BEGIN + start, lasts, received=BEGIN, **over,
    )  # fmt: skip


def event(one: ControlOrder, **over) -> AcceptedOrder:
    return AcceptedOrder(
        one, OrderState.SCHEDULED, one.start, over.pop("back", 0.0), accepted=BEGIN, **over
    )


class Site:
    """One gateway with one control, that is killed and started again."""

    def __init__(self, modality: Modality | None = None, *, array: bool = True) -> None:
        self.truth = Truth()
        self.device = Device(self.truth, array)
        self.steps = Steps()
        self.modality = modality or agreed()
        self.place = PLACE
        self.dog: WatchdogTarget | None = None
        self.findings: list[str] = []
        self.alive_since = 0.0
        self.dropped = 0
        self.meanwhile: dict[float, object] = {}
        """what happens to the world while somebody waits, by second"""
        self.plant = False
        """a journal write is left out on purpose: the explorer must find it"""
        self._stack = ExitStack()
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(dir=FOLDER))
        self.path = Path(folder) / "control.sqlite"
        self._open = ExitStack()
        self.disk: dict[int, object] = {}
        self.controller: Controller | None = None

    def close(self) -> None:
        self._open.close()
        self._stack.close()

    @property
    def fit(self) -> ConfiguredControl:
        slots = (13, 10) if self.device.array else (None, None)
        return ConfiguredControl(self.modality, self.place, slots, None, "v1", watchdog=self.dog)

    def start(self) -> Controller:
        """A new process: it knows what is on the disk, and nothing else."""
        fit = self.fit
        self.journal = self._open.enter_context(Journal.open(self.path, lambda _: fit.key))
        memo = self.journal.memo(fit.key)
        if not memo.tested:
            free = (13,) if self.device.array else ()
            tested = replace(memo, tested="v1", free=free)
            self.journal.save(Transaction(memos=[(fit.key, tested)]))
        self.disk = dict(self.journal.records)
        self.controller = Controller(self.journal, self.dependencies(), {"it": fit})
        self.alive_since = self.truth.at
        return self.controller

    def dependencies(self) -> ControlDependencies:
        return ControlDependencies(
            now=self.truth.moment,
            zone=ZONE,
            look=self.look,
            access=self.hand,
            save=self.save,
            note=self.note,
            call=self.read,
            wait=self.wait,
            quiet=lambda _, seconds: self.wait(seconds),
        )

    async def wait(self, seconds: float) -> None:
        self.truth.at += seconds
        for at in [at for at in self.meanwhile if at <= self.truth.at]:
            self.meanwhile.pop(at)(self)

    async def read(self, call, *args):
        return call(*args)

    def look(self, device: str, point: str) -> GuardReading:
        del device
        value = self.truth.inhibit if point == "inhibit" else self.truth.guard
        return GuardReading(value, 1.0, 60)

    def hand(self, place: WriteTarget, slot: int | None) -> Hand:
        if place.point in {"timeout", "fallback"}:
            return DogHand(self.device, place.point, self.steps)
        return Hand(self.device, slot, self.steps, self.on_write)

    async def note(self, change: Transaction):
        """What the copy knows counts, whatever the disk takes; the disk has it next."""
        try:
            return await self.save(change)
        except SpoolFull:
            change = self.journal.numbered(change)
            self.journal.take(change)
            return change.record

    async def save(self, change: Transaction, also=None):
        self.steps()
        if self.truth.full:
            raise SpoolFull("no room")
        row = change.record
        if self.plant and row is not None and row.phase is Phase.WRITING and not row.number:
            self.dropped += 1
            return replace(row, number=99)
        saved = self.journal.save(change, also)
        if saved is not None:
            self.disk[saved.number] = saved
        self.steps()
        return saved

    def on_write(self, slot: int | None, value: Decimal | None) -> None:
        """Nothing is written that the disk does not know of."""
        covers = [
            row
            for row in self.disk.values()
            if row.phase is not Phase.CLOSED and row.slot == slot
            and (value in row.known or value in {row.restore, row.pre})
        ]  # fmt: skip
        if not covers:
            self.findings.append(f"{self.truth.at:.0f}: {value} was written without a row")

    def die(self) -> None:
        """Kill -9 or power cut: only the disk stays."""
        self._open.close()
        self._open = ExitStack()
        self.steps.fatal = -1

"""The equipment of a building, behind the interface of the drivers.

A meter's register is a function of true time alone. What a device gives, and when it gives nothing,
goes to the journal. The agent gets `Sim…`, subclasses of its own drivers: their settings and checks
are the real ones, but nothing is sent.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import ROUND_FLOOR, Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import agent.drivers
from agent.core.clock import seconds
from agent.core.errors import LinkLost, Refused, WriteRefused
from agent.core.model import Sample, Why
from agent.drivers.bacnet.bus import Bacnet
from agent.drivers.base import PointSlots, Swept
from agent.drivers.line_disturbance import Turn
from agent.drivers.mbus.bus import MbusSerial
from agent.drivers.modbus.bus import ModbusTcp
from tests.sim import houses

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Sequence

    from agent.core.model import Point, Value
    from tests.sim.houses import Fitting, House, Lever
    from tests.sim.world import World

HOUR = 3600
ORDINARY, EMERGENCY, PERSON = 13, 10, 8
"""priorities of BACnet: two of the gateway, one of the people at the plant"""
TAKES = {"modbus": (0.02, 0.09), "mbus": (0.3, 0.8), "bacnet": (0.02, 0.12)}
"""seconds from a request to its answer"""
TIMEOUT = {"modbus": 1.0, "mbus": 2.0, "bacnet": 2.0}
WARM, COLD = Decimal("20.5"), Decimal("12.5")
"""what the guard's sensor says, inside and outside its bounds"""
SLOW = (200.0, 280.0)
"""seconds from a request to its answer behind a gateway that carries little"""
USED = 0.15
"""share of new meters that were used elsewhere, and show a little more than the old one"""
UNDEFINED = "no value"
ODD = (Decimal("999999.999"), Decimal("-17.25"), Decimal(0), UNDEFINED)
"""what a broken device may say of its index"""


@dataclass
class Meter:
    """A counter that nothing stops."""

    serial: str
    base: Decimal
    rate: float
    since: float
    """true time at which it showed `base`"""
    lost: Decimal = Decimal(0)
    """what it has forgotten by restarts"""

    def index(self, at: float) -> Decimal:
        """What it shows: never less than before, and each hour of a day more or less."""
        hours = max(0.0, at - self.since) / HOUR
        counted = self.rate * (hours + 2 * math.sin(math.tau * hours / 24))
        whole = self.base + Decimal(counted).quantize(Decimal("0.001"), ROUND_FLOOR)
        return max(Decimal("0.000"), whole - self.lost)


@dataclass
class Plant:
    """Equipment that may be commanded."""

    lever: Lever
    register: Decimal
    """what it was told without priorities; of BACnet: what it does by itself"""
    slots: dict[int, Decimal] = field(default_factory=dict)
    dog: Decimal = Decimal(0)
    """seconds of its watchdog; 0: off"""
    fed: float = 0.0
    looked: float = math.inf
    """when somebody looks next whether it has run out"""
    cold: int = 0
    """how many events hold the guard's sensor outside its bounds"""
    switched: int = 0
    """how many events hold the operator's switch"""

    @property
    def room(self) -> Decimal:
        """What the guard's sensor shows now."""
        return COLD if self.cold else WARM

    @property
    def off(self) -> int:
        """What the operator's switch shows now."""
        return int(self.switched > 0)

    @property
    def effective(self) -> Decimal:
        """What it does now."""
        return self.slots[min(self.slots)] if self.slots else self.register


@dataclass
class Building:
    """Everything behind the lines."""

    meters: dict[str, Meter]
    """by device"""
    plants: dict[str, Plant]
    faults: dict[str, list[str]] = field(default_factory=dict)
    """by device, what is wrong with it now"""
    restarted: dict[str, float] = field(default_factory=dict)
    """by device: true time of its last restart"""
    removed: set[str] = field(default_factory=set)
    """devices that were taken out with their meter"""
    down: list[int] = field(default_factory=list)
    """lines that cannot be opened now; a line as often as it was taken down"""


def building(house: House, begin: float) -> Building:
    """What stands there at the begin of a run. No two meters show or count the same."""
    meters = {
        one.name: Meter(
            one.serial,
            Decimal(1000 * (n + 1)) + Decimal(7 * n) / 8,
            one.rate,
            begin - 30 * 24 * HOUR,
        )
        for n, one in enumerate(house.fittings)
    }
    plants = {one.device: Plant(one, Decimal(one.original)) for one in house.levers}
    return Building(meters, plants)


# What happens to it

KNOWN = ("silent", "late", "slow", "wrong-unit", "reboot", "garbage", "protected")


def fitting(world: World, number: int) -> Fitting:
    return world.house.fittings[number % len(world.house.fittings)]


def lever(world: World, number: int) -> Lever:
    return world.house.levers[number % len(world.house.levers)]


def _faulty(world: World, number: int) -> str:
    """The device of a number: meters first, then what is controlled."""
    house = world.house
    names = [one.name for one in house.fittings] + [one.device for one in house.levers]
    return names[number % len(names)]


def _device(world: World, event: dict[str, Any], rng: random.Random) -> None:
    name = _faulty(world, event["device"])
    world.building.faults.setdefault(name, []).append(event["how"])
    if event["how"] == "reboot":
        world.building.restarted[name] = world.now()
        meter = world.building.meters.get(name)
        if meter is not None and rng.random() < 0.5:
            hours = rng.uniform(0.05, 3)
            meter.lost += Decimal(meter.rate * hours).quantize(Decimal("0.001"))


def _device_ended(world: World, event: dict[str, Any]) -> None:
    name = _faulty(world, event["device"])
    world.building.faults[name].remove(event["how"])


def _line(world: World, event: dict[str, Any], rng: random.Random) -> None:
    del rng
    world.building.down.append(event["line"] % len(world.house.lines))


def _line_ended(world: World, event: dict[str, Any]) -> None:
    world.building.down.remove(event["line"] % len(world.house.lines))


def value_of(of: Lever, asked: float) -> Decimal:
    """What a number of a plan means at this control."""
    value = Decimal(str(asked)) + (5 if of.action == "limit" else 0)
    return value.quantize(Decimal("0.1"))


def _priority(world: World, event: dict[str, Any], rng: random.Random) -> None:
    """A person sets the equipment by hand."""
    del rng
    of = lever(world, event["control"])
    plant, value = world.building.plants[of.device], value_of(of, event["value"])
    before = plant.effective
    if of.kind == "bacnet":
        plant.slots[PERSON] = value
        world.then(world.now() + 4 * HOUR, "priority.given-back", control=event["control"])
    else:
        plant.register = value
    _note_write(world, of, before, value, "person", PERSON if of.kind == "bacnet" else None)


def _given_back(world: World, event: dict[str, Any], rng: random.Random) -> None:
    """The person empties their own priority."""
    del rng
    of = lever(world, event["control"])
    plant = world.building.plants[of.device]
    before = plant.effective
    if plant.slots.pop(PERSON, None) is not None:
        _note_write(world, of, before, None, "person", PERSON)


def _note_write(  # noqa: PLR0913, PLR0917 -- all that is to be known of a write
    world: World, of: Lever, before: Decimal, written: Decimal | None, by: str, slot: int | None
) -> None:
    """`before`, `value`: what the equipment does; `written`: what was written, null: nothing."""
    plant = world.building.plants[of.device]
    world.note(
        "write", control=of.name, device=of.device, point="set", by=by, slot=slot,
        before=str(before), value=str(plant.effective),
        written=None if written is None else str(written),
    )  # fmt: skip


def _guard(world: World, event: dict[str, Any], rng: random.Random) -> None:
    del rng
    world.building.plants[lever(world, event["control"]).device].cold += 1


def _guard_ended(world: World, event: dict[str, Any]) -> None:
    world.building.plants[lever(world, event["control"]).device].cold -= 1


def _inhibit(world: World, event: dict[str, Any], rng: random.Random) -> None:
    """The operator turns the switch at the plant."""
    del rng
    world.building.plants[lever(world, event["control"]).device].switched += 1


def _inhibit_ended(world: World, event: dict[str, Any]) -> None:
    world.building.plants[lever(world, event["control"]).device].switched -= 1


def _look_at(world: World, plant: Plant) -> None:
    """Have somebody look when the watchdog of a device may run out, unless somebody does so before:
    one look waits for each device, however often it is fed."""
    due = plant.fed + float(plant.dog)
    if due < plant.looked:
        plant.looked = due
        world.then(due, "starved", device=plant.lever.device)


def _starved(world: World, event: dict[str, Any], rng: random.Random) -> None:
    """The watchdog of a device runs out, unless it was fed since."""
    del rng
    plant = world.building.plants[event["device"]]
    if world.now() < plant.looked - 0.001:
        return
    plant.looked = math.inf
    if not plant.dog:
        return
    if world.now() < plant.fed + float(plant.dog) - 0.001:
        _look_at(world, plant)
        return
    before, plant.dog = plant.effective, Decimal(0)
    plant.register = Decimal(plant.lever.fallback)
    _note_write(world, plant.lever, before, plant.register, "watchdog", None)


DO = {
    "device": _device,
    "line": _line,
    "priority": _priority,
    "priority.given-back": _given_back,
    "guard": _guard,
    "inhibit": _inhibit,
    "starved": _starved,
}
END = {
    "device": _device_ended,
    "line": _line_ended,
    "guard": _guard_ended,
    "inhibit": _inhibit_ended,
}


def heal(world: World) -> None:
    """All faults end."""
    of = world.building
    of.faults, of.down = {}, []
    for plant in of.plants.values():
        plant.cold = plant.switched = 0
        before = plant.effective
        if plant.slots.pop(PERSON, None) is not None:
            _note_write(world, plant.lever, before, None, "person", PERSON)


def exchange(world: World, number: int, rng: random.Random) -> dict[str, Any]:
    """Another meter in the place of one; what both showed."""
    one, now = fitting(world, number), world.now()
    old = world.building.meters[one.name]
    generation = int(old.serial[2:5]) + 1
    base, rate = Decimal(rng.randrange(5000)).scaleb(-3), old.rate * rng.uniform(0.8, 1.2)
    if rng.random() < USED:
        base = old.index(now) + base / 10
    new = Meter(
        houses.serial_of(one.kind, world.house.fittings.index(one), generation),
        base.quantize(Decimal("0.001")), round(rate, 4), now,
    )  # fmt: skip
    world.building.meters[one.name] = new
    one.serial = new.serial
    shown = {
        "device": one.name, "channel": one.channel, "old": old.serial, "new": new.serial,
        "closing": str(old.index(now)), "opening": str(new.index(now)),
    }  # fmt: skip
    world.note("meter", **shown)
    return shown


def remove(world: World, number: int) -> dict[str, Any]:
    """A meter is taken out, and no other one comes in its place; what it showed."""
    one, now = fitting(world, number), world.now()
    old = world.building.meters[one.name]
    world.building.removed.add(one.name)
    shown = {"device": one.name, "channel": one.channel, "old": old.serial,
             "closing": str(old.index(now))}  # fmt: skip
    world.note("meter", **shown, new=None)
    return shown


# The drivers

_OF: list[World] = []
"""the world of this process"""


def install(world: World) -> None:
    """Let the agent of this process open the lines of this building."""
    _OF[:] = [world]
    agent.drivers.DRIVERS = MappingProxyType({
        **agent.drivers.DRIVERS,
        "modbus-tcp": f"{__name__}:SimModbus",
        "mbus": f"{__name__}:SimMbus",
        "bacnet": f"{__name__}:SimBacnet",
    })  # fmt: skip


def _line_of(settings: Any) -> int:
    """The number of a line by the address that is configured for it."""
    where = getattr(settings, "host", "") or getattr(settings, "address", "") or settings.port
    if where.startswith("/dev/"):
        return int(where.rpartition("-")[2])
    return int(where.partition("/")[0].rpartition(".")[2]) - 1


class Simulated:
    """An open line of the building."""

    KIND = ""

    def __init__(self, line: int, ours: tuple[int, ...] = ()) -> None:
        self.number, self.ours = line, ours
        self.world = _OF[0]
        self.rng = self.world.chance.of(f"line/{line}")

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Any) -> AsyncIterator[Any]:
        """Open the line. Raises LinkLost while it is down."""
        slots = getattr(settings, "slots", None)
        line = cls(_line_of(settings), slots.ours if slots else ())
        await asyncio.sleep(line.rng.uniform(0.01, 0.2))
        line.must_be_up()
        line.world.note("opened", line=line.number)
        yield line

    def must_be_up(self) -> None:
        if self.number in self.world.building.down:
            raise LinkLost("no connection")

    async def read(self, points: Sequence[Point]) -> list[Sample]:
        """Read points of one device; see `agent.drivers.base.Reads`."""
        one, plant = self._of(points[0].address)
        name = one.name if one else plant.lever.device if plant else ""
        if not await self._answers(name):
            self.world.note("silent", line=self.number, device=name)
            return [
                Sample(point, seconds(), why=Why.SILENT, detail="no answer") for point in points
            ]
        samples = [self._sample(point, one, plant, name) for point in points]
        self.world.moment("answer")
        return samples

    def _of(self, address: str) -> tuple[Fitting | None, Plant | None]:
        """What hangs at an address of this line."""
        house, of = self.world.house, self.world.building
        for one in house.fittings:
            if (one.line, one.address) == (self.number, address):
                return one, None
        for plant in of.plants.values():
            if (plant.lever.line, plant.lever.address) == (self.number, address):
                return None, plant
        return None, None

    async def _answers(self, name: str) -> bool:
        """Wait for a device; whether it answers. Raises LinkLost."""
        of, faults = self.world.building, self.world.building.faults.get(name, ())
        self.must_be_up()
        takes = self.rng.uniform(*TAKES[self.KIND])
        restarted = self.world.now() - of.restarted.get(name, -math.inf)
        mute = {"silent", "wrong-unit"} & set(faults) or ("reboot" in faults and restarted < 30)
        if "late" in faults:
            takes = self.rng.uniform(0.2, 1.5) * TIMEOUT[self.KIND]
        mute = mute or name in of.removed
        silent = not name or bool(mute) or takes > TIMEOUT[self.KIND]
        if "slow" in faults and not silent:
            takes = self.rng.uniform(*SLOW)
        await asyncio.sleep(TIMEOUT[self.KIND] if silent else takes)
        self.must_be_up()
        return not silent

    def _sample(
        self, point: Point, one: Fitting | None, plant: Plant | None, name: str
    ) -> Sample:  # fmt: skip
        value: Value | None = None
        if one is not None:
            value = self._of_meter(point, one)
        elif plant is not None:
            value = _of_plant(plant, point)
        faults = self.world.building.faults.get(name, ())
        if value is None or "reboot" in faults:
            return Sample(point, seconds(), why=Why.BAD, detail=UNDEFINED)
        is_odd = "garbage" in faults and one is not None and self.rng.random() < 0.7
        if is_odd:
            odd = self.rng.choice(ODD)
            if odd == UNDEFINED:
                return Sample(point, seconds(), why=Why.BAD, detail=UNDEFINED)
            value = odd if point.at != one.serial_at else value
        if one is not None and point.at == one.at:
            assert isinstance(value, Decimal)
            shown = str(value)
            value = value / point.scale
            self.world.note(
                "answer", line=self.number, device=name, channel=one.channel, value=shown,
                meter=self.world.building.meters[name].serial, wall=seconds(),
                **({"odd": True} if is_odd else {}),
            )  # fmt: skip
        return Sample(point, seconds(), value)

    def _of_meter(self, point: Point, one: Fitting) -> Value | None:
        meter = self.world.building.meters[one.name]
        if point.at == one.at:
            return meter.index(self.world.now())
        if one.serial_at and point.at == one.serial_at:
            self.world.note("number", line=self.number, device=one.name, meter=meter.serial)
            return Decimal(meter.serial) if self.KIND == "modbus" else meter.serial
        return None

    async def write(self, point: Point, value: Value | None, slot: int | None) -> None:
        """Write a raw value; see `agent.drivers.base.Writes`. The confirmation may be lost."""
        self._check_write(point, slot)
        _, plant = self._of(point.address)
        name = plant.lever.device if plant else ""
        faults = self.world.building.faults.get(name, ())
        if "protected" in faults:  # it answers, and takes nothing
            await self._answers(name)
            raise WriteRefused("{device} did not take the value", device=point.device)
        lost = bool(faults) and self.rng.random() < 0.5
        if lost and plant is not None:
            self.must_be_up()
            self._written(plant, point, value, slot)
        if plant is None or not await self._answers(name):
            raise WriteRefused("{device} did not confirm the write: silent", device=point.device)
        if not lost:
            self._written(plant, point, value, slot)
        self.world.moment("write-answer")

    def _check_write(self, point: Point, slot: int | None) -> None:
        if not point.writable:
            raise Refused("{name} is not writable", name=point.name)
        if (slot is None) == bool(self.ours) or (slot is not None and slot not in self.ours):
            raise Refused("priority {slot} is not the gateway's", slot=slot)

    def _written(self, plant: Plant, point: Point, value: Value | None, slot: int | None) -> None:
        at, before = houses.REGISTERS[self.KIND], plant.effective
        if point.at == at["dog"]:
            assert isinstance(value, Decimal)
            plant.dog, plant.fed = value * point.scale, self.world.now()
            if plant.dog:
                _look_at(self.world, plant)
            return
        if point.at != at["set"]:
            raise WriteRefused("{device} has no such value", device=point.device)
        written = None if value is None else Decimal(value) * point.scale
        if slot is None:
            assert written is not None
            plant.register = written
        elif written is None:
            plant.slots.pop(slot, None)
        else:
            plant.slots[slot] = written
        _note_write(self.world, plant.lever, before, written, "agent", slot)

    async def held(self, point: Point) -> PointSlots:
        """The values at a point; see `agent.drivers.base.Writes`."""
        _, plant = self._of(point.address)
        if plant is None or not await self._answers(plant.lever.device):
            raise WriteRefused(
                "{device}/{name} cannot be read", device=point.device, name=point.name
            )
        if not self.ours:
            raw = _of_plant(plant, point)
            if raw is None or "reboot" in self.world.building.faults.get(plant.lever.device, ()):
                raise WriteRefused("{name} cannot be read", name=point.name)
            return PointSlots({0: raw})
        others = {slot: value for slot, value in plant.slots.items() if slot not in self.ours}
        return PointSlots({slot: plant.slots.get(slot) for slot in self.ours}, None, others)

    async def sweep(self, points: Sequence[Point]) -> list[Swept]:
        """Empty the gateway's slots; see `agent.drivers.base.Writes`."""
        swept = []
        for point in points if self.ours else ():
            try:
                for slot, value in (await self.held(point)).ours.items():
                    if value is not None:
                        await self.write(point, None, slot)
                        left = (await self.held(point)).ours[slot]
                        swept.append(Swept(point, slot, value, empty=left is None))
            except WriteRefused as error:
                swept.append(Swept(point, None, None, empty=False, detail=str(error)))
        return swept

    async def record(self, points: Sequence[Point], serial: Point | None) -> Any:
        """Not simulated."""
        del points, serial
        raise Refused("not recorded here")

    async def discover(self, wish: Any) -> AsyncIterator[Any]:
        """Nobody searches a simulated line."""
        del wish
        return
        yield

    def record_to(self, record: Any) -> None:
        """Nobody listens."""

    def turn(self) -> Turn:
        """Nothing disturbs a simulated line."""
        return Turn()

    def health(self) -> dict[str, Any]:
        """Nothing to report."""
        return {}


def _of_plant(plant: Plant, point: Point) -> Value | None:
    at = houses.REGISTERS[plant.lever.kind]
    known = {at["set"]: plant.effective, at["room"]: plant.room, at["off"]: Decimal(plant.off),
             at["dog"]: plant.dog}  # fmt: skip
    value = known.get(point.at)
    return None if value is None else value / point.scale


class SimModbus(Simulated, ModbusTcp):  # type: ignore[misc] # its own line in place of bytes
    """Modbus TCP without a network."""

    KIND = "modbus"


class SimMbus(Simulated, MbusSerial):  # type: ignore[misc] # see SimModbus
    """M-Bus without a serial port."""

    KIND = "mbus"

    async def seek(self) -> AsyncIterator[Any]:
        """No other meters are found."""
        return
        yield


class SimBacnet(Simulated, Bacnet):  # type: ignore[misc] # see SimModbus
    """BACnet without a network."""

    KIND = "bacnet"

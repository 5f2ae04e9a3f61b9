"""Twenty-five meters on one line, read by the agent's own poller and drivers in virtual time.

The line is in memory, so that nothing depends on the machine; or a real pseudo-terminal or socket,
before whose answers the time does not jump. Everything of the agent is its own.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from agent.acquisition.device import Device
from agent.acquisition.ingest import Ingest, SlotAccount
from agent.acquisition.poller import Poller
from agent.acquisition.slots import SlotLedger
from agent.core.clock import Clock
from agent.core.model import Point
from agent.core.tasks import end
from agent.drivers.link import Link
from agent.drivers.mbus.bus import MbusTcp
from agent.drivers.mbus.line import MbusWire
from agent.drivers.mbus.settings import MbusTcpSettings as MbusSettings
from agent.drivers.modbus.bus import ModbusRtu, ModbusTcp, ModbusTcpSettings, RtuSettings
from agent.drivers.modbus.rtu import Speed
from agent.drivers.modbus.stream import ByteStream
from agent.drivers.modbus.wire import RtuWire, TcpWire
from hil.disturber import Gateway, Kind
from hil.mbus.encode import Plate, energy_kwh
from hil.mbus.line import Bus, Converter
from hil.mbus.slave import Slave
from hil.serial_line import SerialLine
from tests.unit.acquisition.house import NOW, Town
from tests.virtual_time import PatientLoop, VirtualLoop, clocks_at

METERS = 25
TIMEOUT = 1.0
BEGIN = NOW // 900 * 900 - 5


def answering(unit):
    """A meter that says its number in every register, and its serial number where that stands."""

    def answer(pdu):
        if pdu[0] in {6, 16}:
            return pdu[:5]
        start, count = int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
        said = int(f"100{unit}") if start >= 64_512 else unit
        cells = said.to_bytes(4, "big") * (-(-count // 2))
        return bytes([pdu[0], 2 * count]) + cells[: 2 * count]

    return answer


class _Plug(asyncio.Transport):
    """What the agent's stream writes to, where nothing is between."""

    def __init__(self, put, shut) -> None:
        super().__init__()
        self.put, self.shut = put, shut

    def write(self, data) -> None:
        asyncio.get_running_loop().call_soon(self.put, bytes(data))

    def close(self) -> None:
        self.shut()


class Rtu:
    """The meters on a serial line."""

    def __init__(self, baudrate=9600, kernel=False) -> None:
        self.baudrate, self.kernel = baudrate, kernel

    @asynccontextmanager
    async def up(self):
        opening = SerialLine.open if self.kernel else SerialLine.bare
        async with opening(self.baudrate, seed=3) as self.line:
            self.line.tick = 0.016  # as a USB adapter hands over what it hears
            for unit in range(1, METERS + 1):
                self.line.add(unit, answering(unit), 0.02)
            yield

    name = staticmethod(str)
    """how the line's evidence names a meter"""

    def disturb(self, unit, disturber) -> None:
        disturber.baudrate = self.baudrate
        self.line.units[unit - 1].spoils = disturber

    @asynccontextmanager
    async def open(self):
        if self.kernel:
            settings = RtuSettings(port=self.line.port, baudrate=self.baudrate, timeout=TIMEOUT)
            async with ModbusRtu.open(settings) as driver:
                yield driver
            return
        stream = ByteStream("memory")
        stream.connection_made(_Plug(self.line.take, lambda: None))
        self.line.hands_over = stream.data_received
        yield ModbusRtu(RtuWire(stream, Speed(self.baudrate), TIMEOUT))

    def point(self, name, at, unit, every):
        return Point(name, at[0], str(unit), at[1], every, *at[2:])


class Tcp(Rtu):
    """The meters behind a gateway."""

    @asynccontextmanager
    async def up(self):
        self.gateway = Gateway(self.baudrate)
        self.gateway.units = {unit: answering(unit) for unit in range(1, METERS + 1)}
        async with AsyncExitStack() as stack:
            self.port = 0
            if self.kernel:
                self.port = await stack.enter_async_context(self.gateway.serve())
            yield

    def disturb(self, unit, disturber) -> None:
        disturber.baudrate = self.baudrate
        self.gateway.disturbers[unit] = disturber

    @asynccontextmanager
    async def open(self):
        if self.kernel:
            settings = ModbusTcpSettings(host="127.0.0.1", port=self.port, timeout=TIMEOUT)
            async with ModbusTcp.open(settings) as driver:
                yield driver
            return
        stream = ByteStream("memory")
        visit = self.gateway.connected(stream.data_received, lambda: stream.connection_lost(None))
        stream.connection_made(_Plug(visit.feed, visit.end))
        wire = TcpWire(stream, TIMEOUT)
        try:
            yield ModbusTcp(wire, wire.pace.tariff)
        finally:
            visit.end()


class Mbus:
    """The meters on an M-Bus line, addressed by their numbers."""

    kernel = False

    @staticmethod
    def name(unit):
        return number(unit)

    def __init__(self, baudrate=2400, noise=0.0) -> None:
        self.bus = Bus([], baudrate, paced=True, overlaps=True, noise=noise)
        self.disturbers = {}

    @asynccontextmanager
    async def up(self):
        self.bus.slaves = [
            Slave(Plate(number(unit)), partial(_energy, unit)) for unit in range(1, METERS + 1)
        ]
        yield

    def disturb(self, unit, disturber) -> None:
        disturber.baudrate = self.bus.baudrate
        slave = self.bus.slaves[unit - 1]
        hears, own = slave.hears, slave.plate

        def spoilt(frame):
            other = disturber.kind is Kind.OTHER
            slave.header = Plate(number(disturber.other)) if other else own
            answer, slave.late = hears(frame), 0.0
            if len(answer) <= 1:
                return answer
            said = disturber.said(answer, answer)
            slave.late = said[0][0] * self.bus.baudrate if said else 0.0
            return said[0][1] if said else b""

        slave.hears = spoilt

    @asynccontextmanager
    async def open(self):
        wire, loop = MbusWire("memory"), asyncio.get_running_loop()
        converter = Converter(self.bus, wire.feed)
        wire.goes_to(lambda data: loop.call_soon(converter.feed, data))
        settings = MbusSettings(host="memory", port=1, baudrate=self.bus.baudrate)
        try:
            yield MbusTcp(wire, settings, settings.latency)
        finally:
            converter.close()

    def point(self, name, at, unit, every):
        where = {"energy": "heat:energy", "serial": "id"}[at[0]]
        return Point(name, at[0], number(unit), where, every, *at[2:])


def number(unit):
    """What stands on the plate."""
    return f"{int(f'100{unit}'):08d}"


def _energy(unit):
    return [energy_kwh(unit)]


@dataclass
class Run:
    """What came of it."""

    rows: list = field(default_factory=list)
    places: dict = field(default_factory=dict)
    begun: float = 0.0
    ended: float = 0.0
    step: int = 60
    wrong: list = field(default_factory=list)

    def kept(self, units, since=0.0):
        """The share of the slots of these meters that came with a value."""
        first = int(-(-(self.begun + since) // self.step))
        slots = {n * self.step for n in range(first, int((self.ended - 3) // self.step) + 1)}
        wanted = {self.places[unit] for unit in units}
        got = {
            (row.series.place, row.t)
            for row in self.rows
            if row.why is None and row.series.place in wanted and row.t in slots
        }
        return len(got) / (len(slots) * len(wanted))


class House:
    """The meters, the line, and the agent's poller on it."""

    def __init__(self, folder, bus, step=60, order=None) -> None:
        self.bus, self.result = bus, Run(step=step)
        self.town = Town(folder, dwellings=METERS, step=step)
        self.points, self.devices, now = {}, [], asyncio.get_running_loop().time
        for unit in order or range(1, METERS + 1):
            name = f"m{unit}"
            energy = bus.point(name, ("energy", "input/72/uint32", "elec.imp", "kWh"), unit, step)
            serial = bus.point(name, ("serial", "holding/64512/uint32"), unit, 0)
            self.points[name, step] = [energy]
            self.devices.append(Device(name, [energy], serial))
            self.result.places[unit] = self.town.place(f"D{unit}")
        self.clock = Clock("system", None, time.time, now)
        self.ledger = SlotLedger(self.town.gate(), self.points, {})
        self.intake = Ingest(self.append, flush=5.0)
        self.link = Link("riser", bus.open)
        self.poller = Poller(
            self.link, self.devices, [SlotAccount(self.ledger, self.intake)], self.clock,
            lambda *_: None,
        )  # fmt: skip

    async def append(self, rows, _marks):
        self.result.rows += rows

    @asynccontextmanager
    async def running(self):
        self.result.begun = time.time()
        jobs = [self.link.serve(), self.poller.run(), self.intake.serve()]
        tasks = [asyncio.ensure_future(job) for job in jobs]
        try:
            yield self
        finally:
            for task in tasks:
                if task.done() and not task.cancelled():
                    task.result()
            await end(tasks)
            await self.intake.commit()
            self.result.ended = time.time()


def virtually(story, kernel=False):
    """Run a coroutine in virtual time: all clocks are the loop's."""
    with clocks_at(BEGIN, PatientLoop if kernel else VirtualLoop) as runs:
        return runs(story)


def run(folder, bus, disturbers, seconds, step=60):
    """The building for so long with these disturbers: by unit."""

    async def story():
        async with bus.up():
            for unit, disturber in disturbers.items():
                bus.disturb(unit, disturber)
            house = House(folder, bus, step)
            async with house.running():
                await asyncio.sleep(seconds)
            return house

    return virtually(story(), bus.kernel)

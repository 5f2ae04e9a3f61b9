"""A pretend line and the driver on it, for the tests."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from agent.core.model import Point
from agent.drivers.mbus.bus import MbusSerial, MbusTcp
from agent.drivers.mbus.line import BITS, MbusLine, MbusWire, Reply
from agent.drivers.mbus.settings import MbusTcpSettings, SerialSettings
from hil.mbus.encode import HEAT, WATER, Plate, energy_kwh, flow_temperature, volume_litres
from hil.mbus.line import Bus, Converter
from hil.mbus.serve import pty, tcp
from hil.mbus.slave import Slave

LATENCY = 0.01


def heat(number: str, primary: int = 0, base: int = 7_351_000, **more) -> Slave:
    """A heat meter whose index rises by 1 kWh with each new answer."""
    return _meter(Plate(number, medium=HEAT, **more), primary, base)


def water(number: str, primary: int = 0, base: int = 7_351_000, **more) -> Slave:
    return _meter(Plate(number, medium=WATER, **more), primary, base)


def _meter(plate, primary, base):
    made = Slave(plate, list, primary)

    def says():
        now = base + made.answers
        if plate.medium == WATER:
            return [volume_litres(now) + volume_litres(base - 1000, storage=1)]
        return [energy_kwh(now) + volume_litres(now) + flow_temperature(653) + energy_kwh(9, 1)]

    made.says = says
    return made


def points(address: str, *ats: str, unit: str = "kWh") -> list[Point]:
    wanted = ats or ("heat:energy",)
    units = {"volume": "m3", "id": "1"}
    return [
        Point("meter", at, address, at, 60, unit=units.get(at.split("/")[0].split(":")[-1], unit))
        for at in wanted
    ]


@asynccontextmanager
async def on_tcp(bus: Bus, baudrate: int = 38_400, latency: float = LATENCY):
    async with tcp(bus) as port:
        settings = MbusTcpSettings(
            host="127.0.0.1", port=port, baudrate=baudrate, listen=0, latency=latency
        )
        async with MbusTcp.open(settings) as driver:
            yield driver


@asynccontextmanager
async def on_serial(bus: Bus, baudrate: int = 38_400):
    async with pty(bus) as port:
        settings = SerialSettings(port=port, baudrate=baudrate, listen=0, latency=LATENCY)
        async with MbusSerial.open(settings) as driver:
            yield driver


@asynccontextmanager
async def bare_line(bus: Bus):
    """A line without a socket, on which silence is over at once: a search asks thousands."""
    wire, loop = MbusWire("bare"), asyncio.get_running_loop()
    converter = Converter(bus, lambda data: loop.call_soon(wire.feed, data))
    wire.goes_to(converter.feed)
    yield MbusLine(wire, 10_000_000, 0.0005, patience=0)


class TimedLine(MbusLine):
    """A line that waits for nothing, and counts in `busy` the seconds that a real one would."""

    async def _exchange(self, request, baudrate, wanted):
        self.wire.send(request, baudrate)
        for _ in range(3):  # the converter answers in one turn of the loop
            await asyncio.sleep(0)
        heard = bytes(self.wire.received)
        answer = wanted(heard)
        self.asked += 1
        on_the_wire = (len(request) + len(answer or b"")) * BITS / baudrate
        self.busy += on_the_wire if answer else self.window(request, baudrate)
        return Reply(answer) if answer else Reply(noise=heard)


@asynccontextmanager
async def timed_line(bus: Bus, baudrate: int, latency: float):
    wire, loop = MbusWire("timed"), asyncio.get_running_loop()
    converter = Converter(bus, lambda data: loop.call_soon(wire.feed, data))
    wire.goes_to(converter.feed)
    yield TimedLine(wire, baudrate, latency)

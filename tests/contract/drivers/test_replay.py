"""What was recorded on a line of any driver is replayed as a device, which is found again."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from agent.drivers.bacnet.bus import Bacnet
from agent.drivers.bacnet.settings import BacnetSettings
from agent.drivers.base import Wish
from agent.drivers.link import Link
from agent.drivers.mbus.bus import MbusSerial, MbusTcp
from agent.drivers.mbus.settings import MbusTcpSettings, SerialSettings
from agent.drivers.modbus.bus import ModbusRtu, ModbusTcp, ModbusTcpSettings, RtuSettings
from agent.drivers.trace import Recorder
from hil.bacnet.controller import accumulator, analog_input, free_udp_port
from hil.building import Building
from hil.mbus.line import Bus
from hil.replay import Replay, pty, tcp, udp
from hil.serial_line import SerialLine
from tests.contract.drivers.bacnet.net import net
from tests.contract.drivers.hearing import scanned
from tests.contract.drivers.mbus.setting import heat, on_serial, on_tcp
from tests.contract.drivers.modbus.peer import peer, point
from tests.contract.drivers.modbus.peer import settings as modbus_settings


@asynccontextmanager
async def modbus_tcp():
    async with Building.open(lines=1, meters=2) as building:
        settings = ModbusTcpSettings(host="127.0.0.1", port=building.ports[0], timeout=0.3)
        async with ModbusTcp.open(settings) as driver:
            yield driver, settings, Wish(last="2")


@asynccontextmanager
async def modbus_rtu():
    async with SerialLine.open(0) as line:
        line.add(3, lambda pdu: bytes((pdu[0] | 0x80, 2)), after=0.0)
        settings = RtuSettings(port=line.port, timeout=0.2)
        async with ModbusRtu.open(settings) as driver:
            driver.listens = 0.0
            yield driver, settings, Wish(first="3", last="3")


@asynccontextmanager
async def mbus(on):
    settings = MbusTcpSettings(host="127.0.0.1", port=1, baudrate=38_400, latency=0.01)
    async with on(Bus([heat("45123456", primary=5)], baudrate=38_400)) as driver:
        yield driver, settings, Wish(first="5", last="6")


@asynccontextmanager
async def bacnet():
    objects = [
        analog_input(1, "T depart chauffage", 60, "degrees-celsius"),
        accumulator(1, "Chaleur impulsions", 482_110, "kilowatt-hours", integer_scale=-1),
    ]
    async with net() as on:
        await on.add(1201, objects, name="Chaufferie")
        yield await on.driver(), on.settings(), Wish()


async def again(kind, trace):
    """The devices that the same search finds at the player of a trace."""
    replay = Replay(trace)
    if kind == "modbus-tcp":
        async with tcp(replay) as port:
            settings = ModbusTcpSettings(host="127.0.0.1", port=port, timeout=0.3)
            async with ModbusTcp.open(settings) as driver:
                return await scanned(driver, kind, settings, Wish(last="2"))
    if kind == "modbus-rtu":
        async with pty(replay) as path:
            settings = RtuSettings(port=path, timeout=0.2)
            async with ModbusRtu.open(settings) as driver:
                driver.listens = 0.0
                return await scanned(driver, kind, settings, Wish(first="3", last="3"))
    if kind == "bacnet":
        async with udp(replay) as port:
            ours = {"address": "127.0.0.1/8", "port": free_udp_port(), "timeout": 0.6, "cov": 0}
            settings = BacnetSettings(**ours, ask=(f"127.0.0.2:{port}",))
            async with Bacnet.open(settings) as driver:
                return await scanned(driver, kind, settings, Wish())
    more = {"baudrate": 38_400, "listen": 0, "latency": 0.01}
    if kind == "mbus":
        async with pty(replay) as path:
            serial = SerialSettings(port=path, **more)
            async with MbusSerial.open(serial) as driver:
                return await scanned(driver, kind, serial, Wish(first="5", last="6"))
    async with tcp(replay) as port:
        settings = MbusTcpSettings(host="127.0.0.1", port=port, **more)
        async with MbusTcp.open(settings) as driver:
            return await scanned(driver, kind, settings, Wish(first="5", last="6"))


LINES = {
    "modbus-tcp": modbus_tcp,
    "modbus-rtu": modbus_rtu,
    "mbus-tcp": lambda: mbus(on_tcp),
    "mbus": lambda: mbus(on_serial),
    "bacnet": bacnet,
}


@pytest.mark.parametrize("kind", LINES)
def test_a_trace_of_a_search_is_explained_and_replayed(kind):
    async def attack():
        async with LINES[kind]() as (driver, settings, wish):
            found, hearing = await scanned(driver, kind, settings, wish)
        return found, hearing, *await again(kind, "\n".join(hearing.lines))

    found, hearing, found_again, heard_again = asyncio.run(attack())
    assert found
    assert [one.name for one in found_again] == [one.name for one in found]
    assert [one.entry for one in found_again] == [one.entry for one in found]
    assert heard_again.odd.keys() == hearing.odd.keys()
    assert heard_again.heard.values == hearing.heard.values
    assert hearing.heard.values or kind == "modbus-rtu"
    assert all(one["expected"] for one in hearing.odd.values()), hearing.odd


def test_nothing_is_recorded_where_nobody_listens():
    async def attack():
        async with modbus_tcp() as (driver, settings, wish):
            _, hearing = await scanned(driver, "modbus-tcp", settings, wish)
            async for _ in driver.discover(wish):
                pass
            return hearing.recorder.take(), driver.wire.stream.record

    assert asyncio.run(attack()) == ([], None)


def test_a_line_that_is_opened_again_is_recorded_on():
    closed = []

    async def hangs_up_once(request, writer):
        if not closed:
            closed.append(True)
            writer.close()
            return
        writer.write(request.frame(*[7] * request.count))

    async def attack():
        async with peer(hangs_up_once) as port:
            link = Link("hall", lambda: ModbusTcp.open(modbus_settings(port, 0.5)))
            serving = asyncio.ensure_future(link.serve())
            await link.tried()
            first, second = Recorder(), Recorder()
            with link.recorded(first):
                (sample,) = await link.read([point("holding/3/uint16")])
                with link.recorded(second):
                    await link.read([point("holding/4/uint16")])
            await link.read([point("holding/5/uint16")])
            serving.cancel()
            await asyncio.wait([serving])
            return sample.value, first.take(), second.take()

    value, events, inner = asyncio.run(attack())
    assert value == 7
    shapes = [event.note or event.direction for event in events]
    assert shapes == [">", "the line was opened again", ">", "<", ">", "<"]
    assert inner == [replace(event, at=at.at) for event, at in zip(events[-2:], inner, strict=True)]

"""What is connected to a port is found out: protocol, speed, parity, addresses, another master.

The lines are pseudo terminals; bytes sent at another speed or parity arrive as garbage (hil.uart).
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest

from agent.core.errors import Refused
from agent.drivers.base import Progress
from agent.drivers.host_search import places, search_hosts
from agent.drivers.line_search import FoundLine, NothingFound, listen_to_port, search_port
from hil.mbus import serve
from hil.mbus.encode import HEAT, Plate, energy_wh
from hil.mbus.line import Bus
from hil.mbus.slave import Slave
from hil.modbus_server import Reply, serving
from hil.process import free_port
from hil.serial_line import Registers, SerialLine, frame
from hil.uart import Framing
from tests.virtual_time import PatientLoop, clocks_at

QUESTION = bytes.fromhex("0300000002")
INDEX = 75_757_577
"""Wh; an index of few set bits might be that of several meters at once"""
ANSWER = bytes.fromhex("030400010203")


def in_its_time(story):
    with clocks_at(1_790_000_000, PatientLoop) as run:
        return run(story)


async def outcome(steps):
    """What a search ends with; its progress must make sense meanwhile."""
    results = []
    async for step in steps:
        if isinstance(step, Progress):
            assert 0 <= step.done <= step.total
        else:
            results.append(step)
    (result,) = results
    return result


@pytest.mark.parametrize(
    ("framing", "unit"),
    [
        (Framing(9600), 247),
        (Framing(19200, "even"), 45),
        (Framing(9600, "odd"), 3),
        (Framing(115200), 1),
        (Framing(4800, "even"), 5),
    ],
)
def test_speed_parity_and_all_addresses_of_a_modbus_line_are_found(framing, unit):
    async def story():
        async with SerialLine.open(framing.baudrate, framing=framing) as line:
            line.add(unit, Registers(fills=True))
            line.add(6, Registers({}))  # refuses every register, which is an answer too
            found = await outcome(search_port(line.port, seconds=3600))
            assert isinstance(found, FoundLine)
            wanted = {"port": line.port, "baudrate": framing.baudrate, "parity": framing.parity}
            assert (found.driver, found.settings, found.master) == ("modbus-rtu", wanted, False)
            assert set(found.devices) == {str(unit), "6"}
            assert str(found.sentence).startswith("Modbus RTU at ")

    in_its_time(story())


def test_two_devices_with_one_address_hide_neither_the_line_nor_the_others():
    async def story():
        async with SerialLine.open(9600, framing=Framing(9600, "even")) as line:
            for unit in (1, 1, 9):
                line.add(unit, Registers(fills=True))
            found = await outcome(search_port(line.port, seconds=3600))
            assert (found.settings["parity"], found.devices) == ("even", ("1", "9"))
            said = "At 1 an answer is garbled: two devices may have the same address"
            assert said in str(found.sentence)

    in_its_time(story())


@pytest.mark.parametrize("baudrate", [300, 2400, 9600])
@pytest.mark.parametrize("count", [1, 4])
def test_an_mbus_line_is_found_by_meters_that_answer_alone_or_all_at_once(baudrate, count):
    async def story():
        meters = [
            Slave(Plate(f"4512000{number}", medium=HEAT), lambda n=number: [energy_wh(INDEX >> n)])
            for number in range(count)
        ]
        async with serve.pty(Bus(meters, baudrate, paced=True), strict=True) as port:
            found = await outcome(search_port(port, seconds=3600))
            assert isinstance(found, FoundLine)
            assert (found.driver, found.settings) == ("mbus", {"port": port, "baudrate": baudrate})
            assert found.devices == (("45120000",) if count == 1 else ())
            assert all(meter.answers <= 2 for meter in meters)  # a battery bears few telegrams

    in_its_time(story())


def test_meters_whose_telegrams_look_like_one_when_they_collide_are_not_taken_for_one():
    async def story():
        meters = [
            Slave(Plate(f"4512000{number}", medium=HEAT), lambda: [energy_wh(1_000_000)])
            for number in range(4)
        ]
        async with serve.pty(Bus(meters, 2400, paced=True), strict=True) as port:
            found = await outcome(search_port(port, seconds=3600))
            assert (found.driver, found.devices) == ("mbus", ())
            assert "one or several meters answer" in str(found.sentence)

    in_its_time(story())


def test_a_port_where_nobody_answers_says_what_to_check_and_that_it_gave_up():
    async def story():
        async with SerialLine.open(9600, framing=Framing(9600)) as line:
            result = await outcome(search_port(line.port, seconds=20))
            assert isinstance(result, NothingFound)
            assert "no device answers. Check that the devices have power" in str(result.sentence)
            assert f"gardien scan {line.port} --seconds 1800" in str(result.sentence)

    in_its_time(story())


@asynccontextmanager
async def another_master(line, pause=0.4):
    """A master that asks units 1, 2 and 7, of which 7 is not there."""

    async def asks():
        while True:
            for unit in (1, 2, 7):
                line.say(frame(unit, QUESTION))
                if unit != 7:
                    line.say(frame(unit, ANSWER), after=0.05)
                await asyncio.sleep(pause)

    line.tick = 0.05  # fewer looks at bytes on their way
    asking = asyncio.ensure_future(asks())
    try:
        yield
    finally:
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking


@pytest.mark.parametrize(
    ("search", "framing"),
    [
        (listen_to_port, Framing(9600)),
        (search_port, Framing(19200, "even")),
        (listen_to_port, Framing(38400, "odd")),
    ],
)
def test_another_master_is_listened_to_and_nothing_is_sent(search, framing):
    async def story():
        async with (
            SerialLine.open(framing.baudrate, framing=framing) as line,
            another_master(line),
        ):
            found = await outcome(search(line.port, 40))
            assert line.requests == 0
            assert isinstance(found, FoundLine)
            assert found.master
            wanted = {"port": line.port, "baudrate": framing.baudrate, "parity": framing.parity}
            assert (found.driver, found.settings) == ("modbus-rtu", wanted)
            assert found.devices == ("1", "2")
            said = str(found.sentence)
            assert "another master asks 1, 2, 7, and uses the line " in said
            assert "No answer from 7. gardien must not be a second master" in said

    in_its_time(story())


def test_mbus_of_another_master_is_known_by_its_frames():
    async def story():
        meters = [Slave(Plate("45120001", medium=HEAT), lambda: [energy_wh(5)], primary=5)]
        bus = Bus(meters, 2400)
        async with SerialLine.open(2400, framing=Framing(2400, "even")) as line:

            async def asks():
                while True:
                    question = bytes.fromhex("107b05801 6".replace(" ", ""))
                    line.say(question)
                    line.say(bus.ask(question)[1], after=0.2)
                    await asyncio.sleep(2)

            asking = asyncio.ensure_future(asks())
            found = await outcome(listen_to_port(line.port, 60))
            asking.cancel()
            assert line.requests == 0
            assert (found.driver, found.settings["baudrate"]) == ("mbus", 2400)
            assert (found.devices, found.master) == (("5",), True)

    in_its_time(story())


def test_swapped_wires_and_noise_are_no_line_and_are_described():
    async def story():
        inverted = Framing(9600, inverted=True)
        async with (
            SerialLine.open(9600, framing=inverted) as line,
            another_master(line, pause=0.1),
        ):
            result = await outcome(search_port(line.port, 300))
            assert line.requests == 0
            assert isinstance(result, NothingFound)
            assert "the wires A and B are swapped, or the line is disturbed" in str(result.sentence)

    in_its_time(story())


def test_a_silent_line_is_said_to_have_no_other_master():
    async def story():
        async with SerialLine.open(9600, framing=Framing(9600)) as line:
            result = await outcome(listen_to_port(line.port, 60))
            assert str(result.sentence) == "nothing was heard in 60 s: no other master is active"

    in_its_time(story())


def test_only_the_named_hosts_are_asked_and_what_answers_is_told_apart():
    async def story():
        asked = []

        def answer(unit, pdu):
            asked.append(pdu)
            return Reply(bytes([pdu[0], 2, 0, 1])) if unit in {1, 255} else None

        meters = [Slave(Plate("45120001", medium=HEAT), lambda: [energy_wh(INDEX)])]
        nobody = free_port()
        async with serving(answer) as modbus, serve.tcp(Bus(meters)) as mbus:
            hosts = [f"127.0.0.1:{port}" for port in (modbus, mbus, nobody)]
            results = [step async for step in search_hosts(hosts) if not isinstance(step, Progress)]
        by_port = {one.settings["port"]: one for one in results if isinstance(one, FoundLine)}
        assert by_port[modbus].driver == "modbus-tcp"
        assert by_port[modbus].devices == ("1", "255")
        assert (by_port[mbus].driver, by_port[mbus].devices) == ("mbus-tcp", ("45120001",))
        silent = [one.where for one in results if isinstance(one, NothingFound)]
        assert silent == [f"127.0.0.1:{nobody}"]
        assert all(pdu[0] in {3, 4} for pdu in asked)  # nothing is written

    asyncio.run(story())


def test_bacnet_devices_announce_themselves():
    async def story():
        loop, port = asyncio.get_running_loop(), free_port()

        class Controller(asyncio.DatagramProtocol):
            def connection_made(self, transport):
                self.transport = transport

            def datagram_received(self, data, addr):
                assert data[-2:] == b"\x10\x08"  # Who-Is
                i_am = bytes.fromhex(
                    "810a00140100 1000c4020004b1 2205c4 9103 2108".replace(" ", "")
                )
                self.transport.sendto(i_am, addr)

        controller, _ = await loop.create_datagram_endpoint(
            Controller, local_addr=("127.0.0.2", port)
        )
        steps = [step async for step in search_hosts([f"127.0.0.2:{port}"])]
        controller.close()
        (found,) = (one for one in steps if isinstance(one, FoundLine))
        assert (found.driver, found.devices) == ("bacnet", ("1201",))
        assert found.settings == {"address": "lo", "port": port, "ask": ["127.0.0.2"]}

    asyncio.run(story())


@pytest.mark.parametrize("host", ["10.0.0.0/8", "10.0.0.0/99", "10.0.0.1:0", "10.0.0.1:x"])
def test_a_misspelt_or_too_large_network_is_refused(host):
    with pytest.raises(Refused):
        places([host])


def test_a_network_leaves_out_its_own_address_and_ends():
    where, broadcasts = places(["192.0.2.0/29"])
    assert [one.host for one in where] == [f"192.0.2.{n}" for n in range(1, 7)]
    assert broadcasts == [("", "192.0.2.7", 47808)]

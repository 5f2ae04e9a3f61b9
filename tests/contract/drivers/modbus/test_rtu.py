"""The driver on a pretend RS-485 line: a pseudo-terminal at wire speed, and its troubles.
Rule F1.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from agent.core.errors import LinkLost
from agent.core.model import Point, Why
from agent.drivers.modbus.bus import ModbusRtu, RtuSettings
from agent.drivers.modbus.stream import MOST_KEPT, ByteStream
from hil.serial_line import Registers, SerialLine, frame

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def cells(unit: int, count: int = 120, function: int = 4) -> Registers:
    return Registers({(function, n): unit * 256 + n for n in range(count)})


def points(unit: int, *ats: str) -> list[Point]:
    return [Point(f"m{unit}", at, str(unit), at, 60) for at in ats]


@asynccontextmanager
async def opened(
    baudrate: int = 19200, within: float = 0.2
) -> AsyncIterator[tuple[SerialLine, ModbusRtu]]:
    async with SerialLine.open(baudrate) as line:
        settings = RtuSettings(port=line.port, baudrate=baudrate, timeout=within)
        async with ModbusRtu.open(settings) as driver:
            driver.wire.quiet_until = 0.0  # nobody was here before
            yield line, driver


def test_two_devices_on_one_line_are_read_at_wire_speed() -> None:
    async def attack() -> None:
        async with opened(9600) as (line, driver):
            for unit in (1, 2):
                line.add(unit, cells(unit), after=0.005)
            began = time.monotonic()
            for unit in (1, 2):
                samples = await driver.read(points(unit, "input/0/uint16", "input/9/uint16"))
                assert [s.value for s in samples] == [unit * 256, unit * 256 + 9]
            assert line.requests == 2
            # 8 + 25 characters and twice 3.5, twice: no faster than the wire
            assert time.monotonic() - began > 0.075

    asyncio.run(attack())


def test_a_unit_of_another_number_or_function_is_never_believed() -> None:
    async def attack() -> None:
        async with opened() as (line, driver):
            line.add(1, lambda _: None)

            async def foreign() -> None:
                line.say(frame(2, b"\4\2\0\7"))
                line.say(frame(1, b"\3\2\0\7"), after=0.05)
                line.say(frame(1, b"\4\4\0\7\0\7"), after=0.1)

            reading = asyncio.ensure_future(driver.read(points(1, "input/0/uint16")))
            await asyncio.sleep(0.02)
            await foreign()
            (sample,) = await reading
            assert sample.value is None

    asyncio.run(attack())


async def answers_right_or_not_at_all(driver) -> None:
    """Each of the next cells is its own, and in the end they come again."""
    for n in range(1, 12):
        (sample,) = await driver.read(points(1, f"input/{n}/uint16"))
        assert sample.value in {None, Decimal(256 + n)}
    assert sample.value == Decimal(256 + 11)


@pytest.mark.parametrize("late", [0.25, 0.35, 0.5, 0.9])
def test_a_late_answer_is_never_taken_for_the_next_of_its_device(late: float) -> None:
    async def attack() -> None:
        async with opened(within=0.1) as (line, driver):
            waits = iter([late])
            line.add(1, cells(1), after=lambda: next(waits, 0.01))
            assert (await driver.read(points(1, "input/0/uint16")))[0].why is Why.SILENT
            await answers_right_or_not_at_all(driver)

    asyncio.run(attack())


def test_a_device_that_reads_no_cell_more_is_left_alone_while_a_late_answer_may_come() -> None:
    async def attack() -> None:
        async with opened(within=0.1) as (line, driver):
            waits = iter([0.2])
            cell = Registers({(4, 0): 1, (4, 2): 2, (4, 4): 3})
            line.add(1, cell, after=lambda: next(waits, 0.01))
            assert (await driver.read(points(1, "input/0/uint16")))[0].why is Why.SILENT
            (sample,) = await driver.read(points(1, "input/2/uint16"))
            assert (sample.why, sample.detail[:13]) == (Why.SILENT, "a late answer")
            await asyncio.sleep(1)
            for at, value in ((2, 2), (4, 3), (0, 1)):
                (sample,) = await driver.read(points(1, f"input/{at}/uint16"))
                assert sample.value == Decimal(value)

    asyncio.run(attack())


def test_noise_while_we_wait_is_not_taken_for_the_answer_that_is_still_to_come() -> None:
    async def attack() -> None:
        async with opened(within=0.1) as (line, driver):
            waits = iter([0.6, 0.6, 0.6])
            line.add(1, cells(1), after=lambda: next(waits, 0.01))
            driver.wire._allowance[1] = 0  # asked once
            line.say(frame(1, b"\4\6\0\1\0\2\0\3")[:-1] + b"?", after=0.05)
            assert (await driver.read(points(1, "input/0/uint16")))[0].value is None
            for n in range(1, 30):
                (sample,) = await driver.read(points(1, f"input/{n}/uint16"))
                assert sample.value in {None, Decimal(256 + n)}
                await asyncio.sleep(0.01)

    asyncio.run(attack())


def test_noise_around_an_answer_costs_nothing_and_noise_in_it_a_repeat() -> None:
    async def attack() -> None:
        async with opened() as (line, driver):
            line.add(1, cells(1))
            await driver.read(points(1, "input/0/uint16"))
            dice = random.Random(5)
            turn = iter(range(10_000))

            def noise(sent: bytes) -> bytes:
                if next(turn) % 2:
                    return sent
                return dice.randbytes(3) + sent + dice.randbytes(2) if len(sent) != 8 else sent

            line.trouble.noise = noise
            for n in range(20):
                assert (await driver.read(points(1, f"input/{n}/uint16")))[0].value == 256 + n
            spoilt = iter([False, True] * 50)

            def spoil(sent: bytes) -> bytes:
                if len(sent) == 8 or not next(spoilt):
                    return sent
                return sent[:4] + bytes([sent[4] ^ 0x10]) + sent[5:]

            line.trouble.noise = spoil
            for n in range(10):
                assert (await driver.read(points(1, f"input/{n}/uint16")))[0].value == 256 + n

    asyncio.run(attack())


def test_an_adapter_that_echoes_is_read_all_the_same() -> None:
    async def attack() -> None:
        async with opened() as (line, driver):
            line.trouble.echo = True
            line.add(1, cells(1))
            for n in range(5):
                assert (await driver.read(points(1, f"input/{n}/uint32")))[0].value is not None
            assert driver.wire.echo

    asyncio.run(attack())


def test_a_dead_device_costs_one_timeout_and_its_neighbours_nothing() -> None:
    async def attack() -> None:
        async with opened(within=0.2) as (line, driver):
            line.add(2, cells(2))
            assert (await driver.read(points(1, "input/0/uint16")))[0].why is Why.SILENT
            assert line.requests == 1, "it is not asked again"
            assert (await driver.read(points(2, "input/0/uint16")))[0].value == 512

    asyncio.run(attack())


def test_a_device_that_dies_costs_three_timeouts_once_and_then_one() -> None:
    async def attack() -> None:
        async with opened(within=0.05) as (line, driver):
            one = line.add(1, cells(1))
            while (await driver.read(points(1, "input/0/uint16")))[0].why:
                pass  # a busy machine may miss its moment
            one.dead, asked = True, [line.requests]
            for _ in range(2):
                assert (await driver.read(points(1, "input/0/uint16")))[0].why is Why.SILENT
                asked.append(line.requests)
            assert [asked[1] - asked[0], asked[2] - asked[1]] == [3, 1]

    asyncio.run(attack())


def test_a_line_that_nobody_listens_to_fills_no_memory() -> None:
    stream = ByteStream("line")
    for _ in range(20):
        stream.data_received(b"x" * 1000)
    assert len(stream.received) == MOST_KEPT


def test_an_answer_of_the_wrong_count_gives_no_value() -> None:
    async def attack() -> None:
        async with opened() as (line, driver):
            line.add(1, lambda _: b"\4\4\0\1\0\2")
            (sample,) = await driver.read(points(1, "input/0/uint16"))
            assert (sample.value, sample.why) == (None, Why.BAD)
            assert "4 bytes of values in the answer, 2 expected" in sample.detail

    asyncio.run(attack())


def test_an_adapter_that_is_unplugged_loses_the_line() -> None:
    async def attack() -> None:
        async with opened() as (line, driver):
            line.add(1, cells(1))
            assert (await driver.read(points(1, "input/0/uint16")))[0].value == 256
            line.unplug()
            with pytest.raises(LinkLost, match=r"gone|written"):
                await driver.read(points(1, "input/0/uint16"))

    asyncio.run(attack())


def test_a_port_that_is_not_there_or_in_use_says_so() -> None:
    async def attack() -> None:
        with pytest.raises(LinkLost, match="cannot be opened: No such file"):
            async with ModbusRtu.open(RtuSettings(port="/dev/serial/by-id/none")):
                pass
        async with opened() as (line, _):
            with pytest.raises(LinkLost, match="another program"):
                async with ModbusRtu.open(RtuSettings(port=line.port)):
                    pass

    asyncio.run(attack())


def test_a_cancelled_read_leaves_its_answer_to_nobody() -> None:
    async def attack() -> None:
        async with opened() as (line, driver):
            line.add(1, cells(1), after=0.06)
            reading = asyncio.ensure_future(driver.read(points(1, "input/5/uint16")))
            await asyncio.sleep(0.04)
            reading.cancel()
            await asyncio.wait([reading])
            assert (await driver.read(points(1, "input/7/uint16")))[0].value == 256 + 7

    asyncio.run(attack())


def test_a_late_refusal_does_not_make_the_answer_behind_it_the_next_ones() -> None:
    """A converter with a queue: what was asked meanwhile is answered behind what came late."""

    async def attack() -> None:
        async with opened(within=0.1) as (line, driver):
            refuses = iter([b"\x84\x04"])
            waits = iter([0.16, 0.09])
            line.add(1, lambda pdu: next(refuses, cells(1)(pdu)), after=lambda: next(waits, 0.01))
            assert (await driver.read(points(1, "input/0/uint16")))[0].why is Why.SILENT
            await answers_right_or_not_at_all(driver)

    asyncio.run(attack())


def test_another_master_on_the_line_is_told_and_late_answers_and_echoes_are_none() -> None:
    async def attack() -> None:
        async with opened() as (line, driver):
            line.trouble.echo = True
            waits = iter([0.25, 0.25])
            line.add(1, cells(1), after=lambda: next(waits, 0.01))
            for n in range(6):
                await driver.read(points(1, f"input/{n}/uint16"))
            assert "worry" not in driver.health()
            for n in range(3):
                driver.wire.stream.received.clear()
                line.say(question := frame(2, bytes([3, 0, n, 0, 2])))
                while question not in driver.wire.stream.received:
                    await asyncio.sleep(0.01)
                await driver.read(points(1, "input/0/uint16"))
            assert "another master" in driver.health()["worry"]

    asyncio.run(attack())


@pytest.mark.parametrize("late", [0.03, 0.15])
def test_what_was_asked_before_the_line_was_opened_is_nobodys_answer(late: float) -> None:
    async def attack() -> None:
        async with SerialLine.open(19200) as line:
            waits = iter([late])
            line.add(1, cells(1), after=lambda: next(waits, 0.01))
            settings = RtuSettings(port=line.port, baudrate=19200, timeout=0.2)
            async with ModbusRtu.open(settings) as before:
                before.wire.quiet_until = 0.0
                reading = asyncio.ensure_future(before.read(points(1, "input/0/uint16")))
                await asyncio.sleep(0.02)
                reading.cancel()
                await asyncio.wait([reading])
            async with ModbusRtu.open(settings) as driver:
                for n in range(1, 5):
                    (sample,) = await driver.read(points(1, f"input/{n}/uint16"))
                    assert sample.value == Decimal(256 + n)

    asyncio.run(attack())

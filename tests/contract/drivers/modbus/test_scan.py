"""A line is searched: who is there, what each is, who shares an address, and who else speaks."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from agent.core.errors import Refused
from agent.drivers.base import Found, Progress, Wish
from agent.drivers.modbus import scan
from agent.drivers.modbus.answer import RequestResult
from agent.drivers.modbus.bus import ModbusRtu, ModbusTcp, RtuSettings
from agent.drivers.modbus.codec import FUNCTIONS, place
from agent.drivers.modbus.rtu import Speed
from agent.drivers.modbus.scan import identification
from agent.drivers.profile import profile, profiles
from hil.building import Building
from hil.modbus_server import Reply, serving
from hil.serial_line import Registers, SerialLine, frame
from tests.contract.drivers.modbus.peer import point, settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

QUICK = 0.001
"""seconds until a device answers: each is asked some hundred questions"""


def device(name: str) -> Registers:
    tables, test = (("holding", 3), ("input", 4)), profile(name).test
    cells = {
        (function, first + n): cell
        for table, function in tables
        for first, run in test.get(table, {}).items()
        for n, cell in enumerate(run)
    }
    return Registers(cells, fills=name.startswith("eastron"))


def numberless(name: str) -> Registers:
    """One in which nobody has set the serial number."""
    made = device(name)
    spot = place(profile(name).serial.at).spot
    for n in range(spot.width):
        made.cells[FUNCTIONS[spot.table], spot.start + n] = 0
    return made


@asynccontextmanager
async def opened(
    baudrate: int = 115200, answers_within: float = 0.06
) -> AsyncIterator[tuple[SerialLine, ModbusRtu]]:
    async with SerialLine.open(baudrate) as line:
        wanted = RtuSettings(port=line.port, baudrate=baudrate, timeout=answers_within)
        async with ModbusRtu.open(wanted) as driver:
            driver.listens = 0.2
            yield line, driver


async def found(driver: ModbusRtu | ModbusTcp, first: str, last: str) -> dict[int, Found]:
    every = [one async for one in driver.discover(Wish(first, last))]
    return {one.entry["address"]: one for one in every if isinstance(one, Found)}


@pytest.mark.alone
def test_devices_are_found_and_named_by_what_they_say() -> None:
    async def attack() -> None:
        # long enough for a busy machine: one answer that is late changes what a device is taken for
        async with opened(answers_within=0.5) as (line, driver):
            line.add(2, device("eastron-sdm120"), QUICK)
            line.add(3, device("sunspec-203"), QUICK)
            line.add(5, lambda pdu: bytes([pdu[0] | 0x80, 1]), QUICK)
            line.add(6, numberless("eastron-sdm120"), QUICK)
            got, asked = {}, [line.requests]
            async for one in driver.discover(Wish("1", "6")):
                asked.append(line.requests)
                if isinstance(one, Found):
                    got[one.entry["address"]] = one
            # others read between the steps, so none is long
            assert max(b - a for a, b in pairwise(asked)) <= 20
            assert {unit: one.entry.get("profile") for unit, one in got.items()} == {
                2: "eastron-sdm120",
                3: "sunspec-203",
                5: None,
                6: "eastron-sdm120",
            }
            assert (got[6].name, got[6].number) == ("sdm120-6", None)
            assert got[2].name == "sdm120-21358034"
            assert got[3].name == "sunspec-203-sn-4711-0815"
            assert any("may also be eastron-sdm230" in one for one in got[2].warnings)
            assert "no profile fits" in got[5].warnings[0]

    asyncio.run(attack())


def test_where_nobody_answers_the_other_usual_speeds_and_parities_are_tried() -> None:
    async def attack() -> None:
        async with opened(19200) as (line, driver):
            line.trouble.deaf = lambda: line.adapter != 4800
            line.add(2, device("eastron-sdm120"), QUICK)
            every = [one async for one in driver.discover(Wish("1", "2"))]
            (one,) = (one for one in every if isinstance(one, Found))
            assert (one.entry["address"], one.entry["profile"]) == (2, "eastron-sdm120")
            assert one.warnings[-1] == (
                "it uses 4800 8N1, and the line is set otherwise: change one of the two"
            )
            words = [one.words for one in every if isinstance(one, Progress)]
            # 18 other speeds and parities, two units, two questions, 60 ms each
            assert "unit 1 at 9600 8N1; the rest takes at most 5 s" in words
            assert "no device answers at 19200 8N1: the other usual speeds are tried" in words
            assert line.adapter == 19200  # the line's own again
            line.trouble.deaf = lambda: False
            assert (await driver.read([point("input/72/float32", unit=2)]))[0].value

    asyncio.run(attack())


def test_where_nobody_answers_at_all_it_says_what_to_look_at() -> None:
    async def attack() -> None:
        async with (
            serving(lambda _unit, _pdu: None) as port,
            ModbusTcp.open(settings(port, 0.1)) as on,
        ):
            *_, last = [one async for one in on.discover(Wish("1", "1"))]
            assert last.stays
            assert "that they have power" in last.words

    asyncio.run(attack())


def test_every_usual_speed_and_parity_is_tried_once_the_lines_own_first() -> None:
    own = Speed(19200, "even")
    tried = [str(speed) for speed in scan.speeds(own)]
    assert tried[:2] == ["19200 8E1", "9600 8N1"]
    assert {"9600 8E1", "9600 8O1", "19200 8N1", "2400 8E1", "115200 8O1"} < set(tried)
    assert len(tried) == len(set(tried))
    assert list(scan.speeds(None)) == [None]


def test_a_speed_that_the_port_does_not_know_is_left_out() -> None:
    async def attack() -> None:
        async with opened(19200) as (line, driver):
            assert not driver.wire.stream.tune(Speed(19200, "even"))  # a pseudo-terminal knows none
            assert driver.wire.stream.tune(Speed(19200))
            assert line.adapter == 19200

    asyncio.run(attack())


def test_what_a_device_looks_like_is_said_to_be_a_guess() -> None:
    def nonsense(pdu: bytes) -> bytes:
        count = int.from_bytes(pdu[3:5], "big")
        return bytes([pdu[0], 2 * count]) + b"\x7f\xff" * count

    async def attack() -> None:
        async with opened() as (line, driver):
            line.add(2, device("eastron-sdm120"), QUICK)
            line.add(3, nonsense, QUICK)
            got = await found(driver, "2", "3")
            assert "guessed from the values" in got[2].warnings[0]
            assert got[3].warnings == (
                "no profile fits: name a profile, or the values to read under `points`",
            )
            assert "profile" not in got[3].entry

    asyncio.run(attack())


def test_a_device_that_strange_questions_silence_is_asked_no_more_of_them() -> None:
    asked = []

    def shy(pdu: bytes) -> bytes | None:
        asked.append(pdu)
        return b"\x03\x02\x00\x00" if pdu == scan.PROBES[0] else None

    async def attack() -> None:
        async with opened() as (line, driver):
            line.add(1, shy, QUICK)
            got = await found(driver, "1", "1")
            assert "no profile fits" in got[1].warnings[0]

    asyncio.run(attack())
    assert len(asked) < 20  # not each of thirty profiles


@pytest.mark.parametrize("apart", [0.0, 0.003, 0.02])
def test_two_devices_on_one_address_are_told_in_words(apart: float) -> None:
    async def attack() -> None:
        async with opened() as (line, driver):
            line.add(4, Registers({}, fills=True), after=0.01)
            line.add(4, lambda pdu: bytes([pdu[0] | 0x80, 1]), after=0.01 + apart)
            (one,) = (await found(driver, "4", "4")).values()
            assert one.warnings[0].startswith("more than one device answers at 4: switch on one at")
            assert "profile" not in one.entry

    asyncio.run(attack())


def test_a_line_on_which_another_master_speaks_is_not_searched() -> None:
    """Rule F7."""

    async def attack() -> None:
        async with opened() as (line, driver):
            line.say(frame(7, b"\3\0\0\0\1"), after=0.1)
            with pytest.raises(Refused, match="another master uses this line"):
                await found(driver, "1", "2")
            assert line.requests == 0

    asyncio.run(attack())


def test_a_scan_writes_nothing() -> None:
    """Rule F7."""
    asked: list[int] = []

    def listen(pdu: bytes) -> bytes:
        asked.append(pdu[0])
        return device("eastron-sdm630")(pdu)

    async def attack() -> None:
        async with opened() as (line, driver):
            line.add(1, listen, QUICK)
            assert await found(driver, "1", "1")
            assert set(asked) <= {3, 4, 0x2B}

    asyncio.run(attack())


def test_the_units_of_a_host_are_found_and_wrong_ranges_refused() -> None:
    async def attack() -> None:
        async with (
            Building.open(lines=1, meters=2) as building,
            ModbusTcp.open(settings(building.ports[0])) as driver,
        ):
            got = await found(driver, "", "9")
            assert [one.entry["profile"] for one in got.values()] == ["eastron-sdm120"] * 2
            assert [building.serial(0, unit) in got[unit].name for unit in (1, 2)] == [True, True]
            for first, last in (("0", "3"), ("5", "4"), ("1", "248"), ("a", "")):
                with pytest.raises(Refused, match="not a range of unit ids"):
                    await found(driver, first, last)

    asyncio.run(attack())


def test_a_meter_on_the_network_that_heeds_no_unit_id_is_found_once() -> None:
    meter = device("eastron-sdm120")

    async def attack() -> None:
        async with (
            serving(lambda _unit, pdu: Reply(meter(pdu))) as port,
            ModbusTcp.open(settings(port)) as driver,
        ):
            every = [one async for one in driver.discover(Wish("3", "247"))]
            assert [one.entry["address"] for one in every if isinstance(one, Found)] == [3]
            assert isinstance(every[-1], Progress)
            assert every[-1].stays
            assert every[-1].words.startswith(
                "the device at 3 answers at 4 too: it seems to answer"
            )

    asyncio.run(attack())


@pytest.mark.parametrize("name", ["socomec-countis-e", "socomec-countis-e2"])
def test_models_that_differ_in_a_scale_only_are_told_apart_by_what_is_possible(name: str) -> None:
    meter = device(name)

    async def attack() -> None:
        async with (
            serving(lambda _unit, pdu: Reply(meter(pdu))) as port,
            ModbusTcp.open(settings(port)) as driver,
        ):
            assert (await found(driver, "5", "5"))[5].entry["profile"] == name

    asyncio.run(attack())


def test_what_a_device_is_taken_for_does_not_depend_on_those_before_it() -> None:
    names = [
        one
        for one in profiles()
        if profile(one).driver == "modbus" and not one.startswith("sunspec") and profile(one).test
    ]
    # without numbers: a number that is found twice ends the search of a host
    meters = [numberless(one) if profile(one).serial else device(one) for one in names]

    async def taken_for(order: list[Registers]) -> list[object]:
        async with (
            serving(lambda unit, pdu: Reply(order[unit - 1](pdu))) as port,
            ModbusTcp.open(settings(port)) as driver,
        ):
            got = await found(driver, "1", str(len(order)))
            return [(got[n].entry.get("profile"), got[n].warnings) for n in sorted(got)]

    async def attack() -> None:
        backwards = await taken_for(meters[::-1])
        assert len(backwards) == len(meters)
        assert await taken_for(meters) == backwards[::-1]

    asyncio.run(attack())


def test_devices_like_one_before_are_not_compared_with_every_profile() -> None:
    asked = {1: 0, 2: 0, 3: 0}

    async def attack() -> None:
        meter = numberless("eastron-sdm120")

        def answer(unit: int, pdu: bytes) -> Reply:
            asked[unit] += 1
            return Reply(meter(pdu))

        async with serving(answer) as port, ModbusTcp.open(settings(port)) as driver:
            await found(driver, "1", "1")
            first = asked[1]
            asked.update({1: 0})
            await found(driver, "1", "3")
            assert asked[1] == first
            assert asked[2] == asked[3]
            assert asked[2] < first / 3

    asyncio.run(attack())


@pytest.mark.parametrize("other", [0, 255])
def test_a_host_that_answers_with_another_unit_is_named_once_and_searched_at_that(
    other: int,
) -> None:
    meter = device("eastron-sdm120")

    async def attack() -> None:
        async with (
            serving(lambda _unit, pdu: Reply(meter(pdu), unit=other)) as port,
            ModbusTcp.open(settings(port)) as driver,
        ):
            every = [one async for one in driver.discover(Wish("3", "9"))]
            assert [one.entry["address"] for one in every if isinstance(one, Found)] == [other]
            (words,) = [one.words for one in every if isinstance(one, Progress) and one.stays]
            assert words.startswith(f"unit 3 was asked, and another unit answered: {other}. ")
            assert f"write address: {other}" in words

    asyncio.run(attack())


def test_a_device_that_identifies_itself_is_quoted() -> None:
    pdu = b"\x2b\x0e\x01\x01\0\0\2\0\4ACME\1\3X-1"
    assert identification(RequestResult(0.0, pdu)) == "ACME X-1"
    assert identification(RequestResult(0.0, pdu[:-3])) == "ACME"
    assert identification(RequestResult(0.0)) == ""

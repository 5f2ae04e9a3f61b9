"""A line is searched: who is there, what each is, who shares an address, and who else speaks."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from agent.drivers.base import Found, Wish
from agent.drivers.modbus import scan
from agent.drivers.modbus.answer import Answer
from agent.drivers.modbus.serialline import ModbusRtu, RtuSettings
from agent.drivers.modbus.tcp import ModbusTcp
from agent.drivers.profile import profile
from agent.errors import Refused
from hil.building import Building
from hil.serial_line import Registers, SerialLine, frame
from tests.contract.drivers.modbus.peer import settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def device(name: str) -> Registers:
    tables, test = (("holding", 3), ("input", 4)), profile(name).test
    cells = {
        (function, first + n): cell
        for table, function in tables
        for first, run in test.get(table, {}).items()
        for n, cell in enumerate(run)
    }
    return Registers(cells, fills=name.startswith("eastron"))


@asynccontextmanager
async def opened(
    monkeypatch: pytest.MonkeyPatch, baudrate: int = 19200
) -> AsyncIterator[tuple[SerialLine, ModbusRtu]]:
    monkeypatch.setattr(scan, "LISTEN", 0.2)
    async with SerialLine.open(19200) as line:
        wanted = RtuSettings(port=line.port, baudrate=baudrate, timeout=0.06)
        async with ModbusRtu.open(wanted) as driver:
            yield line, driver


async def found(driver: ModbusRtu | ModbusTcp, first: str, last: str) -> dict[int, Found]:
    every = [one async for one in driver.discover(Wish(first, last))]
    return {one.entry["address"]: one for one in every if isinstance(one, Found)}


def test_devices_are_found_and_named_by_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    async def attack() -> None:
        async with opened(monkeypatch) as (line, driver):
            line.add(2, device("eastron-sdm120"))
            line.add(3, device("sunspec-203"))
            line.add(5, lambda pdu: bytes([pdu[0] | 0x80, 1]))
            got = await found(driver, "1", "6")
            assert {unit: one.entry.get("profile") for unit, one in got.items()} == {
                2: "eastron-sdm120",
                3: "sunspec-203",
                5: None,
            }
            assert got[2].name == "sdm120-21358034"
            assert any("may as well be eastron-sdm230" in one for one in got[2].warnings)
            assert "no profile fits" in got[5].warnings[0]

    asyncio.run(attack())


@pytest.mark.parametrize("apart", [0.0, 0.003, 0.03])
def test_two_devices_on_one_address_are_told_in_words(
    monkeypatch: pytest.MonkeyPatch, apart: float
) -> None:
    async def attack() -> None:
        async with opened(monkeypatch) as (line, driver):
            line.add(4, Registers({}, fills=True), after=0.01)
            line.add(4, lambda pdu: bytes([pdu[0] | 0x80, 1]), after=0.01 + apart)
            (one,) = (await found(driver, "4", "4")).values()
            assert one.warnings[0].startswith("more than one device answers at 4: switch the other")
            assert "profile" not in one.entry

    asyncio.run(attack())


def test_a_line_on_which_another_master_speaks_is_not_searched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def attack() -> None:
        async with opened(monkeypatch) as (line, driver):
            line.say(frame(7, b"\3\0\0\0\1"), after=0.1)
            with pytest.raises(Refused, match="another master speaks"):
                await found(driver, "1", "2")
            assert line.requests == 0

    asyncio.run(attack())


def test_a_scan_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def listen(pdu: bytes) -> bytes:
        asked.append(pdu[0])
        return device("eastron-sdm630")(pdu)

    async def attack() -> None:
        async with opened(monkeypatch) as (line, driver):
            line.add(1, listen)
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
                with pytest.raises(Refused, match="not unit ids"):
                    await found(driver, first, last)

    asyncio.run(attack())


def test_a_device_that_identifies_itself_is_quoted() -> None:
    pdu = b"\x2b\x0e\x01\x01\0\0\2\0\4ACME\1\3X-1"
    assert scan.identification(Answer(0.0, pdu)) == "ACME X-1"
    assert scan.identification(Answer(0.0, pdu[:-3])) == "ACME"
    assert scan.identification(Answer(0.0)) == ""

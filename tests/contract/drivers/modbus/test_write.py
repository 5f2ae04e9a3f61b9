"""Controls are written, acknowledged or refused; what an adapter echoes confirms nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest

from agent.core.errors import Refused, WriteRefused
from agent.drivers.base import Writes
from agent.drivers.modbus.bus import ModbusRtu, ModbusTcp, RtuSettings
from agent.drivers.modbus.codec import encode, parse
from hil.modbus_server import Reply, serving
from hil.serial_line import Registers, SerialLine
from tests.contract.drivers.modbus.peer import point, settings

CELLS = {(3, n): 0 for n in range(8)} | {(1, 0): 0}


@pytest.mark.parametrize(
    ("at", "value", "cells"),
    [
        ("coil/0", 1, {(1, 0): 1}),
        ("holding/1/int16", -5, {(3, 1): 0xFFFB}),
        ("holding/2/float32", Decimal("21.5"), {(3, 2): 0x41AC, (3, 3): 0}),
        ("holding/2/uint32/little", 0x10002, {(3, 2): 2, (3, 3): 1}),
        ("holding/2/uint32/swapped", 0x01020304, {(3, 2): 0x0201, (3, 3): 0x0403}),
        ("holding/2/uint32/reversed", 0x01020304, {(3, 2): 0x0403, (3, 3): 0x0201}),
    ],
)
@pytest.mark.parametrize("lacking", [(), (5, 6)])
def test_what_is_written_stands_there_and_is_read_back(
    at: str, value: int | Decimal, cells: dict[tuple[int, int], int], lacking: tuple[int, ...]
) -> None:
    device = Registers(dict(CELLS))

    def answer(_: int, pdu: bytes) -> Reply:
        return Reply(bytes([pdu[0] | 0x80, 1]) if pdu[0] in lacking else device(pdu))

    async def attack() -> None:
        async with serving(answer) as port, ModbusTcp.open(settings(port)) as driver:
            assert isinstance(driver, Writes)
            await driver.write(point(at), Decimal(value), None)
            assert (await driver.held(point(at))).ours == {0: Decimal(value)}

    asyncio.run(attack())
    assert {one: device.cells[one] for one in cells} == cells


def test_what_is_not_marked_writable_is_never_written() -> None:
    """Rule F4."""
    device = Registers(dict(CELLS))

    async def attack() -> None:
        answering = serving(lambda _, pdu: Reply(device(pdu)))
        async with answering as port, ModbusTcp.open(settings(port)) as driver:
            with pytest.raises(Refused, match="not marked writable"):
                await driver.write(
                    replace(point("holding/1/int16"), writable=False), Decimal(5), None
                )

    asyncio.run(attack())
    assert device.cells == CELLS


@pytest.mark.parametrize(
    ("at", "value", "slot", "words"),
    [
        ("input/0/int16", Decimal(1), None, "read-only"),
        ("discrete/0", Decimal(1), None, "read-only"),
        ("holding/0/int16", None, None, "cannot be emptied"),
        ("holding/0/int16", Decimal(1), 13, "no priorities"),
        ("holding/0/int16", Decimal("0.5"), None, "not a value of type"),
        ("holding/0/int16", Decimal(40000), None, "does not fit"),
        ("holding/0/float32", Decimal("1e99"), None, "does not fit"),
        ("holding/0/int16 sf@1", Decimal(1), None, "another register scales"),
        ("coil/0", Decimal(2), None, "0 or 1"),
    ],
)
def test_what_cannot_be_written_is_refused_before_a_word_is_sent(
    at: str, value: Decimal | None, slot: int | None, words: str
) -> None:
    """Rule F4."""
    asked: list[bytes] = []

    async def attack() -> None:
        async with (
            serving(lambda _, pdu: asked.append(pdu)) as port,
            ModbusTcp.open(settings(port)) as driver,
        ):
            with pytest.raises(Refused, match=words):
                await driver.write(point(at), value, slot)

    asyncio.run(attack())
    assert asked == []


def test_a_device_that_refuses_or_confirms_something_else_has_not_taken_it() -> None:
    """Rule F5."""

    async def attack(answer: bytes) -> None:
        async with (
            serving(lambda _, __: Reply(answer)) as port,
            ModbusTcp.open(settings(port)) as driver,
        ):
            with pytest.raises(WriteRefused):
                await driver.write(point("holding/0/int16"), Decimal(1), None)

    for answer in (b"\x86\2", b"\x86\1", b"\6\0\0\0\2", b"\6\0\1\0\1", b"\6\0\0\0"):
        asyncio.run(attack(answer))


def test_the_echo_of_an_adapter_confirms_nothing() -> None:
    """Rule F5."""

    async def attack() -> None:
        async with SerialLine.open(19200) as line:
            line.trouble.echo = True
            device = Registers(dict(CELLS))
            deaf = line.add(1, lambda pdu: None if pdu[0] in {6, 16} else device(pdu))
            wanted = RtuSettings(port=line.port, baudrate=19200, timeout=0.3)
            async with ModbusRtu.open(wanted) as driver:
                with pytest.raises(WriteRefused, match="no answer"):
                    await driver.write(point("holding/0/int16"), Decimal(7), None)
                deaf.answer = device
                await asyncio.sleep(3.1)
                await driver.write(point("holding/1/int16"), Decimal(7), None)
            assert device.cells[3, 1] == 7

    asyncio.run(attack())


def test_texts_and_numbers_that_are_none_are_not_encoded() -> None:
    for at, value in (("holding/0/string4", "1"), ("holding/0/int16", "NaN")):
        with pytest.raises(ValueError):
            encode(parse(at), Decimal(value))

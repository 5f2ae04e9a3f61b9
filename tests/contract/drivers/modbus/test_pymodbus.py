"""An independent Modbus TCP peer: pymodbus answers our driver, and asks our simulated devices.

The first leg has the version of Debian 13, the second the newest: both must agree with us.
"""

from __future__ import annotations

import asyncio
import inspect
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pymodbus.datastore
import pytest
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusIOException
from pymodbus.server import ModbusTcpServer

from agent.core.model import Point, Why
from agent.drivers.modbus.bus import ModbusTcp
from hil.building import Building
from hil.meter import ENERGY_IMPORT, SERIAL
from hil.modbus_server import Reply, serving
from hil.process import free_port
from hil.serial_line import Registers
from tests.contract.drivers.modbus.peer import settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

UNIT, CELLS, COILS = 7, 100, 16
SIGNATURE = inspect.signature(AsyncModbusTcpClient.read_coils)
TO_UNIT = "device_id" if "device_id" in SIGNATURE.parameters else "slave"
"""how this version names the unit of a request"""


def device() -> Any:
    """One device: 100 input registers from 1000, as many holding registers from 2000, 16 coils."""
    inputs = [1000 + n for n in range(CELLS)]
    holding = [2000 + n for n in range(CELLS)]
    coils = [False] * COILS
    if not hasattr(pymodbus.datastore, "ModbusSlaveContext"):
        from pymodbus.simulator import DataType, SimData, SimDevice

        bits = [SimData(0, values=coils, datatype=DataType.BITS)]
        words = [
            [SimData(0, values=cells, datatype=DataType.REGISTERS)] for cells in (holding, inputs)
        ]
        return SimDevice(UNIT, simdata=(bits, bits, *words))
    from pymodbus.datastore import (
        ModbusSequentialDataBlock,
        ModbusServerContext,
        ModbusSlaveContext,
    )

    blocks = {"co": coils, "di": coils, "hr": holding, "ir": inputs}
    made = {name: ModbusSequentialDataBlock(1, cells) for name, cells in blocks.items()}
    return ModbusServerContext(slaves={UNIT: ModbusSlaveContext(**made)}, single=False)


@asynccontextmanager
async def served() -> AsyncIterator[int]:
    """Pymodbus serves `device` on a free port of loopback, which is given."""
    port = free_port()
    server = ModbusTcpServer(device(), address=("127.0.0.1", port))
    await server.serve_forever(background=True)
    try:
        yield port
    finally:
        await server.shutdown()


@asynccontextmanager
async def asking(port: int) -> AsyncIterator[AsyncModbusTcpClient]:
    client = AsyncModbusTcpClient("127.0.0.1", port=port, timeout=0.5, retries=0)
    assert await client.connect()
    try:
        yield client
    finally:
        client.close()


def points(*ats: str, unit: int = UNIT) -> list[Point]:
    return [Point("m", at, str(unit), at, 60, writable=True) for at in ats]


def test_our_driver_reads_and_writes_a_pymodbus_server() -> None:
    async def attack() -> None:
        async with served() as port, ModbusTcp.open(settings(port)) as driver:
            samples = await driver.read(
                points("input/0/uint16", "holding/99/uint16", "input/4/uint32", "coil/3")
            )
            assert [one.value for one in samples] == [1000, 2099, (1004 << 16) + 1005, 0]
            inside, outside = await driver.read(points("input/98/uint16", "input/100/uint16"))
            assert (inside.value, outside.why) == (Decimal(1098), Why.BAD)
            for at, value in (("holding/3/int16", -7), ("holding/4/float32", 21.5), ("coil/2", 1)):
                (written,) = points(at)
                await driver.write(written, Decimal(str(value)), None)
                assert (await driver.read([written]))[0].value == Decimal(str(value))
            (beside,) = await driver.read(points("holding/6/uint16"))
            assert beside.value == 2006

    asyncio.run(attack())


def test_a_unit_that_a_pymodbus_server_does_not_have_gives_no_value() -> None:
    async def attack() -> None:
        async with served() as port, ModbusTcp.open(settings(port, 0.5)) as driver:
            (nobody,) = await driver.read(points("input/0/uint16", unit=UNIT + 1))
            assert nobody.value is None
            assert (await driver.read(points("input/0/uint16")))[0].value == 1000

    asyncio.run(attack())


def test_pymodbus_reads_the_simulated_meters_as_our_driver_does() -> None:
    async def attack() -> None:
        async with Building.open(lines=1, meters=2) as building:
            port = building.ports[0]
            async with asking(port) as client, ModbusTcp.open(settings(port)) as driver:
                to = {TO_UNIT: 2}
                serial = await client.read_holding_registers(SERIAL, count=2, **to)
                said = client.convert_from_registers(serial.registers, client.DATATYPE.UINT32)
                assert str(said) == building.serial(0, 2)
                block = await client.read_input_registers(ENERGY_IMPORT, count=2, **to)
                read = client.convert_from_registers(block.registers, client.DATATYPE.FLOAT32)
                (ours,) = await driver.read(points(f"input/{ENERGY_IMPORT}/float32", unit=2))
                assert ours.value is not None
                # it counts on between the two reads
                assert float(ours.value) == pytest.approx(read, abs=0.01)
                gap = await client.read_input_registers(400, count=2, **to)
                assert gap.exception_code == 2
                missing = await client.read_input_registers(0, count=2, **{TO_UNIT: 3})
                assert missing.exception_code == 11
                building.silence(0, 2)
                with pytest.raises(ModbusIOException):
                    await client.read_input_registers(0, count=2, **to)

    asyncio.run(attack())


def test_pymodbus_writes_to_a_simulated_device_and_our_driver_reads_it() -> None:
    cells = {(3, n): 0 for n in range(8)} | {(1, n): 0 for n in range(8)}
    registers = Registers(cells)

    async def attack() -> None:
        async with (
            serving(lambda _, pdu: Reply(registers(pdu))) as port,
            asking(port) as client,
            ModbusTcp.open(settings(port)) as driver,
        ):
            to = {TO_UNIT: UNIT}
            assert not (await client.write_register(0, 0xFFF9, **to)).isError()
            assert not (await client.write_registers(4, [1, 2], **to)).isError()
            assert not (await client.write_coil(2, True, **to)).isError()
            assert not (await client.write_coils(4, [True, False, True], **to)).isError()
            refused = await client.write_register(8, 1, **to)
            assert refused.exception_code == 2
            asked = points("holding/0/int16", "holding/4/uint32", "coil/2", "coil/5", "coil/6")
            samples = await driver.read(asked)
            assert [one.value for one in samples] == [-7, 65_538, 1, 0, 1]

    asyncio.run(attack())

"""Independent peers in C: libmodbus answers the driver, and mbpoll reads what we pretend."""

from __future__ import annotations

import asyncio
import os
import pty
import shutil
import subprocess
import tty
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.core.model import Point, Why
from agent.drivers.modbus.bus import ModbusRtu, ModbusTcp, RtuSettings
from hil.process import free_port
from hil.serial_line import Registers, SerialLine
from tests.contract.drivers.modbus.peer import settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SOURCE = Path(__file__).with_name("peer.c")
NEEDED = shutil.which("gcc") and Path("/usr/include/modbus/modbus.h").exists()

pytestmark = pytest.mark.skipif(not NEEDED, reason="gcc and libmodbus-dev are not installed")


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    made = str(tmp_path_factory.mktemp("peer") / "peer")
    subprocess.run(["gcc", "-Wall", "-Werror", "-o", made, SOURCE, "-lmodbus"], check=True)
    return made


@asynccontextmanager
async def started(*command: str) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout
    try:
        assert await process.stdout.readline() == b"ready\n"
        yield
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def cable() -> AsyncIterator[tuple[str, str]]:
    """Two serial ports with a cable between them."""
    ends = [pty.openpty() for _ in range(2)]
    loop = asyncio.get_running_loop()
    for _, slave in ends:
        tty.setraw(slave)
    for (one, _), (other, _) in (ends, ends[::-1]):
        loop.add_reader(one, lambda a=one, b=other: os.write(b, os.read(a, 4096)))
    try:
        yield os.ttyname(ends[0][1]), os.ttyname(ends[1][1])
    finally:
        for master, slave in ends:
            loop.remove_reader(master)
            os.close(master)
            os.close(slave)


def points(*ats: str) -> list[Point]:
    return [Point("m", at, "7", at, 60, writable=True) for at in ats]


async def hold(driver: ModbusTcp | ModbusRtu) -> None:
    """Read, be refused in part, write and read back."""
    samples = await driver.read(points("input/0/uint16", "input/99/uint16", "input/4/uint32"))
    assert [s.value for s in samples] == [1000, 1099, (1004 << 16) + 1005]
    inside, outside = await driver.read(points("input/98/uint16", "input/100/uint16"))
    assert (inside.value, outside.why) == (Decimal(1098), Why.BAD)
    for at, value in (("holding/3/int16", -7), ("holding/4/float32", 21.5), ("coil/2", 1)):
        (written,) = points(at)
        await driver.write(written, Decimal(str(value)), None)
        assert (await driver.read([written]))[0].value == Decimal(str(value))


def test_libmodbus_is_read_and_written_over_tcp(program: str) -> None:
    async def attack() -> None:
        port = free_port()
        async with started(program, "tcp", str(port)), ModbusTcp.open(settings(port)) as driver:
            await hold(driver)

    asyncio.run(attack())


def test_libmodbus_is_read_and_written_over_a_serial_port(program: str) -> None:
    async def attack() -> None:
        async with cable() as (ours, theirs), started(program, "rtu", theirs):
            wanted = RtuSettings(port=ours, baudrate=19200)
            async with ModbusRtu.open(wanted) as driver:
                await hold(driver)

    asyncio.run(attack())


@pytest.mark.skipif(not shutil.which("mbpoll"), reason="mbpoll is not installed")
def test_mbpoll_reads_the_pretend_serial_line() -> None:
    async def attack() -> str:
        async with SerialLine.open(19200) as line:
            line.add(7, Registers({(4, n): 1000 + n for n in range(10)}))
            command = f"mbpoll -m rtu -a 7 -b 19200 -P none -t 3 -r 3 -c 2 -1 -q {line.port}"
            process = await asyncio.create_subprocess_exec(
                *command.split(), stdout=asyncio.subprocess.PIPE
            )
            out, _ = await process.communicate()
            return out.decode()

    lines = [line.split() for line in asyncio.run(attack()).splitlines() if line[:1] == "["]
    assert lines == [["[3]:", "1002"], ["[4]:", "1003"]]

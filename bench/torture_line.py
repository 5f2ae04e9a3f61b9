"""Our driver and pymodbus on one bad serial line: `python -m bench.torture_line`.

The line is that of `hil/torture_line.py`. Each reader asks for the same blocks of the same devices,
leaves a silent device alone for two seconds, as the daemon does for a minute, and counts: values,
values that are wrong, reads of the living devices that gave none, and CPU. pymodbus is the version
that is installed, as it comes (it repeats a request three times) and with its repeats turned off.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import logging
import random
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

import pymodbus
from pymodbus.client import AsyncModbusSerialClient
from pymodbus.exceptions import ModbusException

from agent.core.model import Point
from agent.drivers.modbus.bus import ModbusRtu, RtuSettings
from hil.torture_line import (
    BAUDRATE,
    DEAD,
    LATE,
    REST,
    SHAPES,
    TIMEOUT,
    UNITS,
    cell,
    torture_line,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    Read = Callable[[int, int, int], Awaitable[list[int] | None]]
    """unit, address, count → the cells, or None: no answer that it believes"""
    Reader = Callable[[str], AbstractAsyncContextManager[Read]]

PARAMETERS = inspect.signature(AsyncModbusSerialClient.read_holding_registers).parameters
TO_UNIT = "device_id" if "device_id" in PARAMETERS else "slave"


@dataclass
class Tally:
    reads: int = 0
    values: int = 0
    wrong: int = 0
    asked: int = 0
    """reads of living devices"""
    missed: int = 0
    """those of them that gave nothing"""
    wall: float = 0.0
    cpu: float = 0.0


@asynccontextmanager
async def ours(port: str) -> AsyncIterator[Read]:
    wanted = RtuSettings(port=port, baudrate=BAUDRATE, timeout=TIMEOUT)
    async with ModbusRtu.open(wanted) as driver:

        async def read(unit: int, start: int, count: int) -> list[int] | None:
            ats = [f"holding/{start + n}/uint16" for n in range(count)]
            samples = await driver.read([Point("m", at, str(unit), at, 60) for at in ats])
            values = [one.value for one in samples if isinstance(one.value, Decimal)]
            return [int(value) for value in values] if len(values) == count else None

        yield read


@asynccontextmanager
async def theirs(port: str, retries: int) -> AsyncIterator[Read]:
    client = AsyncModbusSerialClient(port, baudrate=BAUDRATE, timeout=TIMEOUT, retries=retries)
    assert await client.connect()

    async def read(unit: int, start: int, count: int) -> list[int] | None:
        if not client.connected:  # it hangs up after several silences, and comes back by itself
            await client.connect()
        try:
            answer = await client.read_holding_registers(start, count=count, **{TO_UNIT: unit})
        except ModbusException:
            return None
        return None if answer.isError() else answer.registers

    try:
        yield read
    finally:
        client.close()


async def measured(reader: Reader, reads: int, seed: int) -> Tally:
    dice, tally, rests = random.Random(seed), Tally(), dict.fromkeys(UNITS, 0.0)
    async with torture_line(dice) as line, reader(line.port) as read:
        wall, cpu = time.monotonic(), time.process_time()
        while tally.reads < reads:
            for unit in UNITS:
                if rests[unit] > time.monotonic():
                    await asyncio.sleep(0)
                    continue
                start, count = SHAPES[dice.randrange(len(SHAPES))]
                registers = await read(unit, start, count)
                tally.reads += 1
                count_up(tally, unit, start, registers)
                if registers is None and unit not in LATE:
                    rests[unit] = time.monotonic() + REST
        tally.wall, tally.cpu = time.monotonic() - wall, time.process_time() - cpu
    return tally


def count_up(tally: Tally, unit: int, start: int, registers: list[int] | None) -> None:
    living = unit not in DEAD | LATE
    tally.asked += living
    if registers is None:
        tally.missed += living
        return
    tally.values += len(registers)
    tally.wrong += sum(value != cell(unit, start + n) for n, value in enumerate(registers))


async def bench(reads: int, seed: int) -> None:
    readers: dict[str, Reader] = {
        "gardien": ours,
        f"pymodbus {pymodbus.__version__}": partial(theirs, retries=3),
        f"pymodbus {pymodbus.__version__}, no repeats": partial(theirs, retries=0),
    }
    heads = ("values", "wrong", "missed, of reads", "seconds", "CPU s")
    print(f"{reads} reads on the line of hil/torture_line.py, timeout {TIMEOUT * 1e3:.0f} ms")
    print(f"{'':30}" + "".join(f"{head:>18}" for head in heads))
    for name, reader in readers.items():
        one = await measured(reader, reads, seed)
        missed = f"{one.missed} of {one.asked}"
        print(f"{name:30}{one.values:18}{one.wrong:18}{missed:>18}{one.wall:18.0f}{one.cpu:18.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.torture_line", description=__doc__)
    parser.add_argument("--reads", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=7)
    wanted = parser.parse_args()
    logging.disable()
    asyncio.run(bench(wanted.reads, wanted.seed))


if __name__ == "__main__":
    main()

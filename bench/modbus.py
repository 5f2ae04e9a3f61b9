"""What one round over Modbus TCP costs us: `python -m bench.modbus`.

The pretend building runs in a process of its own and counts the requests; CPU is this process's
alone. All ways are measured in turn within each repetition, so that a busy machine is as unfair to
one as to the other; medians.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
import logging
import statistics
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pymodbus.client import AsyncModbusTcpClient

from agent.core.model import Point
from agent.drivers.modbus.bus import ModbusTcp, ModbusTcpSettings
from agent.drivers.profile import profile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

SDM120 = profile("eastron-sdm120")
BLOCKS = ((0, 80), (342, 4))
"""what a person would write by hand for the SDM120's thirteen quantities"""
PARAMETERS = inspect.signature(AsyncModbusTcpClient.read_input_registers).parameters
TO_UNIT = "device_id" if "device_id" in PARAMETERS else "slave"
"""how the installed pymodbus names the unit of a request"""


@asynccontextmanager
async def building(meters: int) -> AsyncIterator[dict[str, Any]]:
    command = (sys.executable, "-m", "hil.building", "--lines", "1", "--meters", str(meters))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout
    try:
        yield json.loads(await process.stdout.readline())
    finally:
        process.terminate()
        await process.wait()


def meter(unit: int) -> list[Point]:
    return [
        Point(f"m{unit}", quantity, str(unit), offer.at, 10)
        for quantity, offer in SDM120.points.items()
    ]


class Ways:
    """Each reads all quantities of all meters once."""

    def __init__(self, driver: ModbusTcp, raw: AsyncModbusTcpClient, meters: int) -> None:
        self.driver, self.raw = driver, raw
        self.meters = [meter(unit) for unit in range(1, meters + 1)]

    async def ours(self) -> None:
        for points in self.meters:
            assert all(sample.why is None for sample in await self.driver.read(points))

    async def one_by_one(self) -> None:
        for points in self.meters:
            for point in points:
                assert (await self.driver.read([point]))[0].why is None

    async def by_hand(self) -> None:
        """Two blocks as floats: nothing planned, nothing checked, digits not kept."""
        for unit in range(1, len(self.meters) + 1):
            for start, count in BLOCKS:
                to = {TO_UNIT: unit}
                answer = await self.raw.read_input_registers(start, count=count, **to)
                for at in range(0, count - 1, 2):
                    if start + at in WANTED:
                        self.raw.convert_from_registers(
                            answer.registers[at : at + 2], self.raw.DATATYPE.FLOAT32
                        )

    async def frames_only(self) -> None:
        """The same two requests, nothing decoded: what pymodbus alone costs."""
        for unit in range(1, len(self.meters) + 1):
            for start, count in BLOCKS:
                await self.raw.read_input_registers(start, count=count, **{TO_UNIT: unit})


WANTED = {int(offer.at.split("/")[1]) for offer in SDM120.points.values()}


async def requests(control: int) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", control)
    writer.write(b"count\n")
    count = int(json.loads(await reader.readline())["requests"])
    writer.close()
    await writer.wait_closed()
    return count


async def measured(
    way: Callable[[], Awaitable[None]], rounds: int, control: int
) -> tuple[float, float, float]:
    """CPU seconds, wall seconds and requests of one round."""
    before = await requests(control)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(rounds):
        await way()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return cpu / rounds, wall / rounds, (await requests(control) - before) / rounds


async def bench(meters: int, rounds: int, repetitions: int) -> None:
    async with building(meters) as facts:
        port = facts["lines"][0]["port"]
        raw = AsyncModbusTcpClient("127.0.0.1", port=port)
        await raw.connect()
        async with ModbusTcp.open(ModbusTcpSettings(host="127.0.0.1", port=port)) as driver:
            ways = Ways(driver, raw, meters)
            table = {
                "gardien": ways.ours,
                "gardien, one value a request": ways.one_by_one,
                "pymodbus, blocks by hand": ways.by_hand,
                "pymodbus, nothing decoded": ways.frames_only,
            }
            taken = {name: [] for name in table}
            for _ in range(repetitions):
                for name, way in table.items():
                    taken[name].append(await measured(way, rounds, facts["control"]))
        raw.close()
    show(taken, meters)


def show(taken: dict[str, list[tuple[float, float, float]]], meters: int) -> None:
    values = meters * len(SDM120.points)
    print(f"{meters} SDM120 with {len(SDM120.points)} values each, Modbus TCP on loopback; medians")
    heads = ("", "requests/round", "CPU ms/round", "CPU µs/request", "CPU µs/value", "wall ms")
    print(f"{heads[0]:30}" + "".join(f"{head:>15}" for head in heads[1:]))
    for name, runs in taken.items():
        cpu, wall, asked = (statistics.median(column) for column in zip(*runs, strict=True))
        print(
            f"{name:30}{asked:15.0f}{cpu * 1e3:15.2f}{cpu / asked * 1e6:15.0f}"
            f"{cpu / values * 1e6:15.1f}{wall * 1e3:15.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.modbus", description=__doc__)
    parser.add_argument("--meters", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=10, help="in each repetition")
    parser.add_argument("--repetitions", type=int, default=5)
    wanted = parser.parse_args()
    logging.disable()
    asyncio.run(bench(wanted.meters, wanted.rounds, wanted.repetitions))


if __name__ == "__main__":
    main()

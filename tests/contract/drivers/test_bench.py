"""What holds on any line, pretend or real: the lines of hil/bench.yaml are taken as well."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent.core.model import Point, Why
from agent.drivers import driver
from agent.drivers.profile import profile
from hil.bench import BenchLine, bench
from hil.serial_line import Registers, SerialLine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).parents[3]
PROFILES = {"3": "eastron-sdm120", "7": "carlo-gavazzi-em340"}


def cells(name: str) -> Registers:
    test = profile(name).test
    tables = (("holding", 3), ("input", 4))
    runs = ((f, first, run) for table, f in tables for first, run in test.get(table, {}).items())
    found = {(f, first + n): cell for f, first, run in runs for n, cell in enumerate(run)}
    return Registers(found, fills=True)


@asynccontextmanager
async def pretend() -> AsyncIterator[BenchLine]:
    async with SerialLine.open(19200) as line:
        for unit, name in PROFILES.items():
            line.add(int(unit), cells(name))
        link = {"driver": "modbus-rtu", "port": line.port, "baudrate": 19200, "timeout": "200ms"}
        yield BenchLine(link=link, devices=PROFILES, empty="99")


@asynccontextmanager
async def real(name: str) -> AsyncIterator[BenchLine]:
    yield bench()[name]


LINES = [pytest.param(pretend, id="pretend")]
LINES += [pytest.param(lambda name=name: real(name), id=name) for name in bench()]


@asynccontextmanager
async def opened(line: BenchLine) -> AsyncIterator[Any]:
    word, options = line.link["driver"], {k: v for k, v in line.link.items() if k != "driver"}
    kind = driver(word)
    async with kind.open(kind.Settings.model_validate(options)) as bus:
        yield bus


def points(address: str, name: str) -> list[Point]:
    return [
        Point("m", quantity, address, offer.at, 60, unit=offer.unit, scale=offer.scale)
        for quantity, offer in profile(name).points.items()
    ]


@pytest.mark.parametrize("on", LINES)
def test_every_device_says_all_its_values_at_once_and_one_by_one_alike(on: Any) -> None:
    async def attack() -> None:
        async with on() as line, opened(line) as bus:
            for address, name in line.devices.items():
                wanted = points(address, name)
                together = await bus.read(wanted)
                assert [s.why for s in together if s.why is Why.SILENT] == []
                for point, before in zip(wanted, together, strict=True):
                    (alone,) = await bus.read([point])
                    assert (alone.why, type(alone.value)) == (before.why, type(before.value))
                    if point.name.startswith("energy") and isinstance(alone.value, Decimal):
                        assert isinstance(before.value, Decimal)
                        assert 0 <= abs(alone.value - before.value) * point.scale < 1

    asyncio.run(attack())


@pytest.mark.parametrize("on", LINES)
def test_an_address_without_anybody_is_silent_and_costs_the_others_nothing(on: Any) -> None:
    async def attack() -> None:
        async with on() as line, opened(line) as bus:
            address, name = next(iter(line.devices.items()))
            silent = await bus.read(points(line.empty, name))
            assert {sample.why for sample in silent} == {Why.SILENT}
            assert (await bus.read(points(address, name)))[0].why is not Why.SILENT

    asyncio.run(attack())


@pytest.mark.parametrize("on", LINES)
def test_the_serial_number_is_said_alike_each_time(on: Any) -> None:
    async def attack() -> None:
        async with on() as line, opened(line) as bus:
            for address, name in line.devices.items():
                if offer := profile(name).serial:
                    point = Point("m", "serial", address, offer.at, 0)
                    said = {(await bus.read([point]))[0].value for _ in range(5)}
                    assert len(said) == 1

    asyncio.run(attack())


def test_the_same_tests_take_a_port_that_the_bench_names(tmp_path: Path) -> None:
    """A pseudo-terminal stands in for the adapter; the tests run in a process of their own."""
    if os.environ.get("GARDIEN_BENCH"):
        pytest.skip("this is the run with a bench")

    async def attack() -> str:
        async with pretend() as line:
            path = tmp_path / "bench.yaml"
            devices = ", ".join(f'"{unit}": {name}' for unit, name in line.devices.items())
            link = ", ".join(f"{key}: {value}" for key, value in line.link.items())
            path.write_text(
                f'lines: {{riser: {{link: {{{link}}}, devices: {{{devices}}}, empty: "99"}}}}\n'
            )
            process = await asyncio.create_subprocess_exec(
                *(
                    sys.executable,
                    "-m",
                    "pytest",
                    "-k",
                    "riser",
                    "-p",
                    "no:cacheprovider",
                    __file__,
                ),
                cwd=ROOT,
                env={**os.environ, "GARDIEN_BENCH": str(path)},
                stdout=subprocess.PIPE,
            )
            out, _ = await process.communicate()
            assert process.returncode == 0, out.decode()
            return out.decode()

    out = asyncio.run(attack())
    assert "3 passed" in out

"""Servers of others as processes: modbus-serial (npm) and pymodbus are read, and searched."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from agent.core.model import Point, Why
from agent.drivers.base import Wish
from agent.drivers.modbus.bus import ModbusTcp
from hil.process import Child, free_port
from tests.contract.drivers.hearing import Hearing, scanned
from tests.contract.drivers.modbus.peer import settings

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[4]
MODULES = ROOT / ".venv" / "npm" / "node_modules"
"""where the Makefile installs modbus-serial, if there is npm"""
needs_npm = pytest.mark.skipif(
    not shutil.which("npm"), reason="npm is not installed, and modbus-serial is an npm package"
)


@asynccontextmanager
async def modbus_serial(unit):
    assert MODULES.exists(), "make setup installs modbus-serial"
    port = free_port()
    command = ("env", f"NODE_PATH={MODULES}", "node", HERE / "peer.js", str(port), str(unit))
    async with Child(tuple(map(str, command)), "ready"):
        yield port


@asynccontextmanager
async def pymodbus():
    port = free_port()
    command = (sys.executable, "-m", "tests.contract.drivers.modbus.pymodbus_server", str(port))
    async with Child(("env", f"PYTHONPATH={os.fspath(ROOT)}", *command), "ready"):
        yield port


def points(unit, *ats):
    return [Point("m", at, str(unit), at, 60) for at in ats]


@needs_npm
def test_a_server_of_modbus_serial_is_read_and_its_refusals_are_named():
    async def attack():
        async with modbus_serial(7) as port:
            line = settings(port, 0.3)
            async with ModbusTcp.open(line) as driver:
                hearing = Hearing(driver, "modbus-tcp", line)
                asked = points(7, "input/0/float32", "input/2/float32", "holding/5/uint16",
                               "coil/3", "holding/100/uint16")  # fmt: skip
                samples = await driver.read(asked)
                (nobody,) = await driver.read(points(8, "holding/5/uint16"))
                hearing.end()
                found, searched = await scanned(driver, "modbus-tcp", line, Wish("6", "8"))
            return samples, nobody, hearing, found, searched

    samples, nobody, hearing, found, searched = asyncio.run(attack())
    values = [one.value for one in samples[:4]]
    assert values == [Decimal("230.5"), Decimal("21.25"), 2005, 1]
    assert samples[4].why is Why.BAD
    assert nobody.why is Why.SILENT
    refused = hearing.odd["7", "exception"]
    assert refused["sentence"] == "unit 7 refuses: exception 2, illegal data address"
    assert refused["code"] == 2
    assert {"at": "holding/5", "value": 2005, "hex": "07D5"} in hearing.heard.values["7"].values()
    assert [one.entry["address"] for one in found] == [7]
    assert all(one["expected"] for one in searched.odd.values())


@needs_npm
def test_a_server_of_modbus_serial_that_answers_at_every_unit_is_named():
    async def attack():
        async with modbus_serial(255) as port:
            line = settings(port, 0.3)
            async with ModbusTcp.open(line) as driver:
                return await scanned(driver, "modbus-tcp", line, Wish("1", "2"))

    found, _ = asyncio.run(attack())
    # without a serial number nothing shows that both are one host
    assert [one.entry["address"] for one in found] == [1, 2]


def test_a_process_of_pymodbus_is_read_and_what_it_refuses_is_named():
    async def attack():
        async with pymodbus() as port:
            line = settings(port, 0.5)
            async with ModbusTcp.open(line) as driver:
                hearing = Hearing(driver, "modbus-tcp", line)
                samples = await driver.read(points(7, "input/98/uint16", "input/100/uint16"))
                (nobody,) = await driver.read(points(8, "input/98/uint16"))
                return samples, nobody, hearing.end()

    (inside, outside), nobody, hearing = asyncio.run(attack())
    assert (inside.value, outside.why, nobody.value) == (1098, Why.BAD, None)
    assert hearing.odd["7", "exception"]["code"] == 2
    assert hearing.heard.values["7"]["input/98"]["value"] == 1098
    # each version refuses a unit that it does not have in its own way
    assert {device for device, _ in hearing.odd} == {"7", "8"}

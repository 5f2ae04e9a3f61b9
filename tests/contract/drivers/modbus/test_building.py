"""The pretend building as programs use it: started, read, told to misbehave, its log believed."""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from agent.core.model import Why
from agent.drivers.modbus.bus import ModbusTcp
from hil.building import Building
from hil.modbus_server import Reply, serving
from tests.contract.drivers.modbus.peer import point, settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ENERGY = "input/72/float32"


@asynccontextmanager
async def started(*options: str) -> AsyncIterator[dict[str, Any]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hil.building", *options, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout
    try:
        yield json.loads(await process.stdout.readline())
        process.terminate()
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def order(control: int, *orders: str) -> list[dict[str, Any]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", control)
    answers = []
    for one in orders:
        writer.write(f"{one}\n".encode())
        answers.append(json.loads(await reader.readline()))
    writer.close()
    await writer.wait_closed()
    return answers


def test_a_building_of_its_own_process_is_read_silenced_and_ended(tmp_path: Path) -> None:
    log = tmp_path / "answers.jsonl"

    async def attack() -> None:
        options = ("--lines", "2", "--meters", "2", "--seed", "7", "--log", str(log))
        async with started(*options) as said:
            line = said["lines"][1]
            async with ModbusTcp.open(settings(line["port"], timeout=1.0)) as driver:
                both = [point(ENERGY, unit=2), point("holding/64512/uint32", unit=2)]
                energy, serial = await driver.read(both)
                assert str(serial.value) == line["meters"][1]["serial"]
                (silent,) = await order(said["control"], "silence 1 2")
                assert silent["event"] == "silent"
                assert (await driver.read(both))[0].why is Why.SILENT
                await order(said["control"], "speak 1 2")
                assert (await driver.read(both))[0].why is None
        entries = [json.loads(text) for text in log.read_text().splitlines()]
        assert [entry.get("event", "answer") for entry in entries] == [
            "answer",
            "silent",
            "speak",
            "answer",
        ]
        assert struct.pack(">f", float(energy.value)).hex() == entries[0]["raw"]  # type: ignore[arg-type]
        assert {entry["serial"] for entry in entries} == {str(serial.value)}

    asyncio.run(attack())


def test_orders_are_answered_and_wrong_ones_change_nothing() -> None:
    async def attack() -> None:
        async with started("--lines", "1", "--meters", "1") as said:
            answers = await order(
                said["control"], "silence 0 9", "explode", "", "slow 0 1 soon", "count"
            )
        assert [sorted(answer) for answer in answers] == [["error"]] * 4 + [["requests"]]
        assert answers[-1] == {"requests": 0}

    asyncio.run(attack())


def test_slow_refuse_and_allow_do_what_they_say() -> None:
    async def attack() -> None:
        async with started("--lines", "1", "--meters", "1") as said:
            port = said["lines"][0]["port"]
            async with ModbusTcp.open(settings(port, timeout=1.0)) as driver:
                await order(said["control"], "slow 0 1 0.1", "refuse 0 1 73")
                (refused,) = await driver.read([point(ENERGY)])
                assert refused.detail == "illegal data address"
                await order(said["control"], "allow 0 1")
                (slow,) = await driver.read([point(ENERGY)])
                assert slow.at - refused.at > 0.1
                assert slow.why is None
                await order(said["control"], "slow 0 1 5")
                assert (await driver.read([point(ENERGY)]))[0].why is Why.SILENT

    asyncio.run(attack())


def test_the_same_seed_is_the_same_building_the_same_day() -> None:
    async def attack() -> None:
        async with Building.open(lines=1, meters=2, seed=3) as one:
            async with Building.open(lines=1, meters=2, seed=3) as other:
                assert one.serial(0, 2) == other.serial(0, 2)
                assert one.meters[0, 2].load == other.meters[0, 2].load
            async with Building.open(lines=1, meters=2, seed=4) as another:
                assert one.serial(0, 2) != another.serial(0, 2)

    asyncio.run(attack())


async def exchange(port: int, *pieces: bytes) -> bytes:
    """Send bytes as they are, in pieces; all that comes back until the server has nothing more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0.005)
    writer.write_eof()
    async with asyncio.timeout(20):
        got = await reader.read()
    writer.close()
    await writer.wait_closed()
    return got


def test_the_server_takes_frames_byte_by_byte_and_several_at_once() -> None:
    request = bytes.fromhex("000100000006010400460002")
    expected = bytes.fromhex("000100000007010404")

    async def attack() -> None:
        async with Building.open(lines=1, meters=1) as building:
            port = building.ports[0]
            by_byte = await exchange(port, *(bytes([byte]) for byte in request))
            assert (by_byte[:9], len(by_byte)) == (expected, 13)
            assert len(await exchange(port, request * 3)) == 39

    asyncio.run(attack())


def test_the_server_refuses_as_the_specification_says() -> None:
    refusals = {
        "0006 01 06 0046 0002": "8601",  # a function it has not
        "0006 01 04 0046 0000": "8403",  # no register at all
        "0006 01 04 0046 007e": "8403",  # more than 125
        "0005 01 04 0046 00": "8403",  # a request cut short
        "0006 01 04 0159 0002": "8402",  # beyond the last register
        "0006 01 03 0000 0002": "8302",
        "0006 63 04 0046 0002": "840b",  # nobody at 99
    }

    async def attack() -> dict[str, str]:
        async with Building.open(lines=1, meters=1) as building:
            port = building.ports[0]
            return {
                request: (await exchange(port, bytes.fromhex("00010000" + request)))[7:].hex()
                for request in refusals
            }

    assert asyncio.run(attack()) == refusals


def test_the_server_hangs_up_on_what_is_not_modbus() -> None:
    async def attack() -> bytes:
        async with serving(lambda _, pdu: Reply(pdu)) as port:
            return await exchange(port, b"GET / HTTP/1.0\r\n\r\n")

    assert asyncio.run(attack()) == b""

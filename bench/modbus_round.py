"""What a round of 40 devices x 12 values costs: `python -m bench.modbus_round`.

Over TCP, and on a serial line at 9600 and 19200 baud: requests, characters, seconds of one round
and our CPU. The devices are of every profile with twelve values and more, in turn: the indexes,
powers, voltages and currents that a building reads; they take 10 ms to answer (--answer-ms) and run
in a process of their own. The limit is what wire and devices take: every character, the silence
before each frame, and that answering time. Three ways: ours; ranges without a hole, as people write
them by hand; and one request a value, which is how thingsboard-gateway 3.8.5 asks for each entry of
its file (its algorithm, not its program).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import selectors
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

from agent.core.model import Point
from agent.drivers.modbus.bus import ModbusRtu, ModbusTcp, ModbusTcpSettings, RtuSettings
from agent.drivers.modbus.codec import Tariff, place, plan
from agent.drivers.profile import profile, profiles
from hil.modbus_server import Reply, serving
from hil.serial_line import Registers, SerialLine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from agent.drivers.base import Reads

DEVICES, VALUES = 40, 12
WANTED = (
    *("energy_import", "energy_export", "active_power", "voltage", "current", "power_factor"),
    *("frequency", "reactive_energy", "energy", "reactive_power", "apparent"),
)
"""what a building reads first, by the beginning of its name"""
NO_HOLES = Tariff(request=0.5, register=1.0)
WAYS = ("gardien", "ranges by hand", "one request a value")


def rank(quantity: str) -> int:
    return next((n for n, word in enumerate(WANTED) if quantity.startswith(word)), len(WANTED))


def maps() -> list[list[str]]:
    """Where twelve values of each profile stand that has as many, without SunSpec's tables."""
    addresses = []
    for made in (profile(name) for name in profiles()):
        names = sorted(made.points, key=rank)[:VALUES]
        ats = [made.points[name].at for name in names]
        if made.driver == "modbus" and len(ats) == VALUES and not ats[0].startswith("sunspec"):
            addresses.append(ats)
    return addresses


def groups(way: str, ats: Sequence[str]) -> list[list[str]]:
    """What is asked together."""
    if way == "gardien":
        return [list(ats)]
    if way == "one request a value":
        return [[at] for at in ats]
    blocks = plan(tuple(place(at).spot for at in ats), tariff=NO_HOLES)
    return [[ats[i] for i in block.points] for block in blocks]


@dataclass
class Answering:
    """The devices over TCP, in this process: what they were asked."""

    after: float
    requests: int = 0

    def __call__(self, _: int, pdu: bytes) -> Reply:
        self.requests += 1
        return Reply(Registers({}, fills=True)(pdu), self.after)


async def devices(baudrate: int, after: float) -> None:
    """Be the devices until the standard input ends; each line of it is answered with the counts."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    answering = Answering(after)
    async with SerialLine.open(baudrate or 9600) as line, serving(answering) as port:
        for unit in range(1, DEVICES + 1):
            line.add(unit, Registers({}, fills=True), after=after)
        while await reader.readline():
            asked = line.requests + answering.requests
            facts = {"port": port, "path": line.port, "asked": asked, "sent": line.characters}
            print(json.dumps(facts), flush=True)


@asynccontextmanager
async def started(baudrate: int, after: float) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "bench.modbus_round",
            "--be",
            str(baudrate),
            f"--answer-ms={after * 1e3:g}",
        ),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.stdin.close()
        await process.wait()


async def counts(process: asyncio.subprocess.Process) -> dict[str, Any]:
    process.stdin.write(b"\n")
    return json.loads(await process.stdout.readline())


def opening(baudrate: int, facts: dict[str, Any]) -> Any:
    if baudrate:
        return ModbusRtu.open(RtuSettings(port=facts["path"], baudrate=baudrate))
    return ModbusTcp.open(ModbusTcpSettings(host="127.0.0.1", port=facts["port"]))


async def measured(
    way: str, baudrate: int, number: int, after: float
) -> tuple[int, int, float, float]:
    """Requests, characters, seconds and CPU seconds of a round of so many devices.

    It is the third of three: the driver has learnt by then what requests cost.
    """
    units = list(enumerate(islice(cycle(maps()), number), 1))
    running = started(baudrate, after)
    async with running as process, opening(baudrate, await counts(process)) as driver:
        for _ in range(2):
            await around(driver, way, units)
        before = await counts(process)
        wall, cpu = time.perf_counter(), time.process_time()
        await around(driver, way, units)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        after = await counts(process)
    return after["asked"] - before["asked"], after["sent"] - before["sent"], wall, cpu


async def around(driver: Reads, way: str, units: list[tuple[int, list[str]]]) -> None:
    for unit, all_of_it in units:
        for ats in groups(way, all_of_it):
            samples = await driver.read([Point(f"m{unit}", at, str(unit), at, 60) for at in ats])
            assert all(sample.why is None or "no value" in sample.detail for sample in samples)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.modbus_round", description=__doc__)
    parser.add_argument("--devices", type=int, default=15, help="of the 40; 15 are one of each map")
    parser.add_argument("--answer-ms", type=float, default=10.0, help="that a device takes")
    parser.add_argument("--be", type=int, metavar="BAUD", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.be is not None:
        precise = asyncio.SelectorEventLoop(selectors.SelectSelector())  # epoll rounds up to 1 ms
        precise.run_until_complete(devices(asked.be, asked.answer_ms / 1e3))
        return
    number, scale, after = asked.devices, DEVICES / asked.devices, asked.answer_ms / 1e3
    print(f"{DEVICES} devices x {VALUES} values a round, of {len(maps())} kinds, 8N1; measured on")
    print(f"{number} of them, times {scale:.3g}; they answer in {asked.answer_ms:g} ms")
    heads = ("requests", "per value", "chars", "seconds", "limit", "of it", "CPU ms")
    print(f"{'':28}" + "".join(f"{head:>10}" for head in heads))
    for baudrate in (0, 9600, 19200):
        for way in WAYS:
            asks, sent, wall, cpu = asyncio.run(measured(way, baudrate, number, after))
            limit = asks * after
            if baudrate:
                limit += (sent + 2 * 3.5 * asks) * 10 / baudrate
            print(
                f"{baudrate or 'TCP':>6} {way:21}{asks * scale:10.0f}"
                f"{number * VALUES / asks:9.1f}x{sent * scale:10.0f}"
                f"{wall * scale:10.2f}{limit * scale:10.2f}{limit / wall:10.1%}"
                f"{cpu * scale * 1e3:10.0f}"
            )


if __name__ == "__main__":
    main()

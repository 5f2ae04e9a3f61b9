"""What a round of 40 devices x 12 values costs on a serial line: `python -m bench.modbus_serial`.

Requests, characters and seconds of one round at 9600 and 19200 baud, beside the limit that the wire
sets: characters and the silence between frames, with devices that answer at once. Three ways: ours;
one value a request; and blocks of neighbours without a hole, as thingsboard-gateway's connector
forms them from what its file lists (its algorithm, not its program).
"""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import TYPE_CHECKING

from agent.drivers.modbus.codec import parse
from agent.drivers.modbus.plan import Tariff, plan
from agent.drivers.modbus.serialline import ModbusRtu, RtuSettings
from agent.drivers.profile import profile
from agent.model import Point
from hil.serial_line import Registers, SerialLine

if TYPE_CHECKING:
    from collections.abc import Sequence

OFFERS = list(profile("eastron-sdm120").points.values())[:12]
ATS = [offer.at for offer in OFFERS]
NO_HOLES = Tariff(request=0.5, register=1.0)
"""a hole is never read along: what touches shares a request"""


def groups(way: str) -> list[list[str]]:
    """What is asked together."""
    if way == "gardien":
        return [ATS]
    if way == "one value a request":
        return [[at] for at in ATS]
    return [[ATS[i] for i in b.points] for b in plan(tuple(map(parse, ATS)), tariff=NO_HOLES)]


def points(unit: int, ats: Sequence[str]) -> list[Point]:
    return [Point(f"m{unit}", at, str(unit), at, 60) for at in ats]


async def measured(way: str, baudrate: int, devices: int) -> tuple[int, int, float, float]:
    """Requests, characters, seconds and CPU seconds (the pretend line's too) of one round."""
    async with SerialLine.open(baudrate) as line:
        for unit in range(1, devices + 1):
            line.add(unit, Registers({}, fills=True), after=0.0)
        async with ModbusRtu.open(RtuSettings(port=line.port, baudrate=baudrate)) as driver:
            wall, cpu = time.perf_counter(), time.process_time()
            for unit in range(1, devices + 1):
                for ats in groups(way):
                    samples = await driver.read(points(unit, ats))
                    assert all(sample.why is None for sample in samples)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return line.requests, line.characters, wall, cpu


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.modbus_serial", description=__doc__)
    parser.add_argument("--devices", type=int, default=10, help="of the 40, which are all alike")
    devices = parser.parse_args().devices
    print(
        f"40 SDM120 x {len(ATS)} values a round, 8N1; measured on {devices}, times {40 / devices:g}"
    )
    heads = ("", "baud", "requests", "characters", "seconds", "limit", "of the wire", "CPU ms")
    print(f"{heads[0]:24}" + "".join(f"{head:>12}" for head in heads[1:]))
    for baudrate in (9600, 19200):
        for way in ("gardien", "neighbours only", "one value a request"):
            asked, sent, wall, cpu = asyncio.run(measured(way, baudrate, devices))
            limit = (sent + 2 * 3.5 * asked) * 10 / baudrate
            scale = 40 / devices
            print(
                f"{way:24}{baudrate:12}{asked * scale:12.0f}{sent * scale:12.0f}"
                f"{wall * scale:12.2f}{limit * scale:12.2f}{limit / wall:12.1%}"
                f"{cpu * scale * 1e3:12.0f}"
            )


if __name__ == "__main__":
    main()

"""Frames a second of the M-Bus decoder, beside pymeterbus and pymbusparser where installed; and
the share of the wire's time that the master makes use of.

    python -m bench.mbus [FOLDER]

FOLDER: files `*.hex` with one frame each; without it, telegrams like those of common meters that
are put together here. Another library is measured in this same interpreter where it can be
imported, and reported as skipped where it cannot; what it refuses counts as done.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from agent.core.model import Point
from agent.drivers.mbus.bus import MbusTcp
from agent.drivers.mbus.decode import decode
from agent.drivers.mbus.frame import checksum
from agent.drivers.mbus.settings import MbusTcpSettings
from hil.mbus.encode import Plate
from hil.mbus.line import Bus
from hil.mbus.serve import tcp
from hil.mbus.slave import Slave

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS, ROUNDS, BETWEEN_LOOKS = 0.5, 9, 20

HEAT = (
    "17588506 2D2C 08 04 04 00 0000 0C7817588506 0406E7910000 04142CDB0000 0422D9030000"
    "0459B9270000 045D08120000 0461B1150000 042D5B010000 142DC0010000 043B1F020000"
    "143B74020000 84100600000000 84200600000000 84401400000000 8480401400000000 046D1A2F6511"
    "440651820000 4414B2C30000 542D26020000 543B03040000 426C5F1C 0F00000000E7E40000"
)
WATER = (
    "76570200 2D48 03 07 8B 00 0000 041384270000 046D2815B21A 426CBC19 4413C9200000 42EC7EDC19"
    "0C7876570200" + "".join(f"8{n}016CBE19 8{n}01134F210000" for n in (2, 4)) + "0F0100"
)
POWER = (
    "29260300 B515 10 02 02 00 0000 0C7829260300 84100354050000 84200300000000 04ABFF01FEFFFFFF"
    "04ABFF0200000000 042BFEFFFFFF 02FDC8FF01D108 02FDC8FF020000 03FDD9FF01BEFFFF 02FF52F401"
    "052EB1D12EBE 053EF5B84E40 055BB82DF941 01FD1700"
)


def built(payload: str) -> bytes:
    """A long frame around this payload, from primary address 1."""
    counted = bytes.fromhex("080172" + payload)
    head = bytes((0x68, len(counted), len(counted), 0x68))
    return head + counted + bytes((checksum(counted), 0x16))


def frames_of(folder: str | None) -> list[bytes]:
    if folder is None:
        return [built(payload) for payload in (HEAT, WATER, POWER)]
    paths = sorted(Path(folder).glob("*.hex"))
    return [bytes.fromhex("".join(path.read_text("ascii").split())) for path in paths]


def rate(one: Callable[[bytes], object], frames: list[bytes]) -> float:
    """Frames a second of CPU time."""
    began, done = time.process_time(), 0
    while (spent := time.process_time() - began) < SECONDS:
        for frame in BETWEEN_LOOKS * frames:  # looking at the clock costs something too
            one(frame)
        done += BETWEEN_LOOKS * len(frames)
    return done / spent


def pymeterbus() -> Callable[[bytes], object]:
    """Its reader, and the value and unit of each record, which it makes only when asked."""
    meterbus = import_module("meterbus")

    def one(frame: bytes) -> object:
        try:
            return [(r.parsed_value, r.unit) for r in meterbus.load(frame).records]
        except Exception as error:  # noqa: BLE001 -- theirs to raise, ours only to go on
            return error

    return one


def pymbusparser() -> Callable[[bytes], object]:
    """Its parser, with its answer as Python objects."""
    parser = import_module("pymbusparser")

    def one(frame: bytes) -> object:
        try:
            return parser.parse(frame)
        except Exception as error:  # noqa: BLE001 -- theirs to raise, ours only to go on
            return error

    return one


async def share(baudrate: int) -> tuple[float, float]:
    """Share of the time in which bytes are on the wire, and readings a second, of some meters."""
    meters = [
        Slave(Plate(f"{45_120_000 + n}"), lambda: [bytes.fromhex(HEAT)[12:]])
        for n in range(max(2, baudrate // 600))
    ]
    bus = Bus(meters, baudrate, paced=True)
    async with tcp(bus) as port:
        settings = MbusTcpSettings(host="127.0.0.1", port=port, baudrate=baudrate)
        async with MbusTcp.open(settings) as driver:
            began = time.perf_counter()
            for meter in meters:
                point = Point("m", "e", meter.plate.id, "heat:energy", 60, unit="kWh")
                (sample,) = await driver.read([point])
                assert sample.value is not None, sample.detail
            spent = time.perf_counter() - began
    return bus.busy / spent, len(meters) / spent


def main() -> int:
    frames = frames_of(sys.argv[1] if len(sys.argv) > 1 else None)
    records = sum(len(decode(frame).records) for frame in frames)
    print(f"{len(frames)} frames, {records / len(frames):.1f} records each, medians of {ROUNDS}")
    for name, make in (("pymeterbus", pymeterbus), ("pymbusparser", pymbusparser)):
        try:
            one = make()
        except ImportError:
            print(f"{name:13} skipped: not installed here")
            continue
        # in turn, so that a busy machine is as unfair to one as to the other
        pairs = [(rate(decode, frames), rate(one, frames)) for _ in range(ROUNDS)]
        ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
        times = statistics.median(mine / other for mine, other in pairs)
        print(f"gardien {ours:8,.0f} frames/s, {name} {theirs:8,.0f}: {times:.1f} times as fast")
    for baudrate in (300, 2400, 9600):
        used, reads = asyncio.run(share(baudrate))
        print(f"{baudrate:5} baud: bytes on the wire {used:.0%} of the time, {reads:.2f} meters/s")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A pretend M-Bus line on its own: heat and water meters behind a TCP converter on loopback.

    python -m hil.mbus --meters 20 --seed 1 --log answers.jsonl

It prints one line of JSON, `{"port": …, "meters": [{"serial", "profile", "channel"}], "inputs":
[…]}`, and serves until it is ended. Each meter says what time it is and what it showed at the end
of last month; the inputs are those of a collector of pulses. Every new answer of a meter is written
to the log with its time and value in the moment before it is sent: one side of a proof, of which
the other side knows nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import time
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from hil.curves import DAY, load
from hil.mbus.encode import (
    HEAT,
    PULSES,
    WARM_WATER,
    WATER,
    Plate,
    date,
    date_time,
    energy_wh,
    pulses_litres,
    volume_litres,
)
from hil.mbus.line import Bus
from hil.mbus.serve import tcp
from hil.mbus.slave import Slave

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = (
    (HEAT, "mbus-heat", "heat"),
    (WATER, "mbus-cold-water", "cw"),
    (WARM_WATER, "mbus-warm-water", "dhw"),
)
"""medium, the profile that reads it, and the channel that comes of it"""
INPUTS = (1, 2)
"""of the collector of pulses, each in another dwelling"""
HERE = ZoneInfo("Europe/Paris")
"""the civil time that the meters keep"""


def meters(count: int, seed: int, log: int | None) -> list[Slave]:
    """Heat, cold and warm water meters in turn; what they count goes on after a restart."""
    began = time.time() // DAY * DAY
    return [_meter(n, seed, began, log) for n in range(count)]


def _meter(number: int, seed: int, began: float, log: int | None) -> Slave:
    medium, _, channel = KINDS[number % len(KINDS)]
    plate = Plate(f"{45_120_000 + 1_000 * (seed % 100) + number:08d}", medium=medium)
    energy = load(seed, 99, number + 1, began).energy
    return Slave(plate, partial(_says, plate, channel, energy, log))


def _says(
    plate: Plate, channel: str, energy: Callable[[float], float], log: int | None
) -> list[bytes]:
    """One telegram; thousandths of kWh or m³ are what it shows."""
    now = time.time()
    thousandths = int(energy(now) * 1000)
    if log is not None:
        entry = {"t": now, "serial": plate.id, "channel": channel, "thousandths": thousandths}
        os.write(log, (json.dumps(entry) + "\n").encode())
    counts = energy_wh if channel == "heat" else volume_litres
    here = datetime.fromtimestamp(now, HERE)
    month = here.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    kept = int(energy(month.timestamp()) * 1000)
    memory = date(month.date() - timedelta(days=1), 1) + counts(kept, 1)
    return [counts(thousandths) + date_time(here) + memory]


def collector(seed: int) -> Slave:
    """Two water meters without a voice, whose pulses one device counts: litres, and ten of them."""
    began = time.time() // DAY * DAY
    loads = [load(seed, 98, number, began).energy for number in INPUTS]

    def says() -> list[bytes]:
        now = time.time()
        counted = zip(INPUTS, loads, strict=True)
        return [b"".join(pulses_litres(n, int(energy(now) * 1000)) for n, energy in counted)]

    return Slave(Plate(f"{99_000_000 + seed:08d}", medium=PULSES), says)


async def serve(wanted: argparse.Namespace) -> None:
    """Serve what the command line asked for, until SIGTERM or SIGINT."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    log = os.open(wanted.log, flags, 0o644) if wanted.log else None
    slaves, pulses = meters(wanted.meters, wanted.seed, log), collector(wanted.seed)
    if wanted.ignores:
        slaves[0].ignores = wanted.ignores
    bus = Bus([*slaves, pulses], baudrate=wanted.baudrate, paced=wanted.paced)
    async with tcp(bus, wanted.port) as port:
        said: list[dict[str, Any]] = [
            {"serial": one.plate.id, "profile": profile, "channel": channel}
            for one in slaves
            for medium, profile, channel in KINDS
            if medium == one.plate.medium
        ]
        inputs = [f"{pulses.plate.id}/{n}" for n in INPUTS]
        print(json.dumps({"port": port, "meters": said, "inputs": inputs}), flush=True)
        await ended.wait()


def main() -> None:
    """Run the pretend line from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m hil.mbus",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--meters", type=int, default=60, help="meters (default 60)")
    parser.add_argument("--seed", type=int, default=1, help="fixes numbers and loads (default 1)")
    parser.add_argument("--port", type=int, default=0, help="TCP port; without: a free one")
    parser.add_argument("--baudrate", type=int, default=2400, help="of the wire (default 2400)")
    parser.add_argument("--paced", action="store_true", help="as fast as the wire, not at once")
    parser.add_argument(
        "--ignores",
        choices=("kind", "fabrication", "wildcards", "beginning", "numbers", "address"),
        default="",
        help="what the first meter does not compare in a selection (hil.mbus.slave)",
    )
    parser.add_argument("--log", type=Path, help="append the answers here, as JSON lines")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()

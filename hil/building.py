"""The pretend building: lines of Eastron SDM120 meters that answer real Modbus TCP on loopback.

    python -m hil.building --lines 4 --meters 15 --seed 1 --log answers.jsonl

It prints one line of JSON (ports, serial numbers, control port) and serves until it is ended. Every
answer that carries the energy register is written to the log, with its time and its raw bytes, in
the moment before it is sent: one side of a proof, of which the other side knows nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from hil.curves import DAY, Switched, load
from hil.meter import Meter, serial_of
from hil.modbus_server import NOBODY_THERE, Reply, refuse, serving
from hil.orders import GRAMMAR, taking_orders

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence


EXCHANGED_SERIAL = 10_000_000
"""by which the serial number of a new meter differs from that of the old one"""
EXCHANGED_INDEX = 0.25
"""kWh that a new meter has counted in the factory"""


class Log:
    """Lines of JSON that another process may read while they are written."""

    def __init__(self, path: Path | None) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self.file = None if path is None else os.open(path, flags, 0o644)

    def write(self, **entry: Any) -> None:
        """Hand one line to the kernel, in one piece."""
        if self.file is not None:
            os.write(self.file, (json.dumps(entry) + "\n").encode())

    def close(self) -> None:
        """Close the file."""
        if self.file is not None:
            os.close(self.file)


class Building:
    """An open pretend building. Lines count from 0, units on each from 1."""

    def __init__(self, meters: dict[tuple[int, int], Meter], log: Log) -> None:
        self.meters = meters
        self.log = log
        self.ports: list[int] = []
        """on 127.0.0.1, by line"""
        self.requests = 0
        """that came, answered or not"""

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        *,
        lines: int = 4,
        meters: int = 15,
        seed: int = 1,
        log: Path | None = None,
        ports: Sequence[int] = (),
    ) -> AsyncIterator[Self]:
        """Serve `lines` lines of `meters` meters, on `ports` or on free ones. Raises OSError.

        The meters began to count at the last midnight (UTC), so a building started again the same
        day goes on where it was.
        """
        began = time.time() // DAY * DAY
        places = [(line, unit) for line in range(lines) for unit in range(1, meters + 1)]
        building = cls(
            {at: Meter(*at, serial_of(seed, *at), load(seed, *at, began)) for at in places},
            Log(log),
        )
        async with AsyncExitStack() as stack:
            stack.callback(building.log.close)
            for line in range(lines):
                server = serving(partial(building.answer, line), ports[line] if ports else 0)
                building.ports.append(await stack.enter_async_context(server))
            yield building

    def answer(self, line: int, unit: int, pdu: bytes) -> Reply | None:
        """Answer as the gateway at the head of the line does."""
        self.requests += 1
        meter = self.meters.get((line, unit))
        if meter is None:
            return Reply(refuse(pdu[0], NOBODY_THERE))
        if meter.silent:
            return None
        reply, energy = meter.answer(pdu, time.time())
        return Reply(reply, meter.slow, partial(self._note, meter, energy) if energy else None)

    def _note(self, meter: Meter, energy: bytes, since: float) -> None:
        self.log.write(
            t=time.time(),
            since=since,
            line=meter.line,
            unit=meter.unit,
            serial=str(meter.serial),
            raw=energy.hex(),
        )

    def serial(self, line: int, unit: int) -> str:
        """Give the serial number of one meter, as its register says it."""
        return str(self.meters[line, unit].serial)

    def silence(self, line: int, unit: int) -> dict[str, Any]:
        """Let one meter answer nothing more; what happened is returned, and stands in the log."""
        self.meters[line, unit].silent = True
        return self._event("silent", line, unit)

    def speak(self, line: int, unit: int) -> dict[str, Any]:
        """Let one meter answer again, at once."""
        self.meters[line, unit].silent = False
        self.meters[line, unit].slow = 0.0
        return self._event("speak", line, unit)

    def slow(self, line: int, unit: int, seconds: float) -> dict[str, Any]:
        """Let one meter hold every answer back."""
        self.meters[line, unit].slow = seconds
        return self._event("slow", line, unit)

    def refuse(self, line: int, unit: int, address: int) -> dict[str, Any]:
        """Let one meter refuse every block that holds this address."""
        self.meters[line, unit].refused.add(address)
        return self._event("refuse", line, unit)

    def allow(self, line: int, unit: int) -> dict[str, Any]:
        """Let one meter refuse nothing any more."""
        self.meters[line, unit].refused.clear()
        return self._event("allow", line, unit)

    def draw(self, line: int, unit: int, watts: float) -> dict[str, Any]:
        """Let somebody switch something on behind one meter."""
        meter = self.meters[line, unit]
        parts = (*meter.load.parts, Switched(time.time(), watts))
        meter.load = replace(meter.load, parts=parts)
        return self._event("draw", line, unit)

    def exchange(self, line: int, unit: int) -> dict[str, Any]:
        """Put another meter in the place of one; it begins near zero.

        Returned: its serial number, and the last index of the old one and its own first (kWh).
        """
        old, now = self.meters[line, unit], time.time()
        fresh = replace(old.load, began=now, index=EXCHANGED_INDEX)
        serial = old.serial + EXCHANGED_SERIAL
        self.meters[line, unit] = Meter(line, unit, serial, fresh)
        closing = round(old.load.energy(now), 3)
        return {**self._event("exchange", line, unit), "closing": closing, "opening": fresh.index}

    def _event(self, event: str, line: int, unit: int) -> dict[str, Any]:
        serial = self.serial(line, unit)
        entry = {"event": event, "t": time.time(), "line": line, "unit": unit, "serial": serial}
        self.log.write(**entry)
        return entry

    def describe(self) -> dict[str, Any]:
        """Say where every meter is: `{"lines": [{line, host, port, meters: [{unit, serial}]}]}`."""
        return {
            "lines": [
                {
                    "line": line,
                    "host": "127.0.0.1",
                    "port": port,
                    "meters": [
                        {"unit": unit, "serial": self.serial(line, unit)}
                        for at, unit in self.meters
                        if at == line
                    ],
                }
                for line, port in enumerate(self.ports)
            ]
        }


async def serve(wanted: argparse.Namespace) -> None:
    """Serve what the command line asked for, until SIGTERM or SIGINT."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with (
        Building.open(
            lines=wanted.lines,
            meters=wanted.meters,
            seed=wanted.seed,
            log=wanted.log,
            ports=wanted.ports,
        ) as building,
        taking_orders(building, wanted.control) as control,
    ):
        print(json.dumps({**building.describe(), "control": control}), flush=True)
        await ended.wait()


def main() -> None:
    """Run the pretend building from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m hil.building",
        description=f"{__doc__}\n{GRAMMAR}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--lines", type=int, default=4, help="lines (default 4)")
    parser.add_argument("--meters", type=int, default=15, help="meters on each (default 15)")
    parser.add_argument("--seed", type=int, default=1, help="fixes serials and loads (default 1)")
    parser.add_argument("--log", type=Path, help="append the answers here, as JSON lines")
    parser.add_argument(
        "--ports", type=int, nargs="*", default=[], help="one a line; without: free ones"
    )
    parser.add_argument("--control", type=int, default=0, help="control port; without: a free one")
    wanted = parser.parse_args()
    if not 1 <= wanted.meters <= 247 or wanted.lines < 1:
        parser.error("at least one line, and 1 to 247 meters on each")
    if wanted.ports and len(wanted.ports) != wanted.lines:
        parser.error("--ports needs one port for each line")
    asyncio.run(serve(wanted))


if __name__ == "__main__":
    main()

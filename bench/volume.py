"""Bytes that a metered line is billed for, beside what `check` estimates: `python -m bench.volume`.

Real spool, TLS, signatures, mosquitto, HTTPS server, sshd and platform on loopback, with segments
as small as on a mobile line. The kernel counts bytes and segments in both directions (TCP_INFO).
Measured: the opening of a connection, one status report, one sign of life, and batches of several
schedules as they come, with ids as random as real ones. The month is put together from these.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from agent.core.model import Lane, Reading, Series
from agent.registry.place import mint
from agent.uplink import budget
from agent.uplink.base import used
from agent.uplink.budget import ReadStream, UplinkLoad
from agent.uplink.files.folder import OUT, RECEIPT, name
from bench.uplink import CLOCK, Gateway, Recording, gateway

SEGMENT = 1_400
"""bytes of payload, as on mobile lines"""
PARTS = ("mqtts", "https", "sftp")
TRANSPORT = {"mqtts": "mqtt", "https": "https", "sftp": "files"}
LIFE = {"mqtt": 30.0, "https": 60.0, "files": 60.0}
"""seconds between two signs of life, or looks, by default"""
INTERVALS = 4
DICE = random.Random(1)
CHANNELS = (
    ("elec.imp", "REG", "kWh", 3),
    ("elec.exp", "REG", "kWh", 3),
    ("elec.power", "INS", "W", 2),
    ("elec.voltage", "INS", "V", 2),
    ("elec.current", "INS", "A", 3),
    ("elec.freq", "INS", "Hz", 3),
    ("temp", "INS", "Cel", 1),
    ("rh", "INS", "%RH", 1),
)
"""name, kind, unit, decimals"""
STATUS = {
    "at": "2026-11-27T03:50:00Z",
    "started": "2026-11-20T08:11:40Z",
    "version": "1.0.0",
    "configuration": "5f0c2a9d81b4e673",
    "clock": "SYNCED",
    "epoch": 1,
    "links": [{"name": f"stair-{n}", "open": True, "devices": 40, "silent": 0} for n in range(3)],
    "devices": {"up": 120, "silent": 0, "held_back": 0},
    "backlog": {
        "rows": 60, "slots": 60, "batches": 1, "batch_rows": 60, "quarantined": 0,
        "oldest": "2026-11-27T03:49:00Z", "used": 1_048_576, "cap": 200_000_000, "shed": 0,
    },
    "disk": {"free": 21_474_836_480, "total": 31_138_512_896},
    "holds": [],
    "events": [{"code": "clock", "text": "the clock has not been set since the last start"}],
    "certificate": {"not_after": "2027-02-20T08:11:40Z", "days_left": 85},
    "audience": "G84G7ZWYRD6Z1GQ.5f0c2a9d81b4e673",
    "data": {"month": "2026-11", "used": 104_857_600, "budget": 200_000_000},
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A schedule: so many dwellings, with so many meters each, with so many values each."""

    dwellings: int
    meters: int
    values: int
    step: int
    seal: int

    @property
    def rows(self) -> int:
        """Rows of one round of reading."""
        return self.dwellings * self.meters * self.values

    def load(self, transport: str) -> UplinkLoad:
        """The same for the estimate."""
        meters = self.dwellings * self.meters
        momentary = sum(of.kind == "INS" for of in series_of(self))
        stream = ReadStream(self.step, self.dwellings, meters, self.rows, momentary)
        return UplinkLoad(transport, (stream,), float(self.seal), LIFE[transport])

    def batches_a_day(self) -> float:
        """One an interval, where there is something in it."""
        return 86_400 / max(self.seal, self.step)


CASES = (
    Case(60, 1, 1, 60, 60),
    Case(60, 1, 4, 60, 60),
    Case(60, 1, 8, 60, 60),
    Case(60, 1, 4, 60, 300),
    Case(60, 1, 1, 60, 900),
    Case(60, 3, 1, 600, 60),
    Case(60, 4, 2, 900, 900),
    Case(200, 1, 4, 600, 60),
    Case(200, 1, 1, 3600, 60),
    Case(200, 3, 1, 3600, 3600),
    Case(5, 1, 1, 60, 60),
    Case(5, 1, 4, 900, 60),
    Case(3, 1, 1, 3600, 60),
    Case(40, 1, 4, 900, 900),
    Case(40, 1, 1, 600, 3600),
    Case(20, 1, 8, 60, 300),
    Case(1, 1, 8, 10, 60),
)


def series_of(case: Case) -> list[Series]:
    """With ids as the registry mints them."""
    made = []
    for _ in range(case.dwellings):
        place, occupancy, basis = mint("D"), mint("H"), DICE.randbytes(8).hex()
        for meter in range(case.meters):
            number = f"EAS-{DICE.randrange(10**8):08d}"
            for value in range(case.values):
                of = CHANNELS[(meter * case.values + value) % len(CHANNELS)]
                made.append(Series(place, *of[:3], case.step, number, occupancy, basis))
    return made


def rounds(case: Case, start: int, number: int) -> list[list[Reading]]:
    """Readings: indexes grow, momentary values do not, and some devices are a second late."""
    series = series_of(case)
    decimals = {channel: places for channel, _, _, places in CHANNELS}
    values = [DICE.randrange(10**7) for _ in series]
    made = []
    for slot in range(start, start + number * case.step, case.step):
        values = [
            value + DICE.randrange(30) if of.kind == "REG" else DICE.randrange(200, 24_000)
            for of, value in zip(series, values, strict=True)
        ]
        late = [DICE.choice((0, 0, 0, 1, 2)) for _ in range(case.dwellings * case.meters)]
        made.append(
            [
                Reading(of, slot, Decimal(value).scaleb(-decimals[of.channel]), "V", late[place])
                for place, of, value in zip(
                    [n // case.values for n in range(len(series))], series, values, strict=True
                )
            ]
        )
    return made


def moved(at: Gateway) -> int:
    """Bytes on the line since its connection was opened."""
    return sum(used(one) for one in at.far.line.sockets)


@asynccontextmanager
async def metered(word: str):
    """A gateway whose line has segments as small as a mobile line's."""
    with tempfile.TemporaryDirectory() as folder:
        async with gateway(word, 0.0, Path(folder)) as at:
            at.far.line.limit_segments(SEGMENT)
            yield at


async def quiet(at: Gateway) -> int:
    """Bytes so far, once nothing moves any more."""
    before = -1
    while (now := moved(at)) != before:
        before = now
        await asyncio.sleep(0.3)
    return now


async def single(word: str) -> dict[str, float]:
    """Bytes of an opening, a status report, and a sign of life."""
    async with metered(word) as at:
        often = {"keepalive": 3.0, "poll": 3600.0}
        known = {key: value for key, value in often.items() if hasattr(at.settings, key)}
        settings = at.settings.model_copy(update=known)
        async with at.kind.open(settings, at.station) as uplink:
            opening = moved(at)
            await uplink.tell(STATUS)
            first = moved(at)
            for _ in range(4):
                await uplink.tell(STATUS)
            status = (moved(at) - first) / 4
            if word == "mqtts":
                before = await quiet(at)
                while moved(at) == before:
                    await asyncio.sleep(0.1)
                life = await quiet(at) - before
            else:
                look = uplink._fetch if word == "https" else uplink._fetch_objects  # noqa: SLF001
                before = moved(at)
                for _ in range(5):
                    await look()
                life = (moved(at) - before) / 5
    return {"opening": opening, "status": status, "life": life}


async def as_it_comes(word: str, case: Case, intervals: int = INTERVALS) -> tuple[float, float]:
    """Bytes on the wire, and of payload, for one batch that is sent when its interval is over."""
    each = max(1, case.seal // case.step)
    tomorrow = int(time.time()) // 86_400 * 86_400 + 86_400
    made = rounds(case, tomorrow, each * (intervals + 1))
    batches = [
        [row for rows in made[first : first + each] for row in rows]
        for first in range(0, len(made), each)
    ]
    async with metered(word) as at:
        send = by_hand if word == "sftp" else by_itself
        wire = await send(at, batches) / intervals
    return wire, sum(len(batch.payload) for batch in at.sealed[1:]) / intervals


async def by_itself(at: Gateway, batches: list[list[Reading]]) -> int:
    """Bytes of all batches but the first, without any sign of life."""
    seldom = {"keepalive": 1200.0, "poll": 3600.0}
    known = {key: value for key, value in seldom.items() if hasattr(at.settings, key)}
    at.settings = at.settings.model_copy(update=known)
    before = 0
    async with at.delivering():
        for rows in batches:
            await at.append(rows)
            await at.settled()
            before = before or await quiet(at)
        return await quiet(at) - before


async def by_hand(at: Gateway, batches: list[list[Reading]]) -> int:
    """The same by files; each receipt is looked for once, when it is there."""
    await at.thread.run(at.spool.packs, at.packing)
    outbox = Recording(at.spool, at.thread, CLOCK)
    outbox.sealed = at.sealed
    before = 0
    async with at.kind.open(at.settings, at.station) as uplink:
        for rows in batches:
            await at.append(rows)
            batch = await outbox.seal(Lane.LIVE, 0, 50_000, uplink.most_bytes)
            await uplink.send(batch)
            receipt = at.far.server.root / OUT / f"{name(batch)}{RECEIPT}"
            while not receipt.exists():
                await asyncio.sleep(0.05)
            await outbox.settle(await uplink._look(name(batch), RECEIPT))  # noqa: SLF001
            before = before or await quiet(at)
        return await quiet(at) - before


def a_month(transport: str, case: Case, wire: float, parts: dict[str, float]) -> float:
    """Bytes a month, put together from what was measured."""
    load = case.load(transport)
    signs = budget.signs_a_day(load) * parts["life"]
    status = 86_400 / budget.status_every(load.seal) * parts["status"]
    day = (
        case.batches_a_day() * wire
        + signs
        + status
        + budget.openings_a_day(load) * parts["opening"]
    )
    return budget.MONTH * day


async def main() -> None:
    for word in sys.argv[1:] or PARTS:
        transport = TRANSPORT[word]
        parts = await single(word)
        print(f"\n{transport}:", ", ".join(f"{key} {value:.0f} B" for key, value in parts.items()))
        print("dwellings meters values step seal  payload   wire  B/row  MB a month  estimate")
        for case in CASES:
            wire, payload = await as_it_comes(word, case)
            rows = case.rows * max(1, case.seal // case.step)
            measured = a_month(transport, case, wire, parts)
            estimate = budget.a_month(case.load(transport))
            print(
                f"{case.dwellings:9} {case.meters:6} {case.values:6} {case.step:4} {case.seal:4}"
                f" {payload:8.0f} {wire:6.0f} {wire / rows:6.1f}"
                f" {measured / 1e6:11.1f} {estimate / 1e6:9.1f} ({estimate / measured - 1:+.0%})",
                flush=True,
            )


if __name__ == "__main__":
    asyncio.run(main())

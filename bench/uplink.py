"""Readings a second with receipts, and bytes a reading on the wire: `python -m bench.uplink`.

For each transport, on loopback and over a line of 50 ms round trip: a backlog of 30,000 readings
from the platform's return to its last receipt, and five intervals of 60 dwellings sent as they
come: minute by minute over MQTT and HTTPS, a quarter of an hour in each file. In the same run the
same batches are handed to the same server with nothing around them: no receipt waited for, no gap,
no spool. A dwelling has one series, or a group of four. Ids are as random as real ones: numbered
ones would compress to nothing. Real spool, broker, sshd, TLS, signatures, platform. Bytes are those
of the payloads of TCP, both ways.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from agent.buffer.batch import BatchHead
from agent.buffer.database import in_own_thread
from agent.buffer.spool import Spool
from agent.core.clock import Clock
from agent.core.errors import UplinkLost
from agent.core.model import Reading, SealedBatch, Series
from agent.core.tasks import end, keep_open
from agent.registry.place import mint
from agent.uplink import transport
from agent.uplink.base import GatewayFacts
from agent.uplink.forward import forward
from agent.uplink.outbox import SpoolOutbox
from agent.uplink.pacing import Delivery
from hil.behind import Behind, behind

GATEWAY, RECIPIENT = "G84G7ZWYRD6Z1GQ", "energie.metropole.example"
DWELLINGS, ROWS, STEP, INTERVALS = 60, 30_000, 60, 5
POLLS_AN_INTERVAL = {"mqtt": 1, "https": 1, "sftp": 15}
GROUP = (
    ("elec.imp", "REG", "kWh"),
    ("cw", "REG", "m3"),
    ("dhw", "REG", "m3"),
    ("temp", "INS", "Cel"),
)
OUTAGE = 15.0
CLOCK = Clock("system")
DICE = random.Random(1)


def dwellings(channels: int) -> list[Series]:
    """So many series in each dwelling, with ids as the registry mints them."""
    return [
        Series(home, channel, kind, unit, STEP, meter if kind == "REG" else None, who, basis)
        for home, meter, who, basis in (
            (mint("D"), f"EAS-{DICE.randrange(10**8):08d}", mint("H"), DICE.randbytes(8).hex())
            for _ in range(DWELLINGS)
        )
        for channel, kind, unit in GROUP[:channels]
    ]


def polls(series: list[Series], start: int, slots: int) -> list[list[Reading]]:
    """Polls of all dwellings; indexes that grow, temperatures that do not, devices that are late by
    a second or two.
    """
    values = [DICE.randrange(10**7 if one.kind == "REG" else 200) for one in series]
    rounds = []
    for slot in range(start, start + slots * STEP, STEP):
        values = [
            value + DICE.randrange(30) if one.kind == "REG" else 190 + DICE.randrange(10)
            for one, value in zip(series, values, strict=True)
        ]
        rounds.append(
            [
                Reading(one, slot, Decimal(value).scaleb(-3 if one.kind == "REG" else -1), "V",
                        DICE.choice((0, 0, 0, 1, 2)))
                for one, value in zip(series, values, strict=True)
            ]
        )  # fmt: skip
    return rounds


class Gateway:
    """Spool and transport to one far side."""

    def __init__(self, spool: Spool, thread: Any, far: Behind, folder: Path) -> None:
        self.spool, self.thread, self.far = spool, thread, far
        options = YAML(typ="safe", pure=True).load(f"{{{far.uplink}, seal: 1s}}")
        self.kind = transport(options.pop("transport"))
        self.settings = self.kind.Settings.model_validate({"recipient": RECIPIENT} | options)
        identity = far.fleet.gateway(GATEWAY, folder / "state") if far.fleet else None
        self.station, self.delivery = GatewayFacts(GATEWAY, identity), Delivery()
        self.sealed: list[SealedBatch] = []
        self.packing = self.kind.packing(self.settings, self.station)

    async def append(self, rows: list[Reading]) -> None:
        await self.thread.run(self.spool.append, rows, {})

    @asynccontextmanager
    async def delivering(self):
        await self.thread.run(self.spool.packs, self.packing)
        outbox = Recording(self.spool, self.thread, CLOCK)
        outbox.sealed = self.sealed
        self.delivery.heard = time.monotonic() - OUTAGE

        async def serve(uplink):
            rhythm = replace(self.settings.rhythm, seal=1.0)
            await forward(outbox, uplink, rhythm, self.delivery, CLOCK, random.Random(1))

        opening = partial(self.kind.open, self.settings, self.station)
        job = asyncio.ensure_future(keep_open("up", opening, serve, UplinkLost))
        try:
            yield
        finally:
            await end([job])

    async def settled(self) -> None:
        while True:
            left = await self.thread.run(self.spool.backlog)
            if not left.rows and not left.batches:
                return
            await asyncio.sleep(0.05)

    async def bare(self, sealed: list[SealedBatch]) -> float:
        """Seconds to hand so many batches over and nothing else."""
        async with self.kind.open(self.settings, self.station) as uplink:
            began = time.monotonic()
            await asyncio.gather(*(uplink.send(batch) for batch in sealed))
            return time.monotonic() - began


@asynccontextmanager
async def gateway(word: str, delay: float, folder: Path):
    head = BatchHead(GATEWAY, RECIPIENT, "FR-1")
    opening = partial(Spool.open, folder / "spool.db", bytes(32), head, 200_000_000)
    async with behind(word, folder) as far, in_own_thread("spool", opening) as (spool, thread):
        far.line.delay = delay
        yield Gateway(spool, thread, far, folder)


class Recording(SpoolOutbox):
    """Keeps what was sealed, to be sent once more with nothing around it."""

    sealed: list[SealedBatch]

    async def seal(self, *words: Any) -> SealedBatch | None:
        batch = await super().seal(*words)
        if batch is not None:
            self.sealed.append(batch)
        return batch


async def measure(word: str, round_trip: float, channels: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        async with gateway(word, round_trip / 2, Path(name)) as at:
            series = dwellings(channels)
            slots = ROWS // len(series)
            start = int(time.time()) // STEP * STEP - 3_600 - slots * STEP
            for rows in polls(series, start, slots):
                await at.append(rows)
            before, began = at.far.line.passed, time.monotonic()
            async with at.delivering():
                await at.settled()
                seconds = time.monotonic() - began
                drained, number = at.far.line.passed - before, len(at.sealed)
                online = await as_it_comes(at, series, POLLS_AN_INTERVAL[word])
            bare = await at.bare(at.sealed[:number])
            total = len(series) * slots
            print(
                f"{word:6} {round_trip * 1000:4.0f} ms {channels:7} {total / seconds:11.0f}"
                f" {total / bare:12.0f} {number:8} {drained / total:10.2f} {online:9.1f}",
                flush=True,
            )


async def as_it_comes(at: Gateway, series: list[Series], each: int) -> float:
    """Bytes a reading of some intervals, each sent when it is over."""
    before = at.far.line.passed
    ahead = int(time.time()) // STEP * STEP + 86_400
    all_polls = polls(series, ahead, INTERVALS * each)
    for first in range(0, len(all_polls), each):
        await at.append([row for rows in all_polls[first : first + each] for row in rows])
        await at.settled()
    return (at.far.line.passed - before) / (len(series) * len(all_polls))


async def main() -> None:
    print("              series each  readings/s   same, bare  batches  B/reading: backlog  online")
    for word in ("mqtt", "https", "sftp"):
        for round_trip, channels in ((0.0, 1), (0.05, 1), (0.0, len(GROUP))):
            await measure(word, round_trip, channels)


if __name__ == "__main__":
    asyncio.run(main())

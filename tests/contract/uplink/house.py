"""A real spool behind a real uplink, fed by a test."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import TYPE_CHECKING

from agent.buffer.batch import BatchHead
from agent.buffer.spool import Spool
from agent.buffer.thread import OneThread, in_own_thread
from agent.clock import Clock
from agent.errors import UplinkLost
from agent.lifetime import end, keep_open
from agent.model import Reading, Series
from agent.uplink.delivery import Delivery
from agent.uplink.forward import forward
from agent.uplink.mqtt import MqttUplink, Settings
from agent.uplink.outbox import SpoolOutbox
from agent.uplink.pacing import Rhythm

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from agent.uplink.forward import Outbox

GATEWAY, RECIPIENT = "GTEST", "r.example"
CLOCK = Clock("system")
SEAL = 0.2


def series(n: int) -> Series:
    return Series(f"D{n:014d}", "elec.imp", "REG", "kWh", 1, f"m{n}", f"H{n}", f"c{n}")


class House:
    """What a test does to the gateway, and sees of it."""

    def __init__(self, spool: Spool, thread: OneThread) -> None:
        self.spool, self.thread = spool, thread
        self.outbox = SpoolOutbox(spool, thread, CLOCK)
        self.delivery = Delivery()
        self.rows = 0
        self.last = 0

    async def read(self, dwellings: int = 10, slot: int | None = None) -> None:
        """One reading of each dwelling, accepted by the spool."""
        t = max(int(time.time()), self.last + 1) if slot is None else slot
        self.last = max(self.last, t)
        rows = [Reading(series(n), t, Decimal(t) / 1000, "V") for n in range(dwellings)]
        await self.thread.run(self.spool.append, rows, {})
        self.rows += dwellings

    async def backlog(self, slots: int, dwellings: int = 10) -> None:
        """So many slots of the past hour."""
        start = int(time.time()) - 3_600
        for slot in range(start, start + slots):
            await self.read(dwellings, slot)

    async def until(self, fact: Callable[[], bool], within: float = 20.0) -> None:
        """Wait for something to be so."""
        async with asyncio.timeout(within):
            while not fact():
                await asyncio.sleep(0.02)

    async def epoch(self) -> str:
        return await self.thread.run(lambda: self.spool.epoch)

    async def unsettled(self) -> int:
        """Rows that wait, sealed or not."""
        backlog = await self.thread.run(self.spool.backlog)
        return backlog.rows + backlog.batch_rows

    async def settled(self, within: float = 30.0) -> None:
        """Wait until the spool owes nothing."""
        async with asyncio.timeout(within):
            while await self.unsettled():
                await asyncio.sleep(0.05)


@asynccontextmanager
async def house(folder: Path) -> AsyncIterator[House]:
    head = BatchHead(GATEWAY, RECIPIENT, "DEMO-1")
    async with in_own_thread(
        "spool", lambda: Spool.open(folder / "spool.db", bytes(32), head, 50_000_000)
    ) as (spool, thread):
        yield House(spool, thread)


@asynccontextmanager
async def delivering(
    at: House, port: int, outbox: Outbox | None = None, keepalive: float = 5.0
) -> AsyncIterator[None]:
    """Keep an uplink open for as long as the block; what ends it early is raised at the end."""
    settings = Settings(
        recipient=RECIPIENT, url=f"mqtt://127.0.0.1:{port}", seal=SEAL, keepalive=keepalive
    )
    rng = random.Random(1)

    async def serve(uplink: MqttUplink) -> None:
        rhythm = Rhythm(seal=SEAL)
        await forward(outbox or at.outbox, uplink, rhythm, at.delivery, CLOCK, rng)

    job = asyncio.ensure_future(
        keep_open("uplink", lambda: MqttUplink.open(settings, GATEWAY), serve, UplinkLost,
                  longest=2.0, good=at.delivery.good)
    )  # fmt: skip
    try:
        yield
    finally:
        await end([job])
        if not job.cancelled():
            job.result()

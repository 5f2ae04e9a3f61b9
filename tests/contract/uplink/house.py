"""A real spool behind a real uplink, fed by a test."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from agent.buffer.batch import BatchHead
from agent.buffer.database import OneThread, in_own_thread
from agent.buffer.spool import Spool
from agent.core.clock import Clock
from agent.core.errors import UplinkLost
from agent.core.model import Reading, Series
from agent.core.tasks import end, keep_open
from agent.uplink.base import GatewayFacts
from agent.uplink.forward import forward
from agent.uplink.mqtt.settings import Settings
from agent.uplink.mqtt.transport import MqttUplink
from agent.uplink.outbox import SpoolOutbox
from agent.uplink.pacing import Delivery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from agent.uplink.base import Uplink
    from agent.uplink.forward import SendingSpool

GATEWAY, RECIPIENT = "GTEST", "r.example"
SEAL = 0.2


def series(n: int) -> Series:
    return Series(f"D{n:014d}", "elec.imp", "REG", "kWh", 1, f"m{n}", f"H{n}", f"c{n}")


class House:
    """What a test does to the gateway, and sees of it."""

    def __init__(self, spool: Spool, thread: OneThread) -> None:
        self.spool, self.thread = spool, thread
        self.wrong = 0.0
        """seconds by which our clock lies, without knowing it"""
        self.clock = Clock("system", wall=lambda: time.time() + self.wrong)
        self.outbox = SpoolOutbox(spool, thread, self.clock)
        self.delivery = Delivery()
        self.rows = 0
        self.last = 0

    async def read(self, dwellings: int = 10, slot: int | None = None) -> None:
        """One reading of each dwelling, accepted by the spool."""
        t = max(int(time.time()), self.last + 1) if slot is None else slot
        self.last = max(self.last, t)
        rows = [Reading(series(n), t, Decimal(t) / 1000, "V") for n in range(dwellings)]
        await self.thread.run(self.spool.append, rows, {})
        self.delivery.stored()
        self.rows += dwellings

    async def backlog(self, slots: int, dwellings: int = 10) -> None:
        """So many slots of the past hour."""
        start = int(time.time()) - 3_600
        for slot in range(start, start + slots):
            await self.read(dwellings, slot)

    async def until(self, fact: Callable[[], bool], within: float = 60.0) -> None:
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

    async def settled(self, within: float = 60.0) -> None:
        """Wait until the spool owes nothing."""
        async with asyncio.timeout(within):
            while await self.unsettled():
                await asyncio.sleep(0.05)


@asynccontextmanager
async def house(folder: Path, gateway: str = GATEWAY) -> AsyncIterator[House]:
    head = BatchHead(gateway, RECIPIENT, "DEMO-1")
    async with in_own_thread(
        "spool", lambda: Spool.open(folder / "spool.db", bytes(32), head, 50_000_000)
    ) as (spool, thread):
        yield House(spool, thread)


@asynccontextmanager
async def delivering(
    at: House,
    port: int,
    outbox: SendingSpool | None = None,
    keepalive: float = 5.0,
    station: GatewayFacts | None = None,
    **more: object,
) -> AsyncIterator[None]:
    """Keep an uplink open for as long as the block; what ends it early is raised at the end."""
    told = {"recipient": RECIPIENT, "url": f"mqtt://127.0.0.1:{port}", "seal": SEAL}
    settings = Settings.model_validate(told | {"keepalive": keepalive} | more)
    here = station or GatewayFacts(GATEWAY)
    async with serving(at, MqttUplink, settings, here, outbox):
        yield


@asynccontextmanager
async def serving(
    at: House,
    kind: type[Uplink],
    settings: Any,
    station: GatewayFacts,
    outbox: SendingSpool | None = None,
) -> AsyncIterator[None]:
    """Keep an uplink of any transport open for as long as the block."""
    at.delivery.by_broker = getattr(settings, "receipt", "") == "broker"
    rng = random.Random(1)
    await at.thread.run(at.spool.packs, kind.packing(settings, station))
    rhythm = replace(settings.rhythm, seal=SEAL, patience=3.0)

    async def serve(uplink: Uplink) -> None:
        await forward(outbox or at.outbox, uplink, rhythm, at.delivery, at.clock, rng)

    job = asyncio.ensure_future(
        keep_open("uplink", lambda: kind.open(settings, station), serve, UplinkLost,
                  longest=2.0, good=at.delivery.good)
    )  # fmt: skip
    try:
        yield
    finally:
        await end([job])
        if not job.cancelled():
            job.result()

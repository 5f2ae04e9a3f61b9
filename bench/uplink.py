"""From the platform's return to backlog zero, and bytes a reading: `python -m bench.uplink`.

A real spool, broker and platform on loopback. The same run publishes batches of the same size with
nothing around them (no receipts, no gap), so that the rest is what our pacing and proof cost.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from decimal import Decimal
from pathlib import Path

from agent.buffer.batch import BatchHead
from agent.buffer.spool import Spool
from agent.buffer.thread import in_own_thread
from agent.clock import Clock
from agent.errors import UplinkLost
from agent.lifetime import end, keep_open
from agent.model import BatchId, Lane, Reading, Sealed, Series
from agent.uplink.delivery import Delivery
from agent.uplink.forward import forward
from agent.uplink.mqtt import MqttUplink, Settings
from agent.uplink.outbox import SpoolOutbox
from agent.uplink.pacing import Rhythm
from hil.broker import Broker, broker
from hil.platform.child import Platform

GATEWAY, RECIPIENT = "G7Q2MXW4T", "energie.metropole.example"
DWELLINGS, SLOTS, STEP, SEAL = 60, 1_000, 60, 1.0
OUTAGE = 15.0
CLOCK = Clock("system")


def backlog() -> list[list[Reading]]:
    """SLOTS polls of all dwellings, the last one an hour ago; indexes that grow by some Wh."""
    dice, start = random.Random(1), int(time.time()) // STEP * STEP - 3_600 - SLOTS * STEP
    series = [
        Series(f"D{n:014d}", "elec.imp", "REG", "kWh", STEP, f"EAS-{n:08d}", f"H{n:014d}", f"c{n}")
        for n in range(DWELLINGS)
    ]
    indexes = [dice.randrange(10**7) for _ in series]
    polls = []
    for slot in range(start, start + SLOTS * STEP, STEP):
        indexes = [index + dice.randrange(30) for index in indexes]
        polls.append(
            [
                Reading(one, slot, Decimal(index).scaleb(-3), "V")
                for one, index in zip(series, indexes, strict=True)
            ]
        )
    return polls


async def plain(far: Broker, sizes: list[int]) -> float:
    """Seconds to publish so many bytes at QoS 1 and nothing else."""
    settings = Settings(recipient="plain.example", url=far.url)
    rng = random.Random(1)
    batches = [
        Sealed(BatchId(GATEWAY, "plain.example", "e", n), Lane.LIVE, rng.randbytes(size), "", 1)
        for n, size in enumerate(sizes)
    ]
    async with MqttUplink.open(settings, GATEWAY) as uplink:
        began = time.monotonic()
        await asyncio.gather(*(uplink.send(batch) for batch in batches))
        return time.monotonic() - began


async def drained(folder: Path, far: Broker) -> tuple[float, dict[str, int]]:
    """Seconds from connecting to backlog zero after OUTAGE s away, and what the platform counts."""
    head = BatchHead(GATEWAY, RECIPIENT, "FR-1")
    settings = Settings(recipient=RECIPIENT, url=far.url, seal=SEAL)
    delivery = Delivery()
    delivery.heard -= OUTAGE
    async with (
        Platform(far.port, folder / "platform.db") as platform,
        in_own_thread(
            "spool", lambda: Spool.open(folder / "spool.db", bytes(32), head, 200_000_000)
        ) as (spool, thread),
    ):
        for rows in backlog():
            await thread.run(spool.append, rows, {})
        outbox = SpoolOutbox(spool, thread, CLOCK)

        async def serve(uplink: MqttUplink) -> None:
            await forward(outbox, uplink, Rhythm(seal=SEAL), delivery, CLOCK, random.Random(1))

        began = time.monotonic()
        job = asyncio.ensure_future(
            keep_open("up", lambda: MqttUplink.open(settings, GATEWAY), serve, UplinkLost)
        )
        try:
            while True:
                state = await thread.run(spool.backlog)
                if not state.rows and not state.batches:
                    break
                await asyncio.sleep(0.1)
        finally:
            await end([job])
        return time.monotonic() - began, await platform.report()


async def main() -> None:
    async with broker() as far:
        with tempfile.TemporaryDirectory() as folder:
            seconds, counted = await drained(Path(folder), far)
        async with broker(more=("allow_anonymous true",)) as bare:
            listener = await asyncio.create_subprocess_exec(
                "mosquitto_sub", "-p", str(bare.port), "-t", "gardien/+/plain.example/up/+",
                stdout=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            await asyncio.sleep(0.5)
            batches = counted["batches"]
            bare_seconds = await plain(bare, [counted["bytes"] // batches] * batches)
            listener.terminate()
            await listener.wait()
    rows = counted["rows"]
    print(f"backlog after {OUTAGE:.0f} s away   {rows} readings in {batches} batches")
    print(f"to backlog zero           {seconds:8.2f} s   {rows / seconds:10.0f} readings/s")
    print(f"the same bytes, PUBACK only {bare_seconds:6.2f} s")
    print(f"bytes a reading           {counted['bytes'] / rows:8.2f}")


if __name__ == "__main__":
    asyncio.run(main())

"""A gateway's delivering half as a process of its own, to be killed: spool, forwarder, transport.

`python -m tests.system.sender FOLDER`, told by `sender.json` there. The slots lie ahead, so that
all is live: eight batches at a time. It appends what is still to be
appended (each chunk in one commit with the mark that says so), delivers, and ends when the spool
owes nothing.
"""

import asyncio
import json
import random
import sys
from decimal import Decimal
from functools import partial
from pathlib import Path

from agent.buffer.batch import BatchHead
from agent.buffer.database import in_own_thread
from agent.buffer.spool import Spool
from agent.core.clock import Clock
from agent.core.errors import UplinkLost
from agent.core.model import Reading, Series, SlotMark
from agent.core.tasks import end, keep_open
from agent.uplink import transport
from agent.uplink.base import GatewayFacts
from agent.uplink.forward import forward
from agent.uplink.outbox import SpoolOutbox
from agent.uplink.pacing import Delivery, Rhythm

GATEWAY, RECIPIENT = "GTEST", "r.example"
DWELLINGS, CHUNK = 50, 20
KEY = ("all", 60)


def rows(start: int, slots: range) -> list[Reading]:
    return [
        Reading(
            Series(f"D{n:014d}", "elec.imp", "REG", "kWh", 60, f"m{n}", f"H{n}", f"c{n}"),
            start + slot * 60,
            Decimal(slot * 1000 + n) / 1000,
            "V",
        )
        for slot in slots
        for n in range(DWELLINGS)
    ]


async def main(folder: Path) -> None:
    told = json.loads((folder / "sender.json").read_text())
    kind = transport(told["transport"])
    settings = kind.Settings.model_validate({"recipient": RECIPIENT} | told["settings"])
    identity = Path(told["identity"]) if told["identity"] else None
    station, head = GatewayFacts(GATEWAY, identity), BatchHead(GATEWAY, RECIPIENT, "DEMO-1")
    clock, delivery = Clock("system"), Delivery()
    opening = partial(Spool.open, folder / "spool.db", bytes(32), head, 100_000_000)
    async with in_own_thread("spool", opening) as (spool, thread):
        await thread.run(spool.packs, kind.packing(settings, station))
        outbox = SpoolOutbox(spool, thread, clock)
        rhythm = Rhythm(seal=0.5, patience=5.0, most_rows=told["most_rows"])

        async def serve(uplink):
            await forward(outbox, uplink, rhythm, delivery, clock, random.Random())

        job = asyncio.ensure_future(
            keep_open("up", lambda: kind.open(settings, station), serve, UplinkLost,
                      longest=1.0, good=delivery.good)
        )  # fmt: skip
        try:
            marks = await thread.run(spool.marks)
            done = marks[KEY].slot if KEY in marks else 0
            for slot in range(done, told["slots"], CHUNK):
                slots = range(slot, min(slot + CHUNK, told["slots"]))
                chunk = rows(told["start"], slots)
                await thread.run(spool.append, chunk, {KEY: SlotMark(slots.stop, True)})
                await asyncio.sleep(0.02)
            while True:
                backlog = await thread.run(spool.backlog)
                if not backlog.rows and not backlog.batches:
                    return
                await asyncio.sleep(0.1)
        finally:
            await end([job])


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))

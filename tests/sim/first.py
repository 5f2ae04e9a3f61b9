"""The smallest world: common plant on lines that always answer, a platform that stores everything.

It tells whether the loop, the seams and the lives work, without any other part of the simulation.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import asynccontextmanager
from types import SimpleNamespace

DO: dict = {}
END: dict = {}

PLAN = {
    "schema": 1, "seed": 1, "begin": 1_798_758_000, "days": 0.2, "kind": "first", "quiet": 3_600,
    "building": {"dwellings": 1, "recipients": 1, "lines": ["modbus"], "controls": 0, "sums": False,
                 "withheld": False, "common": True, "signed": False},
    "events": [{"at": 6_000.0, "do": "kill", "seed": 5, "aim": "write", "nth": 3, "back": 20},
               {"at": 10_000.0, "do": "power", "seed": 6, "aim": "sync", "nth": 2, "back": 60},
               {"at": 14_000.0, "do": "stop", "seed": 7, "back": 60}],
}  # fmt: skip


def begin(world):
    """What is there before the first life."""
    from tests.sim import houses

    world.house = houses.house(world.plan)
    world.stored = {}
    houses.lay_out(world.house, world.folder)


def heal(world):
    """Nothing ever fails here."""


def install(world):
    """Put the line and the platform below the agent."""
    from agent.core.model import Sample
    from agent.drivers.modbus.bus import ModbusTcp
    from agent.uplink.https import transport

    @asynccontextmanager
    async def opened(settings):
        del settings

        async def read(points):
            await asyncio.sleep(0.05)
            at = world.wall()
            world.note("answer", device=points[0].device, channel="", value=str(int(world.now())))
            world.moment("answer")
            return [Sample(point, at, 7 if "holding" in point.at else int(at)) for point in points]

        yield SimpleNamespace(read=read)

    ModbusTcp.open = staticmethod(opened)

    @asynccontextmanager
    async def connected(settings, facts):
        facts.complete()
        yield Platform(world, settings, facts)

    transport.HttpsUplink.open = staticmethod(connected)


class Platform:
    most_bytes = 1_000_000

    def __init__(self, world, settings, facts):
        self.world, self.settings, self.facts = world, settings, facts
        self.receipted = asyncio.Queue()

    async def send(self, batch):
        world = self.world
        await asyncio.sleep(0.2)
        world.moment("send")
        digest = hashlib.sha256(batch.payload).hexdigest()
        key = batch.id.epoch, batch.id.seq
        world.note("sent", epoch=batch.id.epoch, seq=batch.id.seq, sha256=digest, n=batch.rows)
        again = key in world.stored
        if again and world.stored[key] != digest:
            world.mistakes.append(f"{key} has other bytes")
        world.stored[key] = digest
        self.receipted.put_nowait((batch, digest))

    async def receipts(self):
        from agent.core.model import Receipt

        while True:
            batch, digest = await self.receipted.get()
            await asyncio.sleep(1.5)
            of = batch.id
            self.world.note("receipt", seq=of.seq)
            yield Receipt(of.gateway, of.recipient, of.epoch, ((of.seq, digest),))

    async def tell(self, status):
        pass


async def serve(*_):
    """Nobody calls."""
    await asyncio.Event().wait()

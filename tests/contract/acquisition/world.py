"""A building, its clock and its agent in virtual time: a day goes by in a second.

Only time and the field bus are pretended. Poller, ledger, intake, registry and spool are the
agent's own, and what the spool seals is opened by the pretend platform.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from contextlib import asynccontextmanager
from decimal import Decimal
from zoneinfo import ZoneInfo

from agent.acquisition.common_history import CommonHistory
from agent.acquisition.device import Device
from agent.acquisition.directory import directory
from agent.acquisition.factors import FactorDays
from agent.acquisition.ingest import Ingest, SlotAccount
from agent.acquisition.poller import Poller
from agent.acquisition.row_assignment import RegistryBases
from agent.acquisition.slots import SlotLedger
from agent.acquisition.timekeeper import SlotBook, Timekeeper
from agent.buffer.batch import BatchHead
from agent.buffer.spool import Spool
from agent.core.clock import Clock, ClockEvidence
from agent.core.errors import LinkLost
from agent.core.model import Lane, Point, Sample, Why
from agent.core.tasks import end
from agent.drivers.link import Link
from agent.gateway.gateway import points_by_key
from agent.gateway.recipient import ahead
from hil.platform.ledger import opened
from hil.platform.unpack import unpack
from tests.unit.acquisition.house import LONG_AGO, RECIPIENT, Town

ZONE = ZoneInfo("Europe/Paris")
BORN = 1_790_000_000
"""true time at which every meter was at its first index"""
RATE = Decimal("0.0005")
"""kWh in a second: 1.8 kW"""


def utc(text):
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp())


class Meter:
    """An index that rises with true time and begins again at its end."""

    def __init__(self, first="100", end=None, clock=None):
        self.first, self.end, self.ahead = Decimal(first), end, clock
        self.silent = False

    def index(self, t):
        value = self.first + (int(t) - BORN) * RATE
        return value % self.end if self.end else value


class Odd(Meter):
    """A meter that says something else between two moments: its index plus `more`, from `since`."""

    def __init__(self, first, since, until, more):
        super().__init__(first)
        self.since, self.till, self.more = utc(since), utc(until), Decimal(more)

    def index(self, t):
        return super().index(t) + (self.more if self.since <= t < self.till else 0)


class Sensor:
    """A sensor that says what stands in a table, from each moment on."""

    silent = False
    ahead = None

    def __init__(self, *says):
        self.says = [(utc(since), Decimal(value)) for since, value in says]

    def index(self, t):
        return [value for since, value in self.says if since <= t][-1]


class OldTown(Town):
    """What it consents to was recorded before the first slot."""

    now = LONG_AGO


class World:
    """True time, the wall clock beside it, the meters, and one agent after the other."""

    def __init__(self, folder, meters, points, begin):
        self.folder, self.meters, self.points = folder, meters, points
        self.town = OldTown(folder, dwellings=len(meters))
        self.origin, self.offset = begin - 1_000.0, 0.0
        self.kernel, self.touched = False, None
        self.cut, self.boot = False, "boot 1"
        self.clocks, self.takes = {}, 0.2
        """what meters say of their own clocks; seconds that a read takes"""
        self.decisions = []
        self.factor_days, self.history = FactorDays(), CommonHistory()

    def audit(self, kind, body):
        self.decisions.append((kind, body))

    @property
    def true(self):
        return self.origin + asyncio.get_running_loop().time()

    def wall(self):
        return self.true + self.offset

    async def until(self, moment):
        """Sleep until a moment of true time."""
        await asyncio.sleep(utc(moment) - self.true)

    def synchronizes(self):
        self.offset, self.kernel = 0.0, True

    def lies(self, offset):
        """The time service itself is wrong, or the computer's own clock when it boots."""
        self.offset, self.kernel = offset, True

    def set_clock(self, offset):
        """Somebody sets the clock; the kernel knows that no time service did."""
        self.offset, self.kernel = offset, False

    @asynccontextmanager
    async def bus(self):
        if self.cut:
            raise LinkLost("no carrier")
        yield self

    async def read(self, points):
        await asyncio.sleep(self.takes)
        if self.cut:
            raise LinkLost("no carrier")
        meter = self.meters[points[0].device]
        if meter.silent:
            await asyncio.sleep(1)
            return [Sample(p, self.wall(), why=Why.SILENT, detail="no answer") for p in points]
        serial = Decimal(f"100{points[0].device[1:]}")
        if meter.ahead is not None:
            local = dt.datetime.fromtimestamp(self.true + meter.ahead, ZONE)
            shown = local.replace(tzinfo=None).isoformat(timespec="minutes")
            self.clocks[points[0].address] = shown, self.wall()
        return [
            Sample(p, self.wall(), serial if p.name == "serial" else meter.index(self.true))
            for p in points
        ]

    def health(self):
        return {"clocks": self.clocks}

    @asynccontextmanager
    async def agent(self):
        """Run an agent; leaving the block is SIGTERM."""
        path, head = self.folder / "spool.db", BatchHead("GTEST", RECIPIENT, "DEMO-1")
        loop = asyncio.get_running_loop()
        clock = Clock(
            "ntp", self.folder / "clock.json", self.wall, loop.time,
            lambda: ClockEvidence(self.kernel, self.touched), lambda: None, lambda: self.boot,
        )  # fmt: skip
        self.clock = clock
        with Spool.open(path, bytes(32), head, 50_000_000) as spool:
            ledger = SlotLedger(self.town.gate(), points_by_key(self.points), spool.marks(), ZONE)

            async def append(rows, marks):
                spool.append(rows, marks)

            intake = Ingest(append, flush=5.0)
            pollers = []
            book = SlotBook(RECIPIENT, ledger, intake, spool, in_place)
            self.keeper = Timekeeper(clock, lambda: [book], lambda: pollers, self.audit)
            await self.keeper.look()
            if clock.dates:
                await intake.put(ledger.resume(clock.now()), dict(ledger.marks))
            devices = [
                Device(name, points, Point(name, "serial", "1", "serial", 0))
                for name, points in self.points.items()
            ]
            link = Link("riser", self.bus)
            poller = Poller(
                link, devices, [SlotAccount(ledger, intake)], clock, lambda *_: None, ZONE,
                factor_days=self.factor_days, history=self.history,
            )  # fmt: skip
            pollers.append(poller)
            jobs = [link.serve(), poller.run(), intake.serve(), clock.serve(), self.keeper.serve()]
            tasks = [asyncio.ensure_future(job) for job in jobs]
            told = spool.announced()
            self.deliver = lambda: self._deliver(spool, ledger, told)
            bases = RegistryBases(lambda: ledger.assignment, lambda: ahead(ledger, clock))
            self.obey = lambda: spool.apply(*bases.taken_back(spool.applied), self.wall())
            try:
                yield
            finally:
                for task in tasks:
                    if task.done() and not task.cancelled():
                        task.result()
                await end(tasks)
                await intake.commit()
                clock.remember()
                self.deliver()

    def _deliver(self, spool, ledger, told):
        about = directory(
            self.town.registry, self.town.policy, RECIPIENT, ledger.owed, told, str(ZONE)
        )
        with opened(self.folder / "platform.db") as platform:
            while batch := spool.retract(self.wall(), "trusted"):
                platform.store(unpack(batch.payload), len(batch.payload))
            while batch := spool.announce(about, self.wall(), "trusted"):
                platform.store(unpack(batch.payload), len(batch.payload))
            for lane in (Lane.LIVE, Lane.BACKFILL):
                while batch := spool.seal(lane, self.wall(), "trusted", 0):
                    platform.store(unpack(batch.payload), len(batch.payload))


async def in_place(call, *args):
    """A call of the spool, where no thread is wanted."""
    return call(*args)

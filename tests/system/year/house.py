"""A building's agent on a moved clock: a day goes by in some milliseconds.

Registry, gate, ledger, intake, shelf, spool and outbox are the agent's own, put together as the
daemon puts them; the platform is the pretend one. Pretended are time, the meters and the line: a
slot is closed with what the meters say at it, in the poller's words.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace
from decimal import Decimal
from functools import partial

from agent.acquisition.directory import directory
from agent.acquisition.ingest import Ingest, SlotAccount
from agent.acquisition.row_assignment import RegistryBases, RowAssignment
from agent.acquisition.slots import SlotLedger
from agent.acquisition.sums import ConfiguredSums, Groups, ReadingCache, Sums
from agent.acquisition.unsent_readings import MidnightReadings, UnassignedReadings
from agent.acquisition.values import Intervals, Validation
from agent.buffer.batch import BatchHead
from agent.buffer.database import in_own_thread
from agent.buffer.receipts import parse
from agent.buffer.spool import Spool
from agent.buffer.unassigned_store import UnassignedStore
from agent.config.config import derived
from agent.core.clock import Clock
from agent.core.model import Lane, Sample, Why
from agent.gateway.gateway import points_by_key
from agent.registry.aggregate import FEWEST
from agent.registry.consent_policy import LONGEST_UNSENT, policy
from agent.registry.registry import Registry
from agent.uplink.outbox import SpoolOutbox
from hil.platform.ledger import opened
from hil.platform.unpack import unpack
from tests.system.year.truth import DAY, Held

UNRECEIPTED = 8
KEPT = 14 * DAY


class House:
    """The agent of one building; `facts` is what its gate believes the registry to be."""

    def __init__(self, folder, zone, points, recipients, registry=Registry, **more):
        """`points`: an index for each device; of `flows` what flowed in each step. `common`: by
        what right common areas leave; `withheld`: who wants to know what is held back; `sums`: by
        recipient the channels of which he gets the sum over the `building`; `adder`: how.
        """
        self.folder, self.zone, self.recipients = folder, zone, recipients
        self.registry = registry(folder / "registry.json")
        self.policy = policy("FR-1", more.get("common"), zone=zone)
        self.withheld, self.sums = more.get("withheld", ()), more.get("sums", {})
        self.building, self.adder = more.get("building"), more.get("adder", Sums)
        self.points = {point.device: point for point in points}
        self.by_device = {
            name: [one, derived(one)] if one.channel in more["flows"] else [one]
            for name, one in self.points.items()
        }
        self.judge, self.intervals = Validation(), Intervals(zone)
        self.serials = {}
        """what each device says it is"""
        self.said = {}
        """what it said last"""
        self.meters = None
        """what a meter shows: (serial, t) -> Decimal, None if it does not answer"""
        self.cut = set()
        """recipients that cannot be reached"""
        self.now = 0
        self.clock = Clock("system", None, lambda: float(self.now), lambda: float(self.now))
        self.outlets, self.stored = {}, {}
        self.unsent = LONGEST_UNSENT

    @asynccontextmanager
    async def open(self):
        """Open the stores, as a start of the daemon does."""
        async with AsyncExitStack() as stack:
            opening = partial(UnassignedStore.open, self.folder / "shelf.db", bytes(32))
            shelf, thread = await stack.enter_async_context(in_own_thread("shelf", opening))
            self.unclaimed = UnassignedReadings(self.registry, shelf, thread)
            opening = partial(UnassignedStore.open, self.folder / "registers.db", bytes(32))
            shelf, thread = await stack.enter_async_context(in_own_thread("registers", opening))
            self.registers = MidnightReadings(self.registry, shelf, thread)
            self.indexes = ReadingCache(self.registry)
            self.judge, self.intervals = Validation(), Intervals(self.zone)
            for name in self.recipients:
                self.outlets[name] = await stack.enter_async_context(self._outlet(name))
            await self.add_up()
            yield self
            await self.unclaimed.commit()
            await self.registers.commit()

    @asynccontextmanager
    async def _outlet(self, name):
        head = BatchHead("GTEST", name, "FR-1")
        opening = partial(Spool.open, self.folder / f"{name}.db", bytes(32), head, 200_000_000)
        async with in_own_thread(name, opening) as (spool, thread):
            gate = RowAssignment(self.registry, self.policy, name, withholds=name in self.withheld)
            marks = await thread.run(spool.marks)
            ledger = SlotLedger(gate, points_by_key(self.by_device), marks, self.zone)
            groups = Groups(self.folder / f"rest-{name}.json")
            says = self.serials.get
            sums = self.adder(self.registry, name, groups, self.indexes, marks, says)
            bases = RegistryBases(lambda: gate)
            append = partial(thread.run, spool.append)
            intake = Ingest(append, 5.0, revision=bases.revision, recheck=bases.kept)
            told = await thread.run(spool.announced)
            outbox = SpoolOutbox(spool, thread, self.clock, bases=bases)
            outbox.directory = lambda: directory(
                *(self.registry, self.policy, name, ledger.owed, told, str(self.zone)),
                name="Les Alpins",
                sums=self.sums.get(name, ()),
            )
            await outbox.catch_up()
            await thread.run(spool.append, ledger.resume(self.now), dict(ledger.marks))
            with opened(self.folder / f"platform-{name}.db") as platform:
                yield _Outlet(name, spool, thread, ledger, intake, outbox, platform, sums)
                await intake.commit()

    async def read(self, device, slot):
        """Ask a device, and close its slot in every account."""
        point, serial = self.points[device], self.serials.get(device)
        shown = self.meters(serial, slot)
        sample = Sample(point, float(slot), shown, Why.SILENT if shown is None else None)
        if shown is not None:
            if self.said.get(device) != serial:
                self.judge.forget(device)
            self.said[device] = serial
            found = self.judge.check(point, shown, float(slot))
            words = {"quality": found.quality, "flags": found.flags, "delta": found.delta}
            sample = replace(sample, **words)
        mine = [sample, *self.intervals.derive(self.by_device[device][1:], slot, [sample])]
        self.unclaimed.note(slot, mine, serial)
        self.registers.note(slot, mine, serial, self.accounts())
        self.indexes.note(slot, mine, serial)
        key = (device, point.every)
        for outlet in self.outlets.values():
            rows = outlet.ledger.close(key, slot, mine, serial, Why.BUSY)
            await outlet.intake.put(rows, {key: outlet.ledger.marks[key]})

    def asked(self, name):
        """The sums over dwellings that a recipient is to have."""
        read = {channel: [] for channel in self.sums.get(name, ())}
        for point in self.points.values():
            if point.channel in read and point.place is None:
                read[point.channel].append(point)
        return ConfiguredSums(self.building, read, FEWEST, self.zone, None, name in self.withheld)

    async def add_up(self):
        """Make the sums over dwellings that are due."""
        steps = {}
        for name in self.outlets:
            steps |= self.asked(name).steps()
        self.indexes.set_steps(steps, self.zone)
        for name, outlet in self.outlets.items():
            of = (self.asked(name), float(self.now), outlet.ledger, outlet.intake)
            await outlet.sums.tend(*of)

    async def changed(self):
        """What the daemon does once the registry has changed."""
        for outlet in self.outlets.values():
            await outlet.intake.commit()
            await outlet.outbox.catch_up()
        for shelved in (self.unclaimed, self.registers):
            await shelved.tend(float(self.now), self.accounts(), self._point)

    def _point(self, device, name):
        return next((one for one in self.by_device[device] if one.name == name), None)

    def accounts(self):
        """The recipients, as the poller knows them."""
        return [SlotAccount(outlet.ledger, outlet.intake) for outlet in self.outlets.values()]

    async def tend(self):
        """The upkeep of the stores, and all deliveries that are possible."""
        await self.changed()
        for outlet in self.outlets.values():
            await outlet.thread.run(outlet.spool.forget, self.now - KEPT)
            await outlet.outbox.tend(self.unsent)
            await self._deliver(outlet)

    async def _deliver(self, outlet):
        waiting = await outlet.outbox.unreceipted()
        if outlet.name in self.cut:
            for _ in range(UNRECEIPTED - len(waiting)):
                await outlet.outbox.seal(Lane.LIVE, self.now - 2 * DAY, 5000, 48_000)
            return
        while waiting:
            for batch in waiting:
                await self._send(outlet, batch)
            waiting = await outlet.outbox.unreceipted()
        for lane in (Lane.LIVE, Lane.BACKFILL):
            while batch := await outlet.outbox.seal(lane, self.now - 2 * DAY, 5000, 48_000):
                await self._send(outlet, batch)

    async def _send(self, outlet, batch):
        parcel = unpack(batch.payload)
        held = outlet.platform.store(parcel, len(batch.payload))
        self.stored.setdefault((outlet.name, parcel.id.epoch, parcel.id.seq), self.now)
        document = {
            "schema": "gardien/receipt/1",
            "gateway": parcel.id.gateway,
            "recipient": parcel.id.recipient,
            "epoch": parcel.id.epoch,
            **outlet.platform.word(parcel.id, held),
        }
        await outlet.outbox.settle(parse(json.dumps(document).encode()))

    def held(self, name):
        """What a recipient's platform holds, a run of missing slots each for itself."""
        columns = (
            "place, channel, kind, step, t, q, v, basis, occupancy, meter, ver, d, flags, n, span,"
            " why, epoch, seq"
        )
        with closing(sqlite3.connect(self.folder / f"platform-{name}.db")) as db:
            found = db.execute(f"SELECT {columns} FROM row").fetchall()
        rows = []
        for (
            place,
            channel,
            kind,
            step,
            t,
            q,
            v,
            basis,
            home,
            meter,
            ver,
            d,
            flags,
            many,
            span,
            why,
            *of,
        ) in found:
            stored = self.stored[name, *of]
            value = None if v is None else Decimal(v)
            rows += [
                Held(place, channel, kind, step, t + n * step, q, value, stored, basis, home or "",
                     meter or "", max(ver, 0), d, flags, many or 0, why or "")
                for n in range(span)
            ]  # fmt: skip
        return rows

    def tally(self, name):
        """What the platform has counted of what should not happen."""
        with closing(sqlite3.connect(self.folder / f"platform-{name}.db")) as db:
            return dict(db.execute("SELECT what, n FROM tally"))


class _Outlet:
    """One recipient: its account, its spool, its platform."""

    def __init__(self, name, spool, thread, ledger, intake, outbox, platform, sums):  # noqa: PLR0913, PLR0917
        self.sums = sums
        self.name, self.spool, self.thread = name, spool, thread
        self.ledger, self.intake, self.outbox, self.platform = ledger, intake, outbox, platform

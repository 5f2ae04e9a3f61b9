"""A dossier says of a dwelling what the recipients hold: for random buildings and histories.

The recipients are pretend platforms that keep what the rules say (hil.platform); they are asked
what they hold of each occupancy, and the table of its letter must say the same, before and after
each retraction. What recipients were sent and have not confirmed counts as waiting in the letter.
"""

import asyncio
import csv
import datetime as dt
import io
import json
import sqlite3
import tempfile
from collections import Counter
from contextlib import AsyncExitStack, closing, suppress
from decimal import Decimal
from functools import cache, partial
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.api.disclosures import last_indexes
from agent.api.dossier import collected
from agent.api.privacy import document
from agent.app import opened
from agent.buffer.receipts import SCHEMA, parse
from agent.buffer.schema import Wrong
from agent.config import load
from agent.core.clock import Clock
from agent.core.errors import Refused
from agent.core.model import Lane, Range, Sample, Why
from agent.gateway.gateway import policy_of
from agent.gateway.recipient import open_recipient
from agent.registry import identity
from agent.registry.dossier import dossier
from agent.registry.inputs import (
    NewConsent,
    NewDuty,
    NewExchange,
    NewInstallation,
    NewOccupancy,
    NewPlace,
    NewWithdrawal,
)
from agent.registry.letter import letter, table
from hil.platform.ledger import TABLES, Ledger
from hil.platform.unpack import unpack
from tests.contract.buffer.far import FOREVER
from tests.depth import examples

DAY = 86_400
ZONE = ZoneInfo("Europe/Paris")
CHANNELS = ("elec.exp", "elec.imp")
RECIPIENTS = ("centre.example", "other.example", "third.example")
BEGIN = dt.datetime(2026, 11, 2, 1, tzinfo=ZONE)
CONFIG = """\
building: {{name: Les Alpins}}
links:
  riser: {{driver: modbus-tcp, host: 127.0.0.1, port: 9}}
devices:
  m-1: {{link: riser, address: 1, profile: eastron-sdm120, every: 15min, points: {points}}}
  m-2: {{link: riser, address: 2, profile: eastron-sdm120, every: 15min, points: {points}}}
uplinks:
  centre:
    {{recipient: centre.example, transport: mqtt, url: "mqtt://127.0.0.1:9", withheld: true}}
  other: {{recipient: other.example, transport: mqtt, url: "mqtt://127.0.0.1:9"}}
  third: {{recipient: third.example, transport: mqtt, url: "mqtt://127.0.0.1:9"}}
privacy: {{policy: FR-1}}
clock: {{source: system}}
state: {state}
"""


@cache
def built():
    """The configuration, read once."""
    points = "{energy_export: {channel: elec.exp}}"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.yaml"
        file.write_text(CONFIG.format(state=folder, points=points))
        return load(file)


class Building:
    """A gateway in pretend time, and the platforms of its recipients."""

    def __init__(self, folder):
        self.folder, self.passed = folder, 0
        self.serials = {"m-1": "1001", "m-2": "1002"}
        self.late = []
        self.platforms = {}
        (folder / "state").mkdir()
        identity.mint(folder / "state")

    def now(self):
        return (BEGIN + dt.timedelta(days=self.passed)).timestamp()

    def midnight(self, ago=0):
        day = (BEGIN + dt.timedelta(days=self.passed - ago)).date()
        return int(dt.datetime.combine(day, dt.time(), ZONE).timestamp())

    async def live(self, deeds):
        clock = Clock("system", None, self.now, self.now)
        config = built().model_copy(update={"state": self.folder / "state"})
        with opened(config, clock) as self.house:
            async with AsyncExitStack() as stack:
                for name in self.house.config.uplinks:
                    db = stack.enter_context(
                        closing(sqlite3.connect(":memory:", isolation_level=None))
                    )
                    db.executescript(TABLES)
                    self.platforms[name] = db
                    opening = open_recipient(self.house, name)
                    self.house.recipients[name] = await stack.enter_async_context(opening)
                self._furnish()
                await self.check()
                for deed in deeds:
                    with suppress(Refused):  # what the registry does not take never was
                        await getattr(self, deed[0])(*deed[1:])
                    await self.house.recipients.catch_up()
                    if deed[0] != "consent":  # what is held changes only by others
                        await self.check()
                await self._end()

    def _furnish(self):
        registry, by = self.house.registry, ("marie", "a list", self.now())
        since = self.midnight(ago=20)
        registry.add_places([NewPlace(f"A-{n}", "dwelling", since=since) for n in (1, 2)], *by)
        rows = [NewInstallation(f"A-{n}", serial=f"100{n}", since=since) for n in (1, 2)]
        registry.install(rows, *by)
        for line in self.house.lines.values():
            for device in line.devices.values():
                device.serial = self.serials[device.name]

    # deeds

    async def days(self, number, silent, names, answered):
        """Some days go by, and in the last one something is delivered."""
        for _ in range(number):
            await self.day(silent)
        for name in names:
            await self.deliver(name, answered=answered)

    async def day(self, silent):
        """A day goes by: each device is read at midnight, or is silent."""
        self.passed += 1
        slot = self.midnight()
        for line in self.house.lines.values():
            for device in line.devices.values():
                device.serial = self.serials[device.name]
                why = Why.SILENT if device.name in silent else None
                value = None if why else Decimal(1000 + self.passed)
                samples = [Sample(one, float(slot), value, why) for one in device.points]
                for recipient in self.house.recipients.values():
                    key = (device.name, 900)
                    rows = recipient.ledger.close(key, slot, samples, device.serial, Why.SILENT)
                    recipient.intake.take(rows, {key: recipient.ledger.marks[key]})
        for recipient in self.house.recipients.values():
            await recipient.intake.commit()

    async def deliver(self, name, answered):
        """All that waits is stored; the receipts come now, or later."""
        recipient = self.house.recipients[name]
        platform = Ledger(self.platforms[name])
        while batch := await recipient.outbox.seal(Lane.BACKFILL, FOREVER, 10_000, 10_000_000):
            parcel = unpack(batch.payload)
            held = platform.store(parcel, len(batch.payload))
            self.late.append((name, parcel.id, platform.word(parcel.id, held)))
            if answered:
                await self.receipts(name)

    async def receipts(self, name):
        """What a platform has answered arrives."""
        mine = [one for one in self.late if one[0] == name]
        self.late = [one for one in self.late if one[0] != name]
        for _, id_, word in mine:
            text = {
                "schema": SCHEMA,
                **dict(zip(("gateway", "recipient", "epoch"), id_, strict=False)),
            }
            await self.house.recipients[name].outbox.settle(parse(json.dumps(text | word).encode()))

    async def consent(self, label, recipient, channels, ago):
        registry = self.house.registry
        home = registry.occupancy_at(registry.place(label).id, int(self.now()))
        after = tuple(one.id for one in registry.marks(home.id)[-1:]) if home else ()
        row = NewConsent(
            label, recipient, tuple(channels), DAY, "advice", since=self.midnight(ago),
            after=after, lease=home.id if home else None, given=int(self.now()),
        )  # fmt: skip
        registry.consent([row], "marie", "a list", self.now(), policy_of(self.house.config))

    async def withdraw(self, label, recipient, channels):
        row = NewWithdrawal(place=label, recipient=recipient, channels=tuple(channels))
        self.house.registry.withdraw([row], "marie", "a list", self.now())

    async def move(self, label, ago, into):
        at, rows = self.midnight(ago), [NewOccupancy("move_out", label, until=self.midnight(ago))]
        rows += [NewOccupancy("move_in", label, since=at)] if into else []
        self.house.registry.occupy(rows, "marie", "a list", self.now())

    async def move_in(self, label, ago):
        row = NewOccupancy("move_in", label, since=self.midnight(ago))
        self.house.registry.occupy([row], "marie", "a list", self.now())

    async def correct(self, label, ago):
        """They moved in at another day than was recorded."""
        registry = self.house.registry
        home = registry.occupancies_of(registry.place(label).id)[-1]
        row = NewOccupancy("correct", label, id=home.id, since=self.midnight(ago))
        registry.occupy([row], "marie", "a list", self.now())

    async def exchange(self, device, ago, indexes=None):
        """A meter was replaced some days ago, and only now recorded, with its last index and the
        new one's first, or without.
        """
        old, self.serials[device] = self.serials[device], str(int(self.serials[device]) + 10)
        closing, opening = indexes or (None, None)
        row = NewExchange(
            f"A-{device[-1]}", old, serial=self.serials[device], at=self.exchanged_at(ago),
            closing=closing, opening=opening,
        )  # fmt: skip
        try:
            self.house.registry.exchange([row], "marie", "a list", self.now())
        except Refused:
            self.serials[device] = old
            raise

    def exchanged_at(self, ago):
        """When that was."""
        return self.midnight(ago)

    async def duty(self, recipient, ago):
        row = NewDuty(recipient, "a law", CHANNELS, since=self.midnight(ago))
        self.house.registry.oblige([row], "marie", "a list", self.now())

    async def end_duty(self, ago):
        by = ("marie", "a list", self.now())
        self.house.registry.end_duty("a law", self.midnight(ago), *by)

    # what must hold

    async def dossiers(self):
        registry, now = self.house.registry, int(self.now())
        for home in registry.occupancies():
            sources = await collected(self.house, now, place=home.place, home=home)
            place = next(one for one in registry.places() if one.id == home.place)
            yield home, dossier(registry, sources, place, home, now)

    async def check(self):
        """For each occupancy and recipient, class by class."""
        async for home, of in self.dossiers():
            text = table(of)
            rows = list(csv.DictReader(io.StringIO(text), delimiter=";"))
            for name, recipient in zip(self.house.config.uplinks, RECIPIENTS, strict=True):
                about = [row for row in rows if row["recipient"] == recipient]
                settled = all(one[0] != name for one in self.late)
                self._same(about, name, home, settled=settled)
                if settled and not waiting_to_be_erased(about):
                    self._announced(about, name, home)
            others = {one.id for one in self.house.registry.occupancies()} - {home.id}
            assert not [one for one in others if one in text]

    def _same(self, about, name, home, *, settled):
        asked = waiting_to_be_erased(about)
        held = Counter((channel, basis) for channel, basis, _ in self.held(name, home.id))
        stated = {key_of(row): span_of(row) for row in about if row["fact"] == "holds"}
        for key in held.keys() | stated.keys():
            least, most = stated.get(key, (0, 0))
            assert held[key] <= most, (name, key, "more than stated")
            if settled and not asked:
                assert least == held[key] == most, (name, key, "other than stated")
        removed = self.retracted(name)
        for row in about:
            if row["fact"] == "erasure" and "confirmed, " in row["remark"]:
                assert int(row["remark"].split(", ")[-1].split(" ")[0]) in removed.values()

    def _announced(self, about, name, home):
        """Slots that the platform knows to have no value: silent meters, and what is withheld."""
        sql = "SELECT channel, q, t, step, span FROM row WHERE v IS NULL AND (occupancy = ? OR"
        sql += " (occupancy IS NULL AND place = ?))"
        there = Counter()
        for channel, quality, t, step, span in self._ask(name, sql, home.id, home.place):
            slots = [t + i * step for i in range(span)]
            inside = [one for one in slots if home.since <= one < (home.until or one + 1)]
            there[channel, quality] += len(slots if quality == "M" else inside)
        stated = Counter()
        for row in about:
            if row["fact"].startswith("announced_"):
                kind = {"missing": "M", "withheld": "W"}[row["fact"].removeprefix("announced_")]
                least, most = span_of(row)
                assert least == most
                stated[row["channels"], kind] += most
        assert +there == +stated, (name, there, stated)

    def held(self, name, home):
        """The values that a platform has of an occupancy: channel, basis and slot."""
        sql = "SELECT channel, basis, t FROM row WHERE occupancy = ? AND v IS NOT NULL"
        return self._ask(name, sql, home)

    def retracted(self, name):
        return dict(self._ask(name, "SELECT id, erased FROM retraction"))

    def _ask(self, name, sql, *values):
        return self.platforms[name].execute(sql, values).fetchall()

    async def _end(self):
        """Everything arrives. Letters say the same, and what they say is sent comes next."""
        for name in self.house.recipients:
            await self.receipts(name)
            await self.deliver(name, answered=True)
        await self.check()
        sent, complete = set(), set()
        async for home, of in self.dossiers():
            page = letter(of, "en")
            for holding in of.holdings():
                count = str(holding.most)
                exact = holding.least == holding.most
                assert (count if exact else f"between {holding.least} and {count}") in page
            # of others, a new meter has not given its number yet
            complete |= set() if of.gaps or not of.here else {home.id, home.place}
            sent |= {
                (row["recipient"], home.id, row["channel"], row["basis"])
                for row in document(of)["rows"]
                if row["step"] == DAY
            }
            sent |= {
                (one.recipient, home.place, one.channel, "withheld")
                for one in of.notices
                if one.step == DAY
            }
        await self.day(silent=())
        slot, new = self.midnight(), set()
        for name, recipient in zip(self.house.config.uplinks, RECIPIENTS, strict=True):
            await self.deliver(name, answered=True)
            sql = "SELECT occupancy, channel, basis FROM row WHERE t=? AND step=? AND v IS NOT NULL"
            consents = {one.id for one in self.house.registry.consents()}
            found = self._ask(name, sql, slot, DAY)
            sql = "SELECT place, channel, 'withheld' FROM row WHERE t=? AND step=? AND q='W'"
            noticed = self._ask(name, sql, slot, DAY)
            new |= {(recipient, *row) for row in noticed if row[0] in complete}
            new |= {(recipient, *row) for row in found if row[0] in complete and row[2] in consents}
        assert sent == new, (sent, new)
        await self.check()


def waiting_to_be_erased(about):
    """The erasures that the recipient has not confirmed."""
    return [row for row in about if row["fact"] == "erasure" and "confirmed, " not in row["remark"]]


def key_of(row):
    return row["channels"], row["id"]


def span_of(row):
    """Least and most of `3; 4 values received`, `0 to 4; 4 values received`, `3 of 4 readings`."""
    numbers = row["remark"].split("; ")[0].split(" of ")[0].split(" to ")
    return int(numbers[0]), int(numbers[-1])


NAMES = ("centre", "other", "third")
labels, names = st.sampled_from(["A-1", "A-2"]), st.sampled_from(NAMES)
recipients, ago = st.sampled_from(RECIPIENTS), st.integers(0, 4)
some = st.sets(st.sampled_from(CHANNELS), min_size=1).map(sorted)
consents = st.tuples(st.just("consent"), labels, recipients, some, ago)
days = st.tuples(
    st.just("days"), st.integers(1, 3), st.sampled_from([(), (), ("m-1",)]),
    st.sampled_from([NAMES, NAMES, NAMES[:2], ()]), st.sampled_from([True, True, False]),
)  # fmt: skip
changes = st.one_of(
    st.tuples(st.just("receipts"), names),
    consents,
    st.tuples(st.just("withdraw"), labels, recipients, st.just(()) | some),
    st.tuples(st.just("withdraw"), labels, recipients, st.just(())),
    st.tuples(st.just("move"), labels, ago, st.booleans()),
    st.tuples(st.just("move_in"), labels, ago),
    st.tuples(st.just("correct"), labels, ago),
    st.tuples(
        st.just("exchange"),
        st.sampled_from(["m-1", "m-2"]),
        ago,
        st.none()
        | st.tuples(
            st.just(dict.fromkeys(CHANNELS, Decimal(1009))),
            st.just({"elec.imp": Decimal(1000)}) | st.none(),
        ),
    ),
    st.tuples(st.just("duty"), recipients, ago),
    st.tuples(st.just("end_duty"), ago),
)
DEEDS = st.tuples(
    st.lists(consents, min_size=1, max_size=3), days, st.lists(changes | days, max_size=9)
).map(lambda parts: [*parts[0], parts[1], *parts[2]])
"""consents, some days, and then whatever happens"""


class AfterARestart(Building):
    """Asks what the last index of the first meter was, as far as it is on the disk."""

    async def _end(self):
        meter = next(one for one in self.house.registry.installations() if one.serial == "1001")
        self.last = await last_indexes(self.house, meter)


@pytest.mark.parametrize("names", [(), NAMES])
def test_the_last_index_of_a_meter_is_known_after_a_restart(names, tmp_path):
    """Waiting, or kept after its receipt (rule I28)."""
    building = AfterARestart(tmp_path)
    consent = ("consent", "A-1", RECIPIENTS[0], ["elec.imp"], 0)
    asyncio.run(building.live([("move_in", "A-1", 2), consent, ("days", 3, (), names, True)]))
    (reading,) = building.last.values()
    assert [*building.last] == ["elec.imp"]
    assert (reading.value, reading.at) == (Decimal(1003), building.midnight())


def test_what_a_wrong_clock_closed_is_in_the_dossier(tmp_path):
    """Rules C5, P28."""

    class WrongClock(Building):
        async def _end(self):
            place = self.house.registry.place("A-1").id
            await self.check()
            recipient = self.house.recipients["centre"]
            lost = Range(place, "elec.imp", self.midnight(ago=1), self.midnight() + DAY)
            back = partial(recipient.spool.set_back, Wrong({}, {}), [lost], [], {}, self.now())
            await recipient.thread.run(back)
            states = []
            for _ in range(2):
                await self.check()
                async for _home, of in self.dossiers():
                    states += [(one.reason, one.rows) for one in of.erasures]
                    pages.append(letter(of, "en"))
                await self.deliver("centre", answered=True)
            assert states == [("clock", None), ("clock", 2)]

    pages = []
    building = WrongClock(tmp_path)
    consent = ("consent", "A-1", RECIPIENTS[0], ["elec.imp"], 0)
    asyncio.run(building.live([("move_in", "A-1", 2), consent, ("days", 3, (), NAMES, True)]))
    assert sum("clock was wrong" in one for one in pages) == 2


@examples(25, 400)
@given(DEEDS)
def test_the_letter_says_what_the_recipients_hold(deeds):
    """Rules P18, P20, P23, P28, T19."""
    memory = Path("/dev/shm")  # what a disk costs is of no interest here
    with tempfile.TemporaryDirectory(dir=memory if memory.exists() else None) as folder:
        asyncio.run(Building(Path(folder)).live(deeds))

"""A gateway with an exchange of meters, a roll-over, a move and a withdrawal: the receiver holds
what hil's independent ledger holds, row for row, and its view calls owed what the page calls owed.
"""

import asyncio
import json
from contextlib import closing
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from agent.core.model import Lane, Sample, Why
from agent.registry.inputs import NewExchange, NewInstallation
from hil.platform.ledger import Ledger
from hil.platform.plan import judged
from hil.platform.unpack import unpack
from receiver.batch import opened
from receiver.databases import open_store, prepare
from tests.contract.buffer.far import FOREVER
from tests.contract.receiver.owed import owed
from tests.contract.test_dossier import Building

HELD = """SELECT s.place, s.channel, s.kind, s.step, SEC(r.t), r.ver, r.value, r.q, r.why, r.flags,
o.unit, o.meter, o.occupancy, o.basis, coalesce(r.delay, 0), r.last FROM reading r
JOIN series s ON s.id = r.series JOIN source o ON o.id = r.source"""
OF_THE_LEDGER = """SELECT place, channel, kind, step, t, CASE ver WHEN -1 THEN 0 ELSE ver END, v, q,
why, nullif(flags, ''), unit, coalesce(meter, ''), coalesce(occupancy, ''), basis, d,
CASE WHEN span > 1 THEN t + (span - 1) * step END FROM row"""
AFTER_MIDNIGHT = 1_800
"""seconds at which the meter was exchanged"""


class Watched(Building):
    """Its platform `centre` is a ledger and a receiver."""

    def __init__(self, folder):
        super().__init__(folder)
        prepare(str(folder / "receiver.db"))
        self.store = open_store(str(folder / "receiver.db"))
        self.index = {
            "1001": Decimal(500),
            "1002": Decimal(99_997),
            "1011": Decimal(7),
            "1003": Decimal(40),
        }

    def exchanged_at(self, ago):
        return self.midnight(ago) + AFTER_MIDNIGHT

    async def day(self, silent=()):
        """Each meter counts 2 a day; the one that shows five digits begins again from 0."""
        self.passed += 1
        slot, account = self.midnight(), self.house.recipients["centre"]
        for device in [one for line in self.house.lines.values() for one in line.devices.values()]:
            device.serial = serial = self.serials[device.name]
            rolled = self.index[serial] + 2 >= 100_000
            self.index[serial] = (self.index[serial] + 2) % 100_000
            flags = ("ROLL",) if rolled else ()
            why = Why.SILENT if device.name in silent else None
            value = None if why else self.index[serial]
            samples = [Sample(one, float(slot), value, why, flags=flags) for one in device.points]
            key = (device.name, 900)
            rows = account.ledger.close(key, slot, samples, serial, Why.SILENT)
            account.intake.take(rows, {key: account.ledger.marks[key]})
        await account.intake.commit()

    async def deliver(self, name, answered=True):
        assert answered
        recipient, platform = self.house.recipients[name], Ledger(self.platforms[name])
        while batch := await recipient.outbox.seal(Lane.BACKFILL, FOREVER, 10_000, 10_000_000):
            parcel = unpack(batch.payload)
            held = platform.store(parcel, len(batch.payload))
            self.late.append((name, parcel.id, platform.word(parcel.id, held)))
            if name == "centre":
                receipt = self.store.take(opened(batch.payload))
                word = platform.word(parcel.id, held)
                assert {of: receipt[of] for of in word} == word
            await self.receipts(name)
        if name == "centre":
            self.compare()

    def compare(self):
        """Row for row, and what is owed slot for slot; hil's plan finds nothing wrong."""
        ledger = sorted(self._ask("centre", OF_THE_LEDGER), key=repr)
        assert sorted(map(tuple, self.store.execute(HELD)), key=repr) == ledger
        plan = judged(self.platforms["centre"])
        assert (plan.unknown, plan.unstated, plan.unowed, plan.disorder) == ([], [], [], [])
        lists = {}
        for name, body in self.store.execute("SELECT list, body FROM directory"):
            lists.setdefault(name, []).append(json.loads(body))
        (last,) = self.store.execute("SELECT last_slot FROM sender").fetchone()
        found = self.store.execute("SELECT place, channel, kind, step, slot FROM owed").fetchall()
        assert sorted(found) == sorted(owed(lists, last or 0, ZoneInfo("Europe/Paris")))
        assert self.store.execute("SELECT * FROM missing").fetchall() == []

    def daily(self, label):
        rows = self.store.execute(
            "SELECT amount, complete, breaks FROM daily WHERE label = ? ORDER BY day", (label,)
        )
        return [(float(amount), complete, breaks) for amount, complete, breaks in rows]

    async def check(self):
        """What the letters say is tested elsewhere."""

    async def _end(self):
        """Nothing else happens."""

    async def basis(self, label):
        sql = "SELECT since, until, withdrawn_at FROM access WHERE label = ?"
        return self.store.execute(sql, (label,)).fetchall()

    # deeds

    async def remove(self, label, ago):
        """Somebody has taken the meter out, and nobody puts another one in."""
        removal = NewExchange(label, at=self.exchanged_at(ago), followed=False)
        self.house.registry.exchange([removal], "test", "test", self.now())

    async def install(self, label, device, serial):
        row = NewInstallation(label, serial=serial, since=self.now())
        self.house.registry.install([row], "test", "test", self.now())
        self.serials[device] = serial

    async def owed(self, label, number):
        """So many slots of it are owed, and none is missing."""
        await self.deliver("centre", answered=True)
        place = self.house.registry.place(label).id
        owed_of = "SELECT count(*) FROM owed WHERE place = ?"
        assert self.store.execute(owed_of, (place,)).fetchone() == (number,)

    async def noticed(self, label, owed_before, gap):
        """hil's plan would notice a slot before the gap without a row, and a row in the gap."""
        place, db = self.house.registry.place(label).id, self.platforms["centre"]
        of, last = "place = ?1 AND basis != ''", "t = (SELECT max(t) FROM row)"
        for change, slot, names in (
            (f"DELETE FROM row WHERE {of} AND t = ?2", owed_before, "unstated"),
            (f"UPDATE row SET t = ?2 WHERE {of} AND {last}", gap, "unowed"),
        ):
            at = self.midnight(slot)
            db.execute("SAVEPOINT changed")
            assert db.execute(change, (place, at)).rowcount == 1
            assert getattr(judged(db), names) == [f"{(place, 'elec.imp', 'REG', 86_400)} {at}"]
            db.execute("ROLLBACK TO changed")
        assert judged(db).unowed == []

    async def consumption(self, label, amounts):
        await self.deliver("centre", answered=True)
        assert self.daily(label) == [(amount, 1, 0) for amount in amounts]

    async def nothing_of(self, label):
        await self.deliver("centre", answered=True)
        place = self.house.registry.place(label).id
        count = "SELECT count(*) FROM readings WHERE place = ? AND basis <> ''"
        assert self.store.execute(count, (place,)).fetchone() == (0,)
        ((_, until, told),) = await self.basis(label)
        assert None not in {until, told}
        owed_of = "SELECT count(*) FROM owed WHERE place = ?"
        assert self.store.execute(owed_of, (place,)).fetchone() == (0,)
        (home,) = self.store.execute(
            "SELECT body ->> 'until' FROM directory WHERE list = 'occupancies' AND place = ?",
            (place,),
        ).fetchone()
        assert home == until


def test_the_receiver_holds_what_the_ledger_holds_across_an_exchange_and_all_that_ends(tmp_path):
    """Rules R14, R16, P29, T20, T33, T34: 2 a day, whatever meter and modulus."""
    closing_index, opening = {"elec.imp": Decimal("504.25")}, {"elec.imp": Decimal("7.00")}
    deeds = [
        ("consent", "A-1", "centre.example", ["elec.imp"], 0),
        ("consent", "A-2", "centre.example", ["elec.imp"], 0),
        ("day",), ("day",),
        ("exchange", "m-1", 0, (closing_index, opening)),
        ("consumption", "A-2", [2.0]),
        ("day",), ("day",),
        ("consumption", "A-1", [2.0, 0.25 + 2.0, 2.0]),
        ("consumption", "A-2", [2.0, 2.0, 2.0]),
        ("move", "A-2", 1, True),
        ("consent", "A-2", "centre.example", ["elec.imp"], 0),
        ("day",), ("day", ("m-1",)),
        # of the first people up to the midnight before they left, of the next from their consent on
        ("consumption", "A-2", [2.0, 2.0]),
        ("withdraw", "A-1", "centre.example", ()),
        ("nothing_of", "A-1"),
        ("day",),
        ("deliver", "centre", True),
    ]  # fmt: skip
    building = Watched(tmp_path)
    with closing(building.store):
        asyncio.run(building.live(deeds))


@pytest.mark.parametrize("ago", [0, 1])
def test_of_a_meter_that_was_removed_nothing_is_owed_until_there_is_another(tmp_path, ago):
    """Rules T34, R16: also if the removal is recorded a day later."""
    deeds = [
        ("consent", "A-1", "centre.example", ["elec.imp"], 0),
        ("consent", "A-2", "centre.example", ["elec.imp"], 0),
        ("day",), ("day",), ("day",),
        ("remove", "A-1", ago),
        ("day",), ("day",),
        ("owed", "A-1", 3 - ago),
        ("owed", "A-2", 5),
        ("install", "A-1", "m-1", "1003"),
        ("day",), ("day",),
        ("owed", "A-1", 2),
        ("noticed", "A-1", 6, 3 - ago),
    ]  # fmt: skip
    building = Watched(tmp_path)
    with closing(building.store):
        asyncio.run(building.live(deeds))

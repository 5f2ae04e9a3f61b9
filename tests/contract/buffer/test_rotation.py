"""A spool and a shelf on their way to another key: nothing is lost, doubled or unreadable at any
step, and in the end nothing opens under the key before. Rule K6.
"""

import random
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from agent.buffer.keys import NotOurs, SealBroken, SpoolKeys
from agent.buffer.schema import ROTATED
from agent.buffer.spool import Spool
from agent.buffer.unassigned_store import UnassignedStore
from agent.core.errors import Refused
from agent.core.model import Retraction, SlotMark
from tests.contract.buffer.conftest import HEAD, KEY
from tests.contract.buffer.far import Far, receipt_for, seal, seal_all
from tests.contract.buffer.test_unassigned_store import ONE, TWO, kept
from tests.unit.buffer.rows import NOON, poll, reading

NEW, THIRD = b"n" * 32, b"t" * 32
CAP = 20_000_000
NOW = float(NOON + 86_400)
PLANT = "CZS2YFSTBQQ5WDC"
TOLD = (("tamper", "1"),)
SEALED = {
    "series": ("series", "{number}", "body"),
    "told": ("told", "{device} {step}", "body"),
    "retraction": ("retraction", "{id}", "body"),
    "announced": ("announced", "{key}", "body"),
    "void": ("void", "{epoch} {seq}", "touched"),
    "packed": ("packed", "{epoch} {seq} {form}", "body"),
    "batch": ("batch", "{epoch} {seq}", "body"),
    "owner": ("owner", "{number}", "key"),
    "word": ("id", "{token}", "body"),
    "block": ("block", "{no}", "body"),
    "aside": ("aside", "{owner} {epoch} {seq}", "body"),
}


def opened(path, key=KEY, before=None):
    return Spool.open(path, key, HEAD, CAP, before=before)


def packing(batch):
    return "test", b"packed " + batch.payload


def filled(spool):
    """Something of everything that is sealed; what the recipient has."""
    far = Far()
    for slot in range(6):
        cellar = reading(90).series._replace(place=PLANT, occupancy=None, basis="common")
        rows = [*poll(slot, 4), replace(reading(90, slot), series=cellar)]
        spool.append(rows, {("a", 60): SlotMark(slot, True, None, TOLD)}, NOW)
        spool.tend(NOW, 1e12)
    spool.announce({"places/D1": {"id": "D1"}, "places/D2": {"id": "D2"}}, NOW, "trusted")
    for batch in (seal(spool, most_rows=3), seal(spool, most_rows=4)):
        spool.settle(far.store(batch), NOW)
    with spool._database.transaction():  # as a conflict does
        spool._disclosures.returned(poll(0, 2))
    spool.packs(packing)
    seal(spool, most_rows=3)
    spool.packs(None)
    seal(spool, most_rows=12)
    spool.append(poll(7, 4), {("a", 60): SlotMark(7, True, None, TOLD)}, NOW)
    series = reading(1).series
    words = (HEAD.recipient, series.place, None, series.occupancy, series.basis, None)
    spool.apply(1, [Retraction("r1", *words, 0, NOON + 240, int(NOW), "withdrawn")], NOW)
    spool.tend(NOW, 1e12)
    return far


def under(path, key):
    """How many bodies of each table open under a key; of blocks and piles those without owner."""
    keys = SpoolKeys(key, HEAD.gateway, HEAD.recipient)
    found = {}
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        for table, (purpose, name, column) in SEALED.items():
            box = keys.sealer(purpose)
            for row in db.execute(f"SELECT * FROM {table}"):
                if row[column] is not None and dict(row).get("owner", 0) <= 0:
                    try:
                        box.unseal(row[column], name.format(**row))
                        found[table] = found.get(table, 0) + 1
                    except SealBroken:
                        pass
    return found


def hidden(path, key):
    """The keys of owners, their names, and the tokens of ids."""
    wrap = SpoolKeys(key, HEAD.gateway, HEAD.recipient).sealer("owner")
    with closing(sqlite3.connect(path)) as db:
        owners = db.execute("SELECT number, name, home, key FROM owner").fetchall()
        names = {name for _, *both, _ in owners for name in both}
        keys = {wrap.unseal(one, str(number)) for number, _, _, one in owners}
        tokens = {token for (token,) in db.execute("SELECT token FROM word")}
        for table in ("disclosed", "disclosed_of", "counted_of", "received"):
            for row in db.execute(f"SELECT * FROM {table}"):
                tokens |= {one for one in row if str(one).startswith("#")}
        tokens |= {token for (token,) in db.execute("SELECT key FROM announced")}
    assert names
    assert keys
    assert tokens
    return names | keys | tokens


def everything(spool):
    """All that a spool can say, without changing it."""
    database = spool._database
    blocks = [no for (no,) in database.read("SELECT no FROM block ORDER BY no")]
    rows, broken = spool._pending.opened(blocks)
    piles, lost = spool._voided_rows.opened([n for (n,) in database.read("SELECT no FROM aside")])
    assert (broken, lost) == ([], 0)
    ids = database.read("SELECT epoch, seq FROM batch ORDER BY no")
    return {
        "rows": [block.rows for block in rows],
        "aside": sorted((pile.owner, len(pile.rows)) for pile in piles),
        "batches": [(*id_, spool._outbox.payload(*id_)) for id_ in ids],
        "sent": [(one.id, one.payload, one.sha256) for one in spool._outbox.unreceipted()[0]],
        "counts": [spool._outbox.voids.original_counts(*id_) for id_ in ids],
        "told": spool.marks(),
        "announced": spool.announced(),
        "disclosed": spool.disclosures(),
        "received": sorted(spool.received_slots()),
        "counted": counted(spool),
        "retracting": spool._retracting.waiting(),
        "owners": sorted(spool._person_keys.numbers()),
        "known": [spool._person_keys.known(reading(n).series.occupancy) for n in range(4)],
        "homes": [spool._person_keys.at(reading(n).series.place) for n in range(4)],
    }


def counted(spool):
    """How many values of whom are counted already, and come again."""
    series, token = [reading(n).series for n in range(3)], spool._disclosures._tokens.token
    sql = "SELECT n FROM counted_of WHERE place=? AND basis=? AND occupancy=?"
    words = [map(token, (one.place, one.basis, one.occupancy)) for one in series]
    found = [spool._database.scalar(sql, *of) for of in words]
    assert found == [1, 1, None]
    return found


def steps(spool):
    while spool.rekey_step():
        yield


@pytest.fixture
def path(tmp_path):
    return tmp_path / "spool.db"


def test_everything_is_under_the_new_key_and_nothing_under_the_old_one(path):
    with opened(path) as spool:
        filled(spool)
        before = everything(spool)
    was, hid = under(path, KEY), hidden(path, KEY)
    assert was.keys() == SEALED.keys(), "each table has something to be sealed anew"
    with opened(path, NEW, KEY) as spool:
        assert everything(spool) == before
        for _ in steps(spool):
            assert everything(spool) == before, "at each step"
        assert everything(spool) == before
        with pytest.raises(SealBroken):  # not even this process opens what is under the old one
            spool._series_ids._sealer.unseal(
                SpoolKeys(KEY, HEAD.gateway, HEAD.recipient).sealer("series").seal(b"x", "1"), "1"
            )
    assert under(path, KEY) == {}
    assert under(path, NEW) == was
    assert not hidden(path, NEW) & hid, "no name, key or token is the one that it was"
    with opened(path, NEW) as spool:
        assert everything(spool) == before
        assert spool._database.scalar("SELECT count(*) FROM owner_before") == 0
    with pytest.raises(NotOurs, match="under another key"):
        opened(path).__enter__()


def test_an_open_spool_takes_another_key_and_goes_on(path):
    with opened(path) as spool:
        far = filled(spool)
        before = everything(spool)
        spool.rekey(NEW)
        assert everything(spool) == before
        slot = 10
        for _ in steps(spool):
            assert slot < 200, "what comes meanwhile does not keep it from ending"
            spool.append(poll(slot, 4), {("a", 60): SlotMark(slot, True)}, NOW)
            if slot % 3 == 0:
                spool.settle(far.store(seal(spool, most_rows=5)), NOW)
                spool.tend(NOW, 1e12)
            slot += 1
        assert slot > 12
    assert under(path, KEY) == {}
    with opened(path, NEW) as spool:
        for batch in [*spool.unreceipted(), *seal_all(spool)]:
            if not batch.form:
                spool.settle(far.store(batch), NOW)
        assert far.twice == []
        told = {key[4] for key in far.rows}
        assert {NOON + 60 * n for n in range(10, slot)} <= told


@pytest.mark.parametrize("seed", range(3))
def test_killed_after_any_step_it_goes_on_from_there(path, seed):
    with opened(path) as spool:
        filled(spool)
        before = everything(spool)
    dice, lives = random.Random(seed), 0
    while True:
        lives += 1
        with opened(path, NEW, KEY) as spool:
            assert everything(spool) == before
            going = steps(spool)
            if not all(next(going, "over") != "over" for _ in range(dice.randint(0, 4 * lives))):
                break
    assert lives > 2
    assert under(path, KEY) == {}
    with opened(path, NEW) as spool:
        assert everything(spool) == before


def test_a_withdrawal_in_the_middle_destroys_both_keys_of_its_people(path):
    with opened(path) as spool:
        filled(spool)
    with opened(path, NEW, KEY) as spool:
        spool.rekey_step()
        series = reading(2).series
        number = spool._person_keys.known(series.occupancy)
        words = (HEAD.recipient, series.place, None, series.occupancy, series.basis, None)
        old = spool._database.scalar("SELECT key FROM owner_before WHERE number=?", number)
        assert old is not None
        spool.apply(2, [Retraction("r2", *words, 0, None, int(NOW), "withdrawn")], NOW)
        for table in ("owner", "owner_before"):
            keys = spool._database.read(f"SELECT key FROM {table} WHERE number=?", number)
            assert (old,) not in keys
        rows = [row for block in everything(spool)["rows"] for row in block]
        assert rows
        assert not [row for row in rows if row.series.occupancy == series.occupancy]
        for _ in steps(spool):
            pass
    for file in path.parent.iterdir():
        assert series.place.encode() not in file.read_bytes()


def test_where_some_rows_of_people_stay_the_key_before_of_theirs_goes_too(path):
    with opened(path) as spool:
        filled(spool)
    with opened(path, NEW, KEY) as spool:
        series = reading(3).series
        number = spool._person_keys.known(series.occupancy)
        words = (HEAD.recipient, series.place, None, series.occupancy, series.basis, None)
        spool.apply(2, [Retraction("r2", *words, 0, NOON + 300, int(NOW), "withdrawn")], NOW)
        assert spool._pending.of(number)[0], "some stay"
        sql = "SELECT count(*) FROM owner_before WHERE number=?"
        assert spool._database.scalar(sql, number) == 0
        before = everything(spool)
        for _ in steps(spool):
            pass
        assert everything(spool) == before


def test_what_the_recipient_is_told_on_the_way_is_what_it_was_told(path):
    with opened(path) as spool:
        filled(spool)
    told = {"places/D1": {"id": "D1", "label": "new"}, "places/D2": {"id": "D2"}}
    with opened(path, NEW, KEY) as spool:
        spool.announce(told, NOW, "trusted")
    with opened(path, NEW, KEY) as spool:
        assert spool.announced() == told
        for _ in steps(spool):
            pass
    with opened(path, NEW) as spool:
        assert spool.announced() == told


def test_a_key_can_be_rotated_again(path):
    with opened(path) as spool:
        filled(spool)
        before = everything(spool)
        for key in (NEW, THIRD):
            spool.rekey(key)
            for _ in steps(spool):
                pass
            assert everything(spool) == before
    with opened(path, THIRD) as spool:
        assert everything(spool) == before
        spool.append(poll(11, 4), {}, NOW)
        spool.tend(NOW, 1e12)
        spool.tend(NOW, 1e12)
        assert len(spool._person_keys.numbers()) == len(before["owners"]), "people are found again"
    assert under(path, NEW) == {}


def test_what_opens_under_neither_key_is_left_as_it_is(path):
    with opened(path) as spool:
        filled(spool)
        total = spool.backlog().rows
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE block SET body=randomblob(99) WHERE no=(SELECT min(no) FROM block)")
        body = db.execute("SELECT body FROM block ORDER BY no").fetchone()
    with opened(path, NEW, KEY) as spool:
        for _ in steps(spool):
            pass
        assert spool.backlog().rows == total
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT body FROM block ORDER BY no").fetchone() == body


def test_a_version_that_knows_no_rotation_is_told_that_the_file_is_newer(path):
    with opened(path) as spool:
        filled(spool)
        spool.rekey(NEW)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == ROTATED + 2


def test_a_shelf_takes_another_key(tmp_path):
    path = tmp_path / "registers.db"
    with UnassignedStore.open(path, KEY) as shelf:
        shelf.add_each({ONE: [kept(1), kept(2)], TWO: [kept(3)]})
        shelf.add([kept(4)])
        before = list(shelf.each())
    with UnassignedStore.open(path, NEW, before=KEY) as shelf:
        assert list(shelf.each()) == before
        shelf.rekey_step()
    with UnassignedStore.open(path, NEW, before=KEY) as shelf:
        while shelf.rekey_step():
            assert list(shelf.each()) == before
    with UnassignedStore.open(path, NEW) as shelf:
        assert list(shelf.each()) == before
        shelf.rekey(THIRD)
        shelf.add([kept(5)], ONE)
        while shelf.rekey_step():
            pass
    with pytest.raises(Refused, match="under another key"):  # and nothing of it was touched
        UnassignedStore.open(path, NEW).__enter__()
    with UnassignedStore.open(path, THIRD) as shelf:
        assert [values for _, values in shelf.each()] == [*(v for _, v in before), [kept(5)]]


def test_receipts_after_a_rotation_settle_what_was_sealed_before(path):
    with opened(path) as spool:
        filled(spool)
        batch = seal(spool)
        spool.rekey(NEW)
        for _ in steps(spool):
            pass
        settled = spool.settle(receipt_for(batch), NOW)
        assert settled.settled

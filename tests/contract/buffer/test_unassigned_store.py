"""What lies on a shelf: under whose key, and what goes with it."""

import json
import sqlite3
import zlib
from contextlib import closing

from agent.buffer.keys import SpoolKeys
from agent.buffer.unassigned_store import UnassignedStore, UnassignedValue
from tests.contract.buffer.conftest import KEY

ONE, TWO = "D84G7ZWYRD6Z1GQ", "DRDV1EWZEPEEXY9"


def kept(slot, value="8412.5"):
    return UnassignedValue("m-1", "heat", 3600, slot, "45", value, slot + 1.0, "V", ())


def keys_in(shelf):
    return shelf._database.scalar("SELECT count(*) FROM owner")


def test_what_is_a_dwellings_lies_under_its_own_key_which_goes_with_the_last_of_it(tmp_path):
    path = tmp_path / "registers.db"
    with UnassignedStore.open(path, KEY) as shelf:
        shelf.add_each({ONE: [kept(1), kept(2)], TWO: [kept(3)]})
        shelf.add([kept(4)], ONE)
        shelf.add([kept(5)])
        assert keys_in(shelf) == 2
        lots = list(shelf.each())
        assert [[one.slot for one in values] for _, values in lots] == [[1, 2], [3], [4], [5]]
        shelf.remove([lots[0][0], lots[1][0]])
        assert keys_in(shelf) == 1, "of one of them a lot is left"
    with UnassignedStore.open(path, KEY) as shelf:
        assert [[one.slot for one in values] for _, values in shelf.each()] == [[4], [5]]
        assert shelf.expire(5) == 1
        assert keys_in(shelf) == 0
        assert [[one.slot for one in values] for _, values in shelf.each()] == [[5]]


def test_what_is_left_of_a_lot_takes_its_place_in_one_step(tmp_path):
    with UnassignedStore.open(tmp_path / "shelf.db", KEY) as shelf:
        shelf.add_each({ONE: [kept(1), kept(2)], TWO: [kept(3)]})
        (no, values), (other, _) = shelf.each()
        shelf.put_back(no, {ONE: values[1:]})
        assert sorted(one.slot for _, some in shelf.each() for one in some) == [2, 3]
        shelf.put_back(other, {})
        assert keys_in(shelf) == 1
        assert shelf.count() == 1


def test_without_its_key_a_lot_is_nothing_and_the_others_are_there(tmp_path):
    path = tmp_path / "registers.db"
    with UnassignedStore.open(path, KEY) as shelf:
        shelf.add_each({ONE: [kept(1)], TWO: [kept(2)]})
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM owner WHERE number = 1")
    with UnassignedStore.open(path, KEY) as shelf:
        assert [[one.slot for one in values] for _, values in shelf.each()] == [[2]]


def test_while_an_upgrade_is_judged_the_version_before_can_read_what_is_written(tmp_path):
    path = tmp_path / "registers.db"
    with UnassignedStore.open(path, KEY, on_trial=True) as shelf:
        shelf.add_each({ONE: [kept(1)], TWO: [kept(2)]})
        assert keys_in(shelf) == 0
    box = SpoolKeys(KEY, "shelf", "nobody").sealer("kept")
    with closing(sqlite3.connect(path)) as db, db:
        bodies = db.execute("SELECT body FROM kept ORDER BY no").fetchall()
        texts = [json.loads(zlib.decompress(box.unseal(body, "kept"))) for (body,) in bodies]
        assert [UnassignedValue(*text[0]).slot for text in texts] == [1, 2]
        db.execute("INSERT INTO kept(t1, n, body) SELECT t1, n, body FROM kept WHERE no = 1")
    with UnassignedStore.open(path, KEY) as shelf:
        assert [values[0].slot for _, values in shelf.each()] == [1, 2, 1]


def test_a_shelf_of_an_earlier_version_is_read_on(tmp_path):
    path = tmp_path / "shelf.db"
    text = zlib.compress(json.dumps([kept(1)]).encode())
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(
            "CREATE TABLE kept(no INTEGER PRIMARY KEY, t1 INTEGER NOT NULL, n INTEGER NOT NULL,"
            " body BLOB NOT NULL)"
        )
        body = SpoolKeys(KEY, "shelf", "nobody").sealer("kept").seal(text, "kept")
        db.execute("INSERT INTO kept(t1, n, body) VALUES (1, 1, ?)", (body,))
    with UnassignedStore.open(path, KEY) as shelf:
        shelf.add([kept(2)], ONE)
        assert [[one.slot for one in values] for _, values in shelf.each()] == [[1], [2]]

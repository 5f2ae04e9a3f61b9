"""A disk that rots costs rows, counted; never the start, never the rows beside them."""

import sqlite3
from contextlib import closing

import pytest

from agent.buffer.batch import read
from agent.buffer.database import Damaged
from tests.contract.buffer.far import seal, seal_all
from tests.unit.buffer.rows import poll


def tamper(path, sql):
    connection = sqlite3.connect(path)
    connection.execute(sql)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"\xff" * 8192),
        lambda path: path.write_bytes(b"\xff" * 100 + path.read_bytes()[100:]),
        lambda path: path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 60_000),
        lambda path: tamper(path, "UPDATE series SET body=zeroblob(60)"),
        lambda path: tamper(path, "DELETE FROM meta WHERE name='epoch'"),
        lambda path: tamper(path, "UPDATE meta SET value='[]' WHERE name='identity'"),
        lambda path: path.with_name("spool.db.suspect").touch(),
    ],
    ids=["noise", "header", "pages", "series", "epoch", "identity", "found damaged before"],
)
def test_a_damaged_spool_is_set_aside_and_a_new_epoch_begun(opened, tmp_path, spoil):
    with opened() as spool:
        spool.append(poll(0, 500), {})
        epoch = spool.epoch
    spoil(tmp_path / "spool.db")
    with opened() as spool:
        assert spool.set_aside == tmp_path / "spool.db.damaged"
        assert spool.set_aside.exists()
        assert spool.epoch != epoch
        spool.append(poll(1), {})
    with opened() as spool:
        assert spool.set_aside is None
        assert read(seal(spool).payload) == poll(1)


def test_damage_found_while_running_ends_the_run_and_not_the_next_one(opened, tmp_path):
    path = tmp_path / "spool.db"
    with opened() as spool:
        for slot in range(200):
            spool.append(poll(slot, 200), {})
    with closing(sqlite3.connect(path)) as file:  # a page that no start reads: of a block's body
        ((page,),) = file.execute("PRAGMA page_size")
        ((body,),) = file.execute("SELECT body FROM block LIMIT 1 OFFSET 100")
    with path.open("r+b") as file:
        file.seek(path.read_bytes().index(body[:60]) // page * page)
        file.write(b"\xff" * page)
    with pytest.raises(Damaged), opened() as spool:
        seal_all(spool)
    with opened() as spool:
        assert spool.set_aside is not None
        assert spool.backlog().rows == 0


def test_a_block_that_does_not_open_is_counted_and_the_others_go_on(opened, tmp_path):
    with opened() as spool:
        for slot in range(3):
            spool.append(poll(slot), {})
    tamper(
        tmp_path / "spool.db",
        "UPDATE block SET body=zeroblob(60) WHERE no=(SELECT no FROM block LIMIT 1 OFFSET 1)",
    )
    with opened() as spool:
        assert read(seal(spool, most_rows=10).payload) == poll(0)
        assert read(seal(spool).payload) == poll(2)
        assert spool.backlog().rows == 0
        assert spool.backlog().unreadable == 10
    with opened() as spool:
        assert spool.backlog().unreadable == 10


def test_a_batch_that_does_not_open_is_quarantined_and_the_others_go_on(opened, tmp_path):
    with opened() as spool:
        spool.append(poll(0), {})
        first, second = seal_all(spool, most_rows=5)
    tamper(tmp_path / "spool.db", "UPDATE batch SET body=zeroblob(60) WHERE seq=1")
    with opened() as spool:
        assert spool.unreceipted() == [second]
        assert spool.unreceipted() == [second]
        assert spool.backlog().quarantined == 1
        assert first.id not in {batch.id for batch in spool.unreceipted()}


def test_a_body_copied_to_another_place_does_not_open(opened, tmp_path):
    with opened() as spool:
        spool.append(poll(0), {})
        spool.append(poll(1), {})
    other = "SELECT body FROM block ORDER BY no DESC LIMIT 1"
    copy = f"UPDATE block SET body=({other}) WHERE no=(SELECT min(no) FROM block)"
    tamper(tmp_path / "spool.db", copy)
    with opened() as spool:
        assert read(seal(spool).payload) == poll(1)
        assert spool.backlog().unreadable == 10

"""Guards rules G9, G1: a spool is bounded, and what was accepted stays."""

import random
import sqlite3
from contextlib import closing

import pytest

from agent.buffer.batch import read
from agent.buffer.database import PAGE
from agent.core.errors import SpoolFull
from agent.core.model import SlotMark
from tests.contract.buffer.far import receipt_for, seal, seal_all
from tests.unit.buffer.rows import NOON, reading

CAP = 2 * 1024 * 1024
DAY = 86_400


def fill(spool, dice, first=0):
    """Append indexes of midnights, never given up, until some are refused; those taken."""
    taken = []
    for slot in range(first, first + 10_000):
        rows = [reading(n, slot, f"{dice.getrandbits(100)}", DAY) for n in range(200)]
        try:
            spool.append(rows, {("a", DAY): SlotMark(NOON + slot * DAY, True)})
        except SpoolFull:
            return taken
        taken += rows
    raise AssertionError("never full")


def test_at_the_cap_rows_are_refused_whole_and_counted(opened):
    with opened(max_bytes=CAP) as spool:
        taken = fill(spool, random.Random(1))
        assert len(taken) > 20_000
        assert spool.marks() == {("a", DAY): SlotMark(taken[-1].t, True)}
        with pytest.raises(SpoolFull):
            spool.append([reading(n, 0, step=DAY) for n in range(300)], {})
        backlog = spool.backlog()
        assert (backlog.rows, backlog.refused) == (len(taken), 500)
        assert backlog.used <= backlog.cap


@pytest.mark.parametrize("page", [PAGE, 4096])
def test_the_file_never_outgrows_the_cap(opened, tmp_path, page):
    with closing(sqlite3.connect(tmp_path / "spool.db")) as file:  # an older version's had others
        file.executescript(f"PRAGMA page_size={page}; VACUUM")
    with opened(max_bytes=CAP) as spool:
        dice = random.Random(2)
        for round_ in range(2):
            fill(spool, dice, first=round_ * 10_000)
            spool.settle(receipt_for(seal(spool)), 0.0)
    assert CAP / 2 < (tmp_path / "spool.db").stat().st_size <= CAP


def test_a_full_spool_still_seals_and_settles_and_then_takes_rows_again(opened):
    with opened(max_bytes=CAP) as spool:
        taken = fill(spool, random.Random(3))
        sealed = [seal(spool) for _ in range(9)]
        assert spool.settle(receipt_for(*sealed), 0.0).settled == tuple(b.id for b in sealed)
        late = [reading(n, 9999) for n in range(300)]
        spool.append(late, {})
        rest = seal_all(spool)
        rows = [row for batch in (*sealed, *rest) for row in read(batch.payload)]
        assert sorted(map(repr, rows)) == sorted(map(repr, taken + late))
    with opened(max_bytes=CAP) as spool:
        assert spool.backlog().refused == 200


def test_receipted_batches_go_first_and_unreceipted_ones_never(opened):
    """Rule T10."""
    with opened(max_bytes=CAP) as spool:
        dice = random.Random(4)
        fill(spool, dice)
        kept = [seal(spool) for _ in range(2)]
        batches = [seal(spool) for _ in range(6)]
        spool.settle(receipt_for(*batches), 0.0)
        taken = fill(spool, dice, first=20_000)
        assert taken
        assert spool.forget(1.0) == 0
        assert spool.unreceipted() == kept


def test_a_full_spool_can_be_contradicted(opened):
    with opened(max_bytes=CAP) as spool:
        taken = fill(spool, random.Random(5))
        sealed = [seal(spool) for _ in range(9)]
        wrong = receipt_for(*sealed, stored=tuple((batch.id.seq, "f" * 64) for batch in sealed))
        assert spool.settle(wrong, 100_000.0).new_epoch
        assert spool.backlog().rows == len(taken)
        keys = {(row.series, row.t) for b in seal_all(spool) for row in read(b.payload)}
        assert keys == {(row.series, row.t) for row in taken}


def test_marks_alone_are_kept_at_the_cap(opened):
    with opened(max_bytes=CAP) as spool:
        fill(spool, random.Random(6))
        spool.append([], {("b", 60): SlotMark(NOON, False)})
        assert spool.marks()["b", 60] == SlotMark(NOON, False)


def test_a_cap_made_smaller_than_what_is_held_loses_nothing(opened):
    with opened(max_bytes=2 * CAP) as spool:
        taken = fill(spool, random.Random(7))
    with opened(max_bytes=CAP) as spool:
        with pytest.raises(SpoolFull):
            spool.append([reading()], {})
        rows = 0
        while batch := seal(spool):
            rows += batch.rows
            spool.settle(receipt_for(batch), 0.0)
        assert rows == len(taken)
        spool.append([reading()], {})

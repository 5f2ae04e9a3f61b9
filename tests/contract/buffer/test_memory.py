"""What is kept in memory while the disk fails, against what the disk says of the same slots.

The counter-examples have the letters of docs/decisions/030, "Storage".
"""

import os
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal

import pytest

from agent.buffer.batch import _text
from agent.buffer.spool import CAP, KEPT, Spool
from agent.core.model import Lane, Quality, SlotMark, Why
from tests.contract.buffer.conftest import HEAD, KEY
from tests.contract.buffer.far import FOREVER, Far, receipt_for, seal, seal_all
from tests.unit.buffer.rows import NOON, poll

NOW = 1_700_000_000.0


@contextmanager
def disk(folder):
    with Spool.open(folder / "spool.db", KEY, HEAD, 50_000_000) as spool:
        yield spool


@contextmanager
def memory(folder):
    with Spool.open(folder / "memory.db", KEY, replace(HEAD, kept=KEPT), CAP) as spool:
        yield spool


def missing(slot, meters, why=Why.AGENT):
    return [
        replace(row, value=None, quality=Quality.MISSING, why=why, again=True)
        for row in poll(slot, meters)
    ]


def append(spool, slot, rows, now=NOW):
    spool.append(rows, {("a", 60): SlotMark(slot, True)}, now)


def held(far, slot):
    """What the platform shows of a slot: the highest version of each series."""
    found = {}
    for (place, *_, t, ver), (row, _) in far.rows.items():
        if t == NOON + slot * 60 and (place not in found or (ver or -1) > found[place][0]):
            found[place] = (ver or -1, row.value)
    return [value for _, value in found.values()]


@pytest.mark.parametrize("disk_first", [True, False])
def test_A_a_a_value_kept_in_memory_counts_whichever_comes_first(tmp_path, disk_first):  # noqa: N802
    """M `agent` of the slot reached the platform before the value did. Rule A3."""
    far = Far()
    with disk(tmp_path) as spool, memory(tmp_path) as beside:
        append(beside, 1, poll(1, 3))
        append(spool, 1, missing(1, 3))
        first, then = (spool, beside) if disk_first else (beside, spool)
        for one in (first, then):
            for batch in seal_all(one):
                one.settle(far.store(batch), NOW)
        assert held(far, 1) == [row.value for row in poll(1, 3)]
        assert not far.twice


def test_A_b_a_commit_that_failed_and_had_effect_is_no_second_row_of_its_key(tmp_path):  # noqa: N802
    """The disk has the row too: the recipient has two versions, and both are counted (P18)."""
    far = Far()
    with disk(tmp_path) as spool, memory(tmp_path) as beside:
        append(spool, 1, poll(1, 3))
        append(beside, 1, poll(1, 3))
        for one in (beside, spool):
            for batch in seal_all(one):
                one.settle(far.store(batch), NOW)
        assert not far.twice
        assert held(far, 1) == [row.value for row in poll(1, 3)]
        spool.adopt(beside.epoch, beside.disclosures(), {}, beside.received_slots())
        assert sum(one.values for one in spool.disclosures()) == len(far.rows) == 6


@pytest.mark.parametrize("adopted_first", [True, False])
def test_one_version_that_both_spools_delivered_is_counted_once(tmp_path, adopted_first):
    """The index of an exchange had its version before either spool took it. Rule P18."""
    rows = [replace(row, ver=int(NOW) + 99) for row in poll(1, 3)]
    with disk(tmp_path) as spool, memory(tmp_path) as beside:
        append(spool, 1, rows)
        append(beside, 1, rows)
        for one in (beside, spool) if adopted_first else (spool, beside):
            for batch in seal_all(one):
                one.settle(receipt_for(batch), NOW)
            if one is beside:
                record = beside.epoch, beside.disclosures(), {}, beside.received_slots()
                spool.adopt(*record)
        assert sum(one.values for one in spool.disclosures()) == 3
        assert {run.slots for one in spool.received_slots() for run in one.runs} == {1}


def test_A_c_what_has_no_value_never_counts_above_one(tmp_path):  # noqa: N802
    """A second memory epoch does not know what the first delivered. Rule A3."""
    far = Far()
    with memory(tmp_path) as first:
        append(first, 1, poll(1, 3))
        for batch in seal_all(first):
            first.settle(far.store(batch), NOW)
    (tmp_path / "memory.db").unlink()  # the machine was started anew
    with memory(tmp_path) as second:
        append(second, 1, [replace(row, ver=int(NOW) + 99) for row in missing(1, 3)])
        for batch in seal_all(second):
            second.settle(far.store(batch), NOW)
    assert held(far, 1) == [row.value for row in poll(1, 3)]
    assert not far.twice


def test_A_d_each_memory_epoch_has_a_name_of_its_own(tmp_path):  # noqa: N802
    """After a reboot two payloads shared an id."""
    epochs = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        with memory(tmp_path / name) as spool, disk(tmp_path / name) as beside:
            epochs |= {spool.epoch, beside.epoch}
    assert len(epochs) == 4


def test_A_f_killed_while_it_is_drained_and_the_disk_fails_again_it_goes_on_with_the_same(tmp_path):  # noqa: N802
    """Its rows were moved to the disk, and then were in both. Rule A4."""
    far = Far()
    with disk(tmp_path) as spool, memory(tmp_path) as beside:
        append(beside, 1, poll(1, 3))
        append(beside, 2, poll(2, 3))
        append(spool, 3, [*missing(1, 3), *missing(2, 3), *poll(3, 3)])
        first = seal(beside, Lane.BACKFILL, FOREVER, most_rows=3)
        beside.settle(far.store(first), NOW)  # and killed: the rest was not sent
    with disk(tmp_path) as spool, memory(tmp_path) as beside:
        epoch = beside.epoch
        append(beside, 4, poll(4, 3))  # the disk fails again
        for one in (beside, spool):
            for batch in [*one.unreceipted(), *seal_all(one)]:
                one.settle(far.store(batch), NOW)
        assert beside.epoch == epoch
        assert beside.backlog().settled
    for slot in range(1, 5):
        assert held(far, slot) == [row.value for row in poll(slot, 3)]
    assert not far.twice


def test_a_receipt_of_a_memory_epoch_that_is_gone_changes_nothing(tmp_path):
    """Rule A6."""
    with memory(tmp_path) as first:
        append(first, 1, poll(1, 3))
        batch = seal_all(first)[0]
    with disk(tmp_path) as spool:
        append(spool, 2, poll(2, 3))
        waiting = seal_all(spool)
        epoch = spool.epoch
        for seq in (1, 77):
            word = replace(receipt_for(batch), stored=((seq, batch.sha256),))
            settled = spool.settle(word, NOW)
            assert not settled.settled
            assert not settled.new_epoch
        assert spool.epoch == epoch
        assert [one.id for one in spool.unreceipted()] == [one.id for one in waiting]


def test_its_batches_say_where_they_were_kept(tmp_path):
    """Rule A2."""
    with memory(tmp_path) as beside, disk(tmp_path) as spool:
        for one, said in ((beside, True), (spool, False)):
            append(one, 1, poll(1, 1))
            assert (b'"kept":"memory"' in _text(seal_all(one)[0].payload)) is said


def test_a_late_version_keeps_its_own(tmp_path):
    with memory(tmp_path) as beside:
        (row,) = poll(1, 1)
        append(beside, 1, [replace(row, ver=int(NOW) + 7, value=Decimal(3))])
        far = Far()
        far.store(seal_all(beside)[0])
        assert [ver for *_, ver in far.rows] == [int(NOW) + 7]


def test_it_survives_kill_9(tmp_path):
    """Rule A2."""
    pid = os.fork()
    if not pid:  # it is not closed
        with memory(tmp_path) as beside:
            append(beside, 1, poll(1, 3))
            os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    with memory(tmp_path) as beside:
        assert beside.waiting(0)[0] == 3
        assert beside.marks()["a", 60].slot == 1

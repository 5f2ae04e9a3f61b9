"""Guards rules G1, G2: kept, and exactly once."""

import random
import sqlite3
import threading
from contextlib import closing
from dataclasses import replace

import pytest

from agent.buffer.batch import BatchHead, read
from agent.core.errors import Refused
from agent.core.model import Lane, SlotMark
from tests.contract.buffer.conftest import HEAD
from tests.contract.buffer.far import FOREVER, receipt_for, seal, seal_all
from tests.unit.buffer.rows import NOON, poll, reading


def test_rows_and_marks_are_there_after_a_restart(opened):
    marks = {("sdm-12", 60): SlotMark(NOON, True, "KAM-1"), ("sdm-12", 900): SlotMark(NOON, False)}
    with opened() as spool:
        epoch = spool.epoch
        spool.append(poll(0), marks)
        spool.append([], {("sdm-12", 60): SlotMark(NOON + 60, True)})
    with opened() as spool:
        assert spool.marks() == marks | {("sdm-12", 60): SlotMark(NOON + 60, True)}
        assert spool.epoch == epoch
        assert spool.backlog().rows == 10
        assert read(seal(spool).payload) == poll(0)


def test_what_was_told_of_states_moves_with_the_marks_and_rot_there_tells_it_anew(opened, tmp_path):
    door, heat = ("door", 10), ("heat", 60)
    shut, ajar = (("state.door", "0"),), (("state.door", "1"), ("state.alarm", "link"))
    with opened() as spool:
        spool.append(
            [], {door: SlotMark(NOON, True, None, shut), heat: SlotMark(NOON, True, None, shut)}
        )
        spool.append(
            [], {door: SlotMark(NOON + 10, True, None, ajar), heat: SlotMark(NOON + 60, True)}
        )
    with opened() as spool:
        marks = {door: SlotMark(NOON + 10, True, None, ajar), heat: SlotMark(NOON + 60, True)}
        assert spool.marks() == marks
    assert b"state.door" not in (tmp_path / "spool.db").read_bytes(), "sealed like the rows"
    with closing(sqlite3.connect(tmp_path / "spool.db")) as db:
        db.execute("UPDATE told SET body=substr(body, 2)")
        db.commit()
    with opened() as spool:
        assert spool.marks()[door] == SlotMark(NOON + 10, True)


def test_seq_is_one_gapless_count_for_both_lanes_through_restarts(opened):
    """Rule T1."""
    seqs = []
    for round_ in range(3):
        with opened() as spool:
            spool.append(poll(round_) + poll(100 + round_), {})
            live_after = NOON + 50 * 60
            seqs += [seal(spool, lane, live_after).id.seq for lane in Lane]
            assert seal(spool, Lane.LIVE, live_after) is None
    assert seqs == [1, 2, 3, 4, 5, 6]


def test_a_batch_is_sent_again_byte_for_byte_in_the_order_sealed(opened):
    """Rule T2."""
    with opened() as spool:
        spool.append(poll(0, 100), {})
        sealed = seal_all(spool, most_rows=30)
        assert [batch.rows for batch in sealed] == [30, 30, 30, 10]
        assert spool.unreceipted() == sealed
    with opened() as spool:
        assert spool.unreceipted() == sealed


def test_lanes_split_a_block_and_keep_the_order_of_each_series(opened):
    live_after = NOON + 2 * 60
    with opened() as spool:
        spool.append([reading(0, slot) for slot in (0, 5, 1, 6, 2, 7)], {})
        spool.append([reading(0, 3, None, span=10)], {})  # its last slot is live
        assert spool.waiting(live_after) == (7, 6)
        live = seal(spool, Lane.LIVE, live_after, most_rows=2)
        assert [row.t for row in read(live.payload)] == [NOON + 300, NOON + 360]
        back = seal(spool, Lane.BACKFILL, live_after)
        assert [row.t for row in read(back.payload)] == [NOON, NOON + 60, NOON + 120]
        assert spool.waiting(live_after) == (2, 0)
        rest = read(seal(spool, Lane.LIVE, live_after).payload)
        assert [(row.t, row.span) for row in rest] == [(NOON + 420, 1), (NOON + 180, 10)]
        assert spool.waiting(live_after) == (0, 0)


SEAL, FLUSH = 2, 30


def lanes(spool, now):
    """Seal all that waits now; the rows of each lane. What `waiting` says must be so."""
    live_after = int(now) - 2 * SEAL
    found = {}
    for lane, waits in zip(Lane, spool.waiting(live_after), strict=True):
        batches = seal_all(spool, lane, live_after)
        found[lane] = [row for batch in batches for row in read(batch.payload)]
        assert bool(waits) == bool(found[lane])
    return found[Lane.LIVE], found[Lane.BACKFILL]


def test_fresh_readings_are_live_however_long_they_wait_for_the_flush(opened):
    """Guards rule T14: a lane is chosen by the time of the commit."""
    with opened() as spool:
        sent = []
        for flush in range(3):
            now = NOON + (flush + 1) * FLUSH
            rows = [reading(0, flush * FLUSH + n, step=1) for n in range(FLUSH)]
            rows.append(reading(1, 0, step=3600))  # read late in its hour
            rows.append(reading(2, flush * FLUSH, None, step=1, why="silent"))
            spool.append(rows, {}, now)
            live, backfill = lanes(spool, now + SEAL)
            assert (live, backfill) == (rows, [])
            sent += live
        assert len(sent) == 3 * (FLUSH + 2)


def test_what_waited_and_what_comes_late_is_backlog(opened):
    fresh = [reading(0, n, step=1) for n in range(FLUSH)]
    late = [reading(0, n, step=1, ver=NOON + FLUSH) for n in range(5)]
    gap = [reading(3, -7200, None, step=1, span=3600, why="agent")]
    with opened() as spool:
        spool.append(late + fresh + gap, {}, NOON + FLUSH)
        assert lanes(spool, NOON + FLUSH + 1) == (fresh, late + gap)
        spool.append(fresh, {}, NOON + FLUSH)  # nothing could be sent for a minute
        assert lanes(spool, NOON + FLUSH + 60) == ([], fresh)
        spool.append(late, {}, NOON + FLUSH)
        later = [replace(row, ver=NOON + FLUSH + 1) for row in late]  # no two versions are alike
        assert lanes(spool, NOON + FLUSH) == ([], later)


def test_after_a_restart_and_in_a_new_epoch_the_slots_alone_decide_the_lane(opened):
    rows = [reading(0, n, step=1) for n in range(FLUSH)]
    with opened() as spool:
        spool.append(rows, {}, NOON + FLUSH)
    with opened() as spool:
        assert lanes(spool, NOON + FLUSH) == (rows[-3:], rows[:-3])
        spool.belongs_to("one state")
        spool.append(rows, {}, NOON + FLUSH)
        assert spool.belongs_to("another")
        live, backfill = lanes(spool, NOON + FLUSH)
        assert ([row.t for row in live], len(backfill)) == ([row.t for row in rows[-3:]], FLUSH - 3)


def test_rows_of_the_other_lane_keep_their_place_among_the_blocks(opened):
    with opened() as spool:
        spool.append([reading(0, 0), reading(0, 10)], {})
        spool.append([reading(0, 1), reading(0, 11)], {})
        seal(spool, Lane.LIVE, NOON + 300)
        assert [row.t for row in read(seal(spool).payload)] == [NOON, NOON + 60]


@pytest.mark.parametrize(("most", "within"), [(48_000, 48_000), (100_000, 60_000), (5_000, 5_000)])
def test_a_payload_never_exceeds_its_limit_and_no_row_is_lost_for_it(opened, most, within):
    dice = random.Random(7)
    rows = [reading(n, 0, f"{dice.getrandbits(180)}") for n in range(3000)]
    with opened() as spool:
        spool.append(rows, {})
        batches = seal_all(spool, most_bytes=most)
        assert max(len(batch.payload) for batch in batches) <= within
        assert min(len(batch.payload) for batch in batches[:-1]) > within * 0.7
        assert [row for batch in batches for row in read(batch.payload)] == rows


def test_one_row_leaves_even_if_the_limit_is_smaller_than_it(opened):
    with opened() as spool:
        spool.append(poll(0, 2), {})
        assert [batch.rows for batch in seal_all(spool, most_bytes=10)] == [1, 1]


def test_a_receipt_settles_once_and_what_it_names_is_kept_until_it_is_forgotten(opened):
    with opened() as spool:
        spool.append(poll(0), {})
        batch = seal(spool)
        settled = spool.settle(receipt_for(batch), now=5000.0)
        assert settled.settled == (batch.id,)
        assert spool.unreceipted() == []
        again = spool.settle(receipt_for(batch), now=6000.0)
        assert (again.settled, again.ignored) == ((), 1)
        assert spool.forget(5000.0) == 0
        assert spool.forget(5000.1) == 1
        after = spool.settle(receipt_for(batch), now=7000.0)
        assert (after.settled, after.conflict, after.ignored) == ((), None, 1)


@pytest.mark.parametrize(
    "foreign",
    [{"gateway": "G0"}, {"recipient": "other.example"}, {"epoch": "0" * 12}],
    ids=lambda foreign: next(iter(foreign)),
)
def test_a_receipt_for_another_gateway_recipient_or_epoch_settles_nothing(opened, foreign):
    """Rule T3."""
    with opened() as spool:
        spool.append(poll(0), {})
        batch = seal(spool)
        receipt = receipt_for(batch)
        words = {name: getattr(receipt, name) for name in receipt.__dataclass_fields__} | foreign
        settled = spool.settle(type(receipt)(**words), 0.0)
        assert (settled.settled, settled.conflict, settled.new_epoch) == ((), None, False)
        assert settled.ignored == 1
        assert spool.unreceipted() == [batch]


def test_a_rejected_batch_is_kept_under_its_id_and_ends_by_a_later_receipt(opened):
    """Rule T4."""
    with opened() as spool:
        spool.append(poll(0), {})
        batch = seal(spool)
        no = receipt_for(batch, stored=(), rejected=((batch.id.seq, batch.sha256, "no"),))
        assert spool.settle(no, 0.0).quarantined == (batch.id,)
        assert spool.unreceipted() == []
        assert spool.backlog().quarantined == 1
        assert spool.forget(FOREVER) == 0
        assert spool.settle(receipt_for(batch), 0.0).settled == (batch.id,)
        assert spool.backlog().quarantined == 0


def test_a_batch_too_large_for_the_transport_is_quarantined_and_the_next_goes_on(opened):
    with opened() as spool:
        spool.append(poll(0), {})
        first, second = seal_all(spool, most_rows=5)
        spool.quarantine(first.id, "256 kB at most")
        assert spool.unreceipted() == [second]


def test_the_backlog_says_what_waits(opened):
    with opened() as spool:
        spool.append([reading(0, 5, None, span=30), *poll(40, 9)], {})
        seal(spool, most_rows=4)
        backlog = spool.backlog()
        assert (backlog.rows, backlog.slots) == (6, 6)
        assert (backlog.batches, backlog.batch_rows) == (1, 4)
        assert backlog.oldest == NOON + 40 * 60
        assert 0 < backlog.used < backlog.cap


def test_nothing_readable_lies_on_the_disk(opened, tmp_path):
    """Rule P17."""
    with opened() as spool:
        spool.append([reading(0, 0, "8675309.123")], {})
        spool.append([reading(1, 0, "8675309.124")], {})
        seal(spool, most_rows=1)
        on_disk = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for word in (b"8675309", b"D84G7ZWYRD", b"H00000", b"K20260712A", b"KAM-0000"):
        assert word not in on_disk


def test_what_people_were_called_is_forgotten_with_the_last_row(opened, tmp_path):
    with opened() as spool:
        spool.append(poll(0), {})
        seal(spool)
    with opened() as spool:
        spool.append(poll(1, meters=3), {})
        assert read(seal(spool).payload) == poll(1, meters=3)
    count = sqlite3.connect(tmp_path / "spool.db")
    assert count.execute("SELECT count(*) FROM series").fetchone() == (3,)
    count.close()


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"key": b"l" * 32}, "another key"),
        ({"head": BatchHead("G0", HEAD.recipient, "FR-1")}, "gateway G7Q2MXW4T"),
        (
            {"head": BatchHead(HEAD.gateway, "other.example", "FR-1")},
            "to energie.metropole.example",
        ),
        ({"max_bytes": 1_000_000}, "at least 2 MB"),
    ],
)
def test_another_key_gateway_or_recipient_is_refused_and_nothing_is_touched(opened, other, words):
    with opened() as spool:
        spool.append(poll(0), {})
    with pytest.raises(Refused, match=words), opened(**other):
        pass
    with opened() as spool:
        assert spool.backlog().rows == 10
        assert spool.set_aside is None


def test_a_file_that_is_no_spool_is_refused_and_stays(opened, tmp_path):
    other = sqlite3.connect(tmp_path / "spool.db")
    other.execute("CREATE TABLE photos(x)")
    other.close()
    with pytest.raises(Refused, match="not a spool"), opened():
        pass
    assert (tmp_path / "spool.db").exists()


def test_a_spool_has_one_owner(opened):
    with opened(), pytest.raises(Refused, match="another process uses"), opened():
        pass


def test_a_spool_belongs_to_the_thread_that_opened_it(opened):
    seen = []

    def meddle(spool):
        try:
            spool.append(poll(1), {})
        except sqlite3.ProgrammingError as error:
            seen.append(error)

    with opened() as spool:
        thread = threading.Thread(target=meddle, args=(spool,))
        thread.start()
        thread.join()
        assert len(seen) == 1
        assert spool.backlog().rows == 0


def test_a_row_that_no_batch_could_carry_takes_none_of_the_others_in(opened):
    """Rule R12."""
    with opened() as spool:
        with pytest.raises(ValueError, match="finite"):
            spool.append([*poll(0), reading(99, 0, "NaN")], {("a", 60): SlotMark(NOON, True)})
        assert spool.backlog().rows == 0
        assert spool.marks() == {}

"""Guards rule G3 in the spool: what may not leave any more is destroyed wherever it lies, and
what may still leave is not lost (rules T4, T5, T7, T10, T13).
"""

import sqlite3
from functools import partial

import pytest

from agent.buffer.batch import read
from agent.buffer.orphaned_spools import applied, spool_of
from agent.core.model import Lane, Retraction, Void
from hil.platform.unpack import unpack
from tests.contract.buffer.far import FOREVER, receipt_for, seal, seal_all
from tests.unit.buffer.rows import NOON, poll, reading, series

DAY = 86_400
NOW = 1_700_000_000.0


def taken(number=0, **other):
    """Everything of one dwelling's people, as a withdrawn consent takes it back."""
    one = series(number)
    words = {
        "id": f"R{number}",
        "recipient": "energie.metropole.example",
        "place": one.place,
        "channel": None,
        "occupancy": one.occupancy,
        "basis": one.basis,
        "meter": None,
        "since": 0,
        "until": None,
        "ver": int(NOW),
        "reason": "withdrawn",
    }
    return Retraction(**words | other)


def withdraw(spool, *retractions, revision=1):
    return spool.apply(revision, retractions or (taken(),), NOW)


def all_rows(spool):
    return [row for batch in seal_all(spool) for row in read(batch.payload)]


def without(rows, number=0):
    return [row for row in rows if row.series.place != series(number).place]


def original(void):
    return receipt_for(void, stored=((void.id.seq, void.original),))


@pytest.mark.parametrize("parted", [False, True], ids=["mixed", "parted"])
def test_waiting_rows_of_a_withdrawn_basis_are_gone_and_the_others_are_not(opened, parted):
    """Rule P13."""
    with opened() as spool:
        spool.append(poll(0) + poll(1), {})
        if parted:
            spool.tend(NOW, DAY * 60)
            spool.tend(NOW, DAY * 60)
        withdraw(spool)
        assert spool.backlog().rows == 18
        assert spool.backlog().purged == 2
    with opened() as spool:
        assert sorted(map(str, all_rows(spool))) == sorted(map(str, without(poll(0) + poll(1))))


def test_rows_made_after_the_retraction_and_rows_of_another_basis_or_time_stay(opened):
    later = reading(0, 2, ver=int(NOW) + 1)
    other = reading(0, 5)
    with opened() as spool:
        spool.append([reading(0, 0), reading(0, 1, ver=int(NOW)), later, other], {})
        spool.apply(1, (taken(until=NOON + 300),), NOW + 1)
        assert all_rows(spool) == [later, other]


def test_of_a_run_of_missing_slots_only_those_taken_back_go(opened):
    run = reading(0, 0, None, why="silent", span=10)
    with opened() as spool:
        spool.append([run], {})
        withdraw(spool, taken(since=NOON + 180, until=NOON + 300))
        assert [(row.t, row.span) for row in all_rows(spool)] == [(NOON, 3), (NOON + 300, 5)]


def test_an_unreceipted_batch_becomes_a_void_and_its_other_rows_wait_for_the_word_on_it(opened):
    with opened() as spool:
        spool.append(poll(0), {})
        batch = seal(spool)
        assert withdraw(spool) == (batch.id,)
    with opened() as spool:
        (void,) = spool.unreceipted()
        assert (void.id, void.lane, void.void) == (batch.id, batch.lane, Void.WITHDRAWN)
        assert void.original == batch.sha256
        assert unpack(void.payload).void == "withdrawn"
        assert all_rows(spool) == []
        assert spool.backlog().rows == 9
        assert spool.settle(receipt_for(void), NOW).settled == (void.id,)
        again = all_rows(spool)
        assert all(row.again for row in again)
        assert {row.series.place for row in again} == {series(n).place for n in range(1, 10)}


def test_where_the_original_arrived_first_its_rows_are_forgotten(opened):
    with opened() as spool:
        spool.append(poll(0), {})
        seal(spool)
        withdraw(spool)
        (void,) = spool.unreceipted()
        settled = spool.settle(original(void), NOW)
        assert (settled.settled, settled.conflict) == ((void.id,), None)
        assert spool.unreceipted() == []
        assert all_rows(spool) == []
        assert spool.settle(receipt_for(void), NOW).ignored == 1
        assert all_rows(spool) == []


def test_the_word_for_one_of_the_two_is_never_a_conflict_once_the_other_settled_it(opened):
    with opened() as spool:
        spool.append(poll(0), {})
        seal(spool)
        withdraw(spool)
        (void,) = spool.unreceipted()
        spool.settle(receipt_for(void), NOW)
        late = spool.settle(original(void), NOW)
        assert (late.conflict, late.ignored) == (None, 1)
        assert spool.backlog().rows == 9


def test_until_the_word_comes_a_further_withdrawal_takes_its_rows_too(opened):
    with opened() as spool:
        spool.append(poll(0), {})
        seal(spool)
        withdraw(spool)
        (void,) = spool.unreceipted()
        assert withdraw(spool, taken(1), revision=2) == ()
        assert spool.unreceipted() == [void]  # sealed once, whatever comes
        spool.settle(receipt_for(void), NOW)
        assert {row.series.place for row in all_rows(spool)} == {
            series(n).place for n in range(2, 10)
        }


def test_a_quarantined_batch_is_destroyed_too_and_its_void_is_sent(opened):
    """Rule P13."""
    with opened() as spool:
        spool.append(poll(0), {})
        batch = seal(spool)
        spool.quarantine(batch.id, "no", NOW)
        assert withdraw(spool) == (batch.id,)
        assert [one.void for one in spool.unreceipted()] == [Void.WITHDRAWN]


def test_a_kept_batch_leaves_its_void_which_answers_a_resend(opened):
    """Rule P13."""
    with opened() as spool:
        spool.append(poll(0), {})
        batch = seal(spool)
        spool.settle(receipt_for(batch), NOW)
        assert withdraw(spool) == (batch.id,)
        assert spool.unreceipted() == []
        assert spool.backlog().rows == 0  # the recipient has them: nothing is owed
        assert spool.resend(batch.id.epoch, 1, 1, NOW) == 1
        void = spool.asked(Lane.BACKFILL)
        assert (void.void, void.original) == (Void.WITHDRAWN, batch.sha256)
        assert spool.settle(original(void), NOW).settled == (batch.id,)


def test_rows_come_out_of_a_batch_though_their_series_was_forgotten_since(opened):
    with opened() as spool:
        spool.append(poll(0), {})
        seal(spool)
    with opened() as spool:  # nothing waits: what people were called is forgotten
        withdraw(spool)
        (void,) = spool.unreceipted()
        spool.settle(receipt_for(void), NOW)
        assert len(all_rows(spool)) == 9


def test_a_batch_of_others_is_left_alone(opened):
    with opened() as spool:
        spool.append(poll(0, 3, first=5), {})
        batch = seal(spool)
        assert withdraw(spool) == ()
        assert spool.unreceipted() == [batch]


def test_a_change_is_applied_once_and_remembered_though_no_row_was_found(opened):
    with opened() as spool:
        assert spool.applied == 0
        withdraw(spool, revision=7)
        assert spool.backlog().retractions == 1
    with opened() as spool:
        assert spool.applied == 7
        spool.append(poll(0), {})
        assert withdraw(spool, revision=7) == ()
        assert spool.backlog().rows == 10


def test_a_change_that_was_never_recorded_and_is_lost_leaves_its_number_to_another(
    opened, tmp_path
):
    """Rules T7, D12: with the power the registry loses what it could not record (A, remaining
    risks).
    """
    opened = partial(opened, path=spool_of(tmp_path, "a"))
    with opened() as spool:
        withdraw(spool, revision=1)
        spool.apply(2, [taken(1)], NOW, 1)
        assert spool.forget_lost(2) == ()
    assert [last for _, last in applied(tmp_path)] == [1]
    with opened() as spool:
        assert sorted(spool.forget_lost(1)) == ["R0", "R1"]
        assert (spool.applied, spool.purging, list(spool.forget_lost(1))) == (1, False, [])
        spool.append(poll(0), {})
        spool.apply(2, [taken(2)], NOW, 2)
        assert spool.backlog().rows == 9


@pytest.mark.parametrize("at_once", [True, False])
def test_a_change_that_was_recorded_is_not_forgotten(opened, at_once):
    """Rule K15: a registry that lacks it is an older one."""
    with opened() as spool:
        spool.apply(2, [taken()], NOW, 2 if at_once else 1)
        spool.apply(2, [], NOW, 2)
        assert (spool.forget_lost(1), spool.applied) == ((), 2)


def test_what_is_taken_back_is_told_in_a_batch_of_its_own_until_it_is_receipted(opened):
    """Rule T19."""
    with opened() as spool:
        withdraw(spool, taken(), taken(1, id="R1", until=NOON))
        batch = spool.retract(NOW, "trusted")
        assert spool.retract(NOW, "trusted") is None
        told = unpack(batch.payload).retract
        assert [(one.id, one.place, one.until) for one in told] == [
            ("R0", series(0).place, None),
            ("R1", series(1).place, NOON),
        ]
        assert withdraw(spool, taken(2), revision=2) == ()  # no withdrawal touches it
        assert spool.unreceipted() == [batch]
        spool.settle(receipt_for(batch, retracted=(("R0", 3),)), NOW)
        assert [one.id for one in unpack(spool.retract(NOW, "trusted").payload).retract] == ["R2"]


def test_a_retraction_whose_batch_is_contradicted_is_told_again(opened):
    """Rule T19."""
    with opened() as spool:
        withdraw(spool)
        batch = spool.retract(NOW, "trusted")
        settled = spool.settle(receipt_for(batch, stored=((batch.id.seq, "f" * 64),)), NOW)
        assert settled.new_epoch
        assert [one.id for one in unpack(spool.retract(NOW, "trusted").payload).retract] == ["R0"]


def test_a_retraction_that_the_recipient_rejected_is_sent_under_another_id_after_a_day(opened):
    """Rules T17, T19, A9."""
    with opened() as spool:
        withdraw(spool)
        batch = spool.retract(NOW, "trusted")
        no = receipt_for(batch, stored=(), rejected=((batch.id.seq, batch.sha256, "no"),))
        assert spool.settle(no, NOW).quarantined == (batch.id,)
        assert spool.tend(NOW + DAY - 1, DAY * 60) == ()
        assert spool.retract(NOW + DAY - 1, "trusted") is None
        assert spool.tend(NOW + DAY + 1, DAY * 60) == (batch.id,)
        again = spool.retract(NOW + DAY + 1, "trusted")
        assert again.id != batch.id
        assert [one.id for one in unpack(again.payload).retract] == ["R0"]


def test_a_batch_in_quarantine_for_a_day_is_tried_under_another_id(opened):
    """Rule T17."""
    with opened() as spool:
        spool.append(poll(0), {})
        batch = seal(spool)
        spool.quarantine(batch.id, "no", NOW)
        assert spool.tend(NOW + DAY - 1, DAY * 60) == ()
        assert spool.tend(NOW + DAY + 1, DAY * 60) == (batch.id,)
        (void,) = spool.unreceipted()
        assert void.void is Void.REJECTED
        assert all_rows(spool) == []
        rejected = receipt_for(batch, stored=(), rejected=((1, batch.sha256, "no"),))
        assert spool.settle(rejected, NOW).quarantined == ()
        spool.settle(receipt_for(void), NOW)
        assert len(all_rows(spool)) == 10


def test_peoples_rows_that_nobody_takes_for_60_days_are_destroyed_and_the_cellars_are_not(opened):
    """Rule P14."""
    cellar = reading(0, 0)
    cellar = type(cellar)(
        cellar.series._replace(place="C00000000000000", occupancy=None, basis="common"),
        cellar.t,
        cellar.value,
        "V",
    )
    with opened() as spool:
        spool.append([*poll(0, 2), cellar], {})
        batch = seal(spool)
        spool.append([*poll(1, 2), *poll(2, 2), cellar], {})
        late = NOON + 120 + 60 * DAY
        assert spool.tend(late, 60 * DAY) == (batch.id,)
        (void,) = spool.unreceipted()
        assert void.void is Void.EXPIRED
        spool.settle(receipt_for(void), late)
        left = all_rows(spool)
        assert [row.series.basis for row in left].count("common") == 2
        assert {row.t for row in left if row.series.basis != "common"} == {NOON + 120}


def test_the_old_slots_of_a_run_that_waits_are_destroyed_though_its_last_one_is_young(opened):
    """Rule P14."""
    with opened() as spool:
        row = reading(0, 0, None, span=5)
        spool.append([row], {})
        step = row.series.step
        for n in (1, 3):
            spool.tend(row.t + n * step + 60 * DAY, 60 * DAY)
        (left,) = all_rows(spool)
        assert (left.t, left.span) == (row.t + 3 * step, 2)


def test_resend_is_byte_for_byte_a_void_where_it_is_gone_and_nothing_that_was_never_made(opened):
    with opened() as spool:
        spool.append(poll(0) + poll(1), {})
        first, second = seal_all(spool, most_rows=10)
        for batch in (first, second):
            spool.settle(receipt_for(batch), NOW)
        spool.forget(NOW + 1)
        spool.append(poll(2), {})
        third = seal(spool)
        spool.settle(receipt_for(third), NOW)
        assert spool.resend(spool.epoch, 1, 1000, NOW) == 3
        found = [spool.asked(Lane.BACKFILL) for _ in range(4)]
        assert found[3] is None
        assert {one.id.seq: one.void for one in found[:3]} == {
            1: Void.GONE,
            2: Void.GONE,
            3: None,
        }
        assert third in found
        gone = next(one for one in found if one.id.seq == 1)
        word = receipt_for(gone, stored=((1, first.sha256),))
        assert spool.settle(word, NOW).settled == (first.id,)  # it has what we no longer know


def test_a_resend_of_what_another_kind_of_transport_took_brings_its_rows_again(opened):
    """Files are not what a broker takes: the id is answered with a void, and the rows follow.
    Rule T29.
    """
    with opened() as spool:
        spool.packs(lambda batch: ("csv.gz", b"packed" + batch.sha256.encode()))
        spool.append(poll(0) + poll(1), {})
        first, second = seal_all(spool, most_rows=10)
        for batch in (first, second):
            spool.settle(receipt_for(batch), NOW)
        spool.packs(None)
        assert spool.resend(spool.epoch, 1, 2, NOW) == 2
        one, other = spool.asked(Lane.BACKFILL), spool.asked(Lane.BACKFILL)
        assert (one.void, one.form, one.original) == (Void.GONE, "", first.sha256)
        spool.settle(receipt_for(one), NOW)  # it holds the void: it had lost the batch
        spool.settle(original(other), NOW)  # it holds the batch after all
        assert [(row.t, row.again) for row in all_rows(spool)] == [(NOON, True)] * 10


def test_a_transport_changed_there_and_back_costs_no_row_whatever_the_recipient_holds(opened):
    with opened() as spool:
        spool.append(poll(0), {})
        batch = seal(spool)
        spool.packs(lambda one: ("json.gz", b"packed" + one.sha256.encode()))
        (void,) = spool.unreceipted()
        assert (void.void, void.form, void.original) == (Void.GONE, "json.gz", batch.sha256)
        spool.packs(None)
        (again,) = spool.unreceipted()
        assert (again.void, again.form, again.original) == (Void.GONE, "", batch.sha256)
        assert again.sha256 != void.sha256
        assert spool.unreceipted() == [again], "made once"
        settled = spool.settle(receipt_for(again, stored=((1, void.sha256),)), NOW)
        assert settled.conflict, "it holds the void as it came in a file"
        assert [row.again for row in all_rows(spool)] == [True] * 10


def test_another_state_of_the_gateway_begins_an_epoch_and_marks_all_rows(opened):
    """Rule K14."""
    with opened() as spool:
        assert not spool.belongs_to("a")
        epoch = spool.epoch
        spool.append(poll(0), {})
    with opened() as spool:
        assert not spool.belongs_to("a")
        assert spool.belongs_to("b")
        assert spool.epoch != epoch
        assert not spool.belongs_to("b")
        assert all(row.again for row in all_rows(spool))


class Registry:
    """What the spool asks: one change behind, or without a basis for one dwelling."""

    mute = False

    def __init__(self, number, *gone):
        self.number, self.gone = number, {series(n).place for n in gone}

    def revision(self):
        return self.number

    def stands(self, of, t):
        assert t >= NOON
        return of.place not in self.gone


def test_nothing_is_sealed_while_a_change_of_the_registry_is_not_applied(opened):
    """Rule T2."""
    with opened() as spool:
        spool.append(poll(0), {})
        assert seal(spool, bases=Registry(1)) is None
        spool.apply(1, (), NOW)
        assert seal(spool, bases=Registry(1)).rows == 10


def test_sealing_asks_once_more_and_what_does_not_stand_is_destroyed(opened):
    """Rule P12."""
    with opened() as spool:
        spool.append(poll(0) + poll(1), {})
        batch = seal(spool, bases=Registry(0, 3, 4), most_rows=5)
        assert len(without(without(read(batch.payload), 3), 4)) == 5
        rest = seal(spool, bases=Registry(0, 3, 4))
        assert batch.rows + rest.rows == 16
        assert spool.backlog().rows == 0


def test_rows_that_wait_an_hour_are_in_blocks_of_one_owner_each_and_in_order(opened, tmp_path):
    """Rule P15."""
    with opened() as spool:
        for slot in range(30):
            spool.append(poll(slot), {})
        spool.tend(NOW, 60 * DAY)
        spool.tend(NOW, 60 * DAY)
        spool.append(poll(30), {})
    mixed = sqlite3.connect(tmp_path / "spool.db")
    count = "SELECT count(*), sum(n) FROM block WHERE mixed"
    assert mixed.execute(count).fetchone() == (1, 10)
    assert mixed.execute("SELECT count(DISTINCT owner) FROM block WHERE NOT mixed").fetchone() == (
        10,
    )
    mixed.close()
    with opened() as spool:
        rows = all_rows(spool)
        assert len(rows) == 310
        for number in range(10):
            mine = [row.t for row in rows if row.series == series(number)]
            assert mine == sorted(mine)


def test_a_key_goes_with_the_last_row_that_lies_under_it(opened):
    with opened() as spool:
        spool.append(poll(0), {})
        seal(spool, most_rows=5)
        withdraw(spool)
        spool.settle(receipt_for(*spool.unreceipted()), NOW)  # of five that were sealed one is gone
        owners = spool._database.scalar("SELECT count(*) FROM owner")
        names = spool._database.scalar("SELECT count(*) FROM series")
    assert (owners, names) == (4, 9)


def chunks(body, size=48):
    return {body[i : i + size] for i in range(0, len(body) - size, size)}


@pytest.mark.parametrize("parted", [False, True], ids=["mixed", "parted"])
def test_the_bytes_of_a_purged_dwelling_are_in_no_file_afterwards(opened, tmp_path, parted):
    """Not even sealed: nor what it left in freed pages, in the log, or in what was kept.
    Rule P16.
    """
    seen = set()

    def look(spool):
        for table in ("block", "batch", "aside"):
            for (body,) in spool._database.read(f"SELECT body FROM {table}"):
                seen.update(chunks(body))
        seen.update(key for (key,) in spool._database.read("SELECT key FROM owner"))

    mine = [reading(0, slot, f"{slot}.{slot:030}") for slot in range(2000)]
    others = [reading(n, slot) for slot in range(300) for n in range(1, 5)]
    with opened() as spool:
        spool.append(mine[:700], {})
        look(spool)
        for batch in seal_all(spool, most_rows=100):  # freed pages, unreceipted and kept ones
            look(spool)
            if batch.id.seq % 2:
                spool.settle(receipt_for(batch), NOW)
        spool.forget(NOW + 1)
        spool.append(mine[700:1400] + others, {})
        look(spool)
        if parted:
            spool.tend(NOW, 60 * DAY)
            spool.tend(NOW, 60 * DAY)
            look(spool)
        withdraw(spool)
        on_disk = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        look_again = set()
        for table in ("block", "batch", "aside"):
            for (body,) in spool._database.read(f"SELECT body FROM {table}"):
                look_again.update(chunks(body))
        look_again.update(key for (key,) in spool._database.read("SELECT key FROM owner"))
        left = [chunk for chunk in seen - look_again if chunk in on_disk]
        assert left == []
        assert {row.series.place for row in all_rows(spool)} == {
            series(n).place for n in range(1, 5)
        }


def test_a_kill_right_after_the_purge_leaves_its_bytes_no_longer_than_until_the_next_start(
    opened, tmp_path
):
    """Rule P16."""
    with opened() as spool:
        spool.append([reading(0, slot, f"{slot}.{slot:030}") for slot in range(500)], {})
        bodies = [body for (body,) in spool._database.read("SELECT body FROM block")]
        spool._database.fold = lambda: None
        withdraw(spool)
        copy = tmp_path / "copy"
        copy.mkdir()
        for path in tmp_path.glob("spool.db*"):
            (copy / path.name).write_bytes(path.read_bytes())

    def left():
        on_disk = b"".join(path.read_bytes() for path in copy.iterdir())
        return [chunk for body in bodies for chunk in chunks(body) if chunk in on_disk]

    assert left()
    with opened(path=copy / "spool.db"):
        assert left() == []


def test_live_and_backfill_go_on_after_a_purge(opened):
    with opened() as spool:
        spool.append(poll(0) + poll(10), {})
        withdraw(spool)
        live = seal(spool, Lane.LIVE, NOON + 300)
        assert {row.t for row in read(live.payload)} == {NOON + 600}
        assert seal(spool, Lane.BACKFILL, FOREVER).rows == 9

"""Guards rules T8, T9."""

from dataclasses import replace

import pytest

from agent.buffer.batch import read
from agent.core.model import Receipt
from tests.contract.buffer.conftest import HEAD
from tests.contract.buffer.far import receipt_for, seal, seal_all
from tests.unit.buffer.rows import NOON, poll

DAY = 86_400.0
OTHER = "f" * 64


def contradict(*batches):
    return receipt_for(*batches, stored=tuple((batch.id.seq, OTHER) for batch in batches))


def again(rows):
    return [replace(row, again=True) for row in rows]


def test_a_conflict_begins_an_epoch_and_only_its_rows_are_sealed_anew(opened):
    with opened() as spool:
        spool.append(poll(0) + poll(1), {})
        first, second = seal_all(spool, most_rows=10)
        spool.append(poll(2), {})
        settled = spool.settle(contradict(first), DAY)
        assert settled.new_epoch
        assert f"{first.id.epoch}/{first.id.seq}" in settled.conflict
        assert settled.settled == ()
        assert spool.epoch != first.id.epoch
        assert spool.unreceipted() == [second]
        fresh = seal(spool)
        assert (fresh.id.epoch, fresh.id.seq) == (spool.epoch, 1)
        assert sorted(map(repr, read(fresh.payload))) == sorted(map(repr, again(poll(0)) + poll(2)))


def test_rows_taken_back_stand_before_all_that_wait(opened):
    with opened() as spool:
        spool.append([*poll(0, 1), *poll(1, 1)], {})
        first, second = seal_all(spool, most_rows=1)
        spool.append(poll(2, 1), {})
        spool.settle(contradict(first, second), DAY)
        slots = [read(seal(spool, most_rows=1).payload)[0].t for _ in range(3)]
        assert slots == [NOON, NOON + 60, NOON + 120]


def test_batches_of_the_old_epoch_are_still_settled_under_their_ids(opened):
    with opened() as spool:
        spool.append(poll(0) + poll(1), {})
        first, second = seal_all(spool, most_rows=10)
        spool.settle(contradict(first), DAY)
    with opened() as spool:
        assert spool.settle(receipt_for(second), DAY).settled == (second.id,)
        assert spool.unreceipted() == []


def test_a_contradiction_said_twice_is_one(opened):
    with opened() as spool:
        spool.append(poll(0), {})
        batch = seal(spool)
        spool.settle(contradict(batch), DAY)
        epoch = spool.epoch
        settled = spool.settle(contradict(batch), DAY)
        assert (settled.conflict, settled.alarm, settled.ignored) == (None, None, 1)
        assert spool.epoch == epoch
        assert spool.backlog().rows == 10


def test_the_second_conflict_within_a_day_stops_and_raises_the_alarm(opened):
    with opened() as spool:
        spool.append(poll(0), {})
        spool.settle(contradict(seal(spool)), DAY)
    with opened() as spool:
        batch, epoch = seal(spool), spool.epoch
        settled = spool.settle(contradict(batch), DAY + 86_399)
        assert (settled.conflict, settled.new_epoch) == (None, False)
        assert "within a day" in settled.alarm
        assert spool.epoch == epoch
        assert spool.unreceipted() == [batch]
        assert spool.settle(contradict(batch), 2 * DAY).new_epoch
        assert spool.backlog().rows == 10


def test_a_conflict_of_an_earlier_epoch_needs_no_further_epoch(opened):
    with opened() as spool:
        spool.append(poll(0) + poll(1), {})
        first, second = seal_all(spool, most_rows=10)
        spool.settle(contradict(first), DAY)
        epoch = spool.epoch
        settled = spool.settle(contradict(second), DAY)
        assert settled.conflict
        assert not settled.new_epoch
        assert spool.epoch == epoch
        assert read(seal(spool, most_rows=10).payload) == again(poll(1))


def test_a_batch_already_settled_can_be_contradicted_too(opened):
    with opened() as spool:
        spool.append(poll(0), {})
        batch = seal(spool)
        spool.settle(receipt_for(batch), DAY)
        assert spool.settle(contradict(batch), DAY).new_epoch
        assert read(seal(spool).payload) == again(poll(0))


def test_a_receipt_for_an_id_not_made_yet_begins_an_epoch_and_marks_every_row(opened):
    """Rule T6."""
    with opened() as spool:
        spool.append(poll(0), {})
        sealed = seal(spool)
        spool.append(poll(1), {})
        epoch = spool.epoch
        settled = spool.settle(receipt_for(sealed, stored=((2, OTHER),)), DAY)
        assert settled.new_epoch
        assert f"{epoch}/2" in settled.ahead
        assert settled.conflict is None
        assert spool.unreceipted() == [sealed]
        spool.append(poll(2), {})
    with opened() as spool:
        assert read(seal(spool, most_rows=10).payload) == again(poll(1))
        assert read(seal(spool).payload) == poll(2)


def test_rows_that_come_after_such_an_epoch_are_not_marked_though_all_others_left(opened):
    with opened() as spool:
        spool.append(poll(0), {})
        spool.settle(
            Receipt("G7Q2MXW4T", "energie.metropole.example", spool.epoch, ((7, OTHER),)), 0
        )
        seal(spool)
    with opened() as spool:
        spool.append(poll(1), {})
        assert read(seal(spool).payload) == poll(1)


def test_a_look_ahead_begins_one_epoch_a_start_and_then_raises_the_alarm(opened):
    def ahead(spool):
        return Receipt("G7Q2MXW4T", "energie.metropole.example", spool.epoch, ((7, OTHER),))

    with opened() as spool:
        assert spool.settle(ahead(spool), DAY).new_epoch
        epoch = spool.epoch
        second = spool.settle(ahead(spool), DAY)
        assert (second.new_epoch, second.ahead) == (False, None)
        assert "not made yet" in second.alarm
        assert spool.epoch == epoch
    with opened() as spool:
        assert spool.settle(ahead(spool), DAY).new_epoch


def test_a_restored_state_costs_one_epoch_for_all_it_contradicts(opened):
    with opened() as spool:
        spool.append(poll(0) + poll(1), {})
        first, _ = seal_all(spool, most_rows=10)
        receipt = receipt_for(first, stored=((1, OTHER), (2, OTHER), (3, OTHER)))
        settled = spool.settle(receipt, DAY)
        assert settled.new_epoch
        assert settled.alarm is None
        assert spool.unreceipted() == []
        later = seal_all(spool, most_rows=10)
        assert [read(batch.payload) for batch in later] == [again(poll(0)), again(poll(1))]
        assert spool.settle(contradict(later[0]), DAY).new_epoch  # the day's one is still there


def test_of_an_epoch_that_never_was_and_of_numbers_never_made_nothing_can_be_asked(opened):
    with opened() as spool:
        spool.append(poll(0) + poll(1), {})
        first, second = seal_all(spool, most_rows=10)
        spool.settle(receipt_for(first, second), DAY)
        with pytest.raises(LookupError, match="no batch with the epoch 5f1c00000000"):
            spool.resend("5f1c00000000", 1, 9, DAY)
        with pytest.raises(LookupError, match=r"is 2$"):
            spool.resend(spool.epoch, 3, 9, DAY)
        assert spool.resend(spool.epoch, 1, 9, DAY) == 2
        assert spool.settle(receipt_for(first, second), DAY)
        spool.settle(contradict(first), DAY)
        spool.settle(replace(receipt_for(second), epoch=spool.epoch, stored=((9, OTHER),)), DAY)
    with opened() as spool:  # two epochs later, and none of their batches is kept any more
        spool._database.write("DELETE FROM batch")
        assert spool.resend(first.id.epoch, 1, 9, DAY) == 2
        with pytest.raises(LookupError, match=r"is 2$"):
            spool.resend(first.id.epoch, 3, 9, DAY)


def test_a_spool_of_before_knows_the_epochs_of_what_it_holds(opened):
    with opened() as spool:
        spool.append(poll(0), {})
        (first,) = seal_all(spool, most_rows=10)
        spool.settle(contradict(first), DAY)
        spool._database.write("DELETE FROM meta WHERE name = 'epochs'")
        assert spool.resend(first.id.epoch, 1, 9, DAY) == 1


def test_what_the_last_receipted_batch_says_of_the_audit_chain_is_known(opened):
    with opened(head=replace(HEAD, audit=lambda: OTHER)) as spool:
        spool.append(poll(0), {})
        (batch,) = seal_all(spool, most_rows=10)
        assert spool.receipted_audit() is None
        spool.settle(receipt_for(batch), DAY)
        assert spool.receipted_audit() == OTHER

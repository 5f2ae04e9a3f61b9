"""Batches that the transport refuses: smaller ones, or the same once more, and nothing is lost
(rules T4, T5). Guards rules G1, G2, T17."""

import pytest

from agent.core.model import Void
from tests.contract.buffer.far import Far, receipt_for, seal
from tests.contract.buffer.test_withdrawal import DAY, NOW, withdraw
from tests.unit.buffer.rows import poll

HALF_HOUR, KEPT = 1_801.0, DAY * 60


def settle_all(spool, far, now=NOW):
    """Deliver what waits, until nothing does."""
    for _ in range(1_000):
        for batch in spool.unreceipted():
            spool.settle(far.store(batch), now)
        if seal(spool, now=now) is None and not spool.unreceipted():
            return
    raise AssertionError("never settled")


def test_what_is_too_large_comes_in_smaller_ones_once_its_void_is_receipted(opened):
    far = Far()
    with opened() as spool:
        for n in range(6):
            spool.append(poll(n), {})
        batch = seal(spool)
        assert spool.split(batch, "413", NOW)
        (void,) = spool.unreceipted()
        assert (void.id, void.void) == (batch.id, Void.REJECTED)
        assert seal(spool) is None, "not before the word on what is held under its number"
    with opened() as spool:
        assert spool.most_bytes(NOW) == len(batch.payload) // 2
        settle_all(spool, far)
        assert len(far.rows) == 60
        assert far.twice == []


def test_what_had_arrived_before_it_was_refused_for_its_size_comes_once(opened):
    """An earlier copy was stored, and its answer was lost."""
    far = Far()
    with opened() as spool:
        spool.append(poll(0), {})
        batch = seal(spool)
        far.store(batch)
        assert spool.split(batch, "413", NOW)
        settle_all(spool, far)
        assert seal(spool) is None
        assert (len(far.rows), far.twice) == (10, [])


def test_one_row_stays_under_its_number_and_is_tried_again_by_the_half_hour(opened):
    with opened() as spool:
        spool.append(poll(0, 1), {})
        batch = seal(spool)
        assert not spool.split(batch, "413", NOW)
        backlog = spool.backlog()
        assert (backlog.quarantined, backlog.quarantined_since) == (1, NOW)
        assert backlog.quarantined_why == "413"
        assert spool.most_bytes(NOW) is None, "one row says nothing of batches"
        assert spool.tend(NOW + HALF_HOUR / 2, KEPT) == ()
        assert spool.tend(NOW + HALF_HOUR, KEPT) == (batch.id,)
        assert spool.unreceipted() == [batch]
        spool.refuse(batch.id, "413", NOW + HALF_HOUR)
        assert spool.backlog().quarantined_since == NOW, "it lasts since then"


def test_a_batch_refused_for_a_day_by_the_transport_comes_under_another_number(opened):
    with opened() as spool:
        spool.append(poll(0), {})
        batch = seal(spool)
        now, tries = NOW, 0
        while spool.unreceipted()[0].void is None:
            assert spool.unreceipted() == [batch]
            spool.refuse(batch.id, "400", now)
            now, tries = now + HALF_HOUR, tries + 1
            spool.tend(now, KEPT)
        assert now >= NOW + DAY
        assert tries > 40


@pytest.mark.parametrize("by", ["receipt", "transport"])
def test_a_batch_that_a_clock_ahead_put_in_quarantine_waits_no_longer_than_a_day(opened, by):
    """Rule T17."""
    ahead = NOW + 30 * DAY
    with opened() as spool:
        spool.append(poll(0), {})
        batch = seal(spool)
        if by == "receipt":
            no = receipt_for(batch, stored=(), rejected=((1, batch.sha256, "no"),))
            spool.settle(no, ahead)
        else:
            spool.refuse(batch.id, "400", ahead)
        assert spool.tend(NOW, KEPT) == ()
        assert spool.backlog().quarantined_since == NOW
        assert spool.tend(NOW + DAY + 1, KEPT)[0] == batch.id
        assert spool.unreceipted()[0].void is Void.REJECTED


def test_a_batch_that_was_receipted_by_a_clock_ahead_is_kept_no_longer_than_others(opened):
    """Rule T10."""
    with opened() as spool:
        spool.append(poll(0), {})
        spool.settle(receipt_for(seal(spool)), NOW + 300 * DAY)
        spool.tend(NOW, KEPT)
        assert spool.forget(NOW) == 0
        assert spool.forget(NOW + 1) == 1


def test_when_one_passes_the_others_that_the_transport_refused_follow(opened):
    with opened() as spool:
        batches = []
        for n in range(3):
            spool.append(poll(n), {})
            batches.append(seal(spool))
        rejected, *refused = batches
        no = receipt_for(rejected, stored=(), rejected=((1, rejected.sha256, "no"),))
        spool.settle(no, NOW)
        for batch in refused:
            spool.refuse(batch.id, "400", NOW)
        assert spool.tend(NOW + HALF_HOUR, KEPT) == (refused[0].id,)
        assert spool.settle(receipt_for(refused[0]), NOW).again
        assert spool.unreceipted() == [refused[1]]
        assert spool.quarantined() == [rejected]
        assert not spool.settle(receipt_for(refused[1]), NOW).new_epoch


def test_retry_sends_all_of_them_as_they_were_and_makes_large_ones_again(opened):
    with opened() as spool:
        spool.append(poll(0), {})
        first = seal(spool)
        spool.append(poll(1), {})
        second = seal(spool)
        assert spool.split(second, "413", NOW)
        spool.refuse(first.id, "400", NOW)
        assert spool.retry() == 1
        assert spool.most_bytes(NOW) is None
        assert spool.unreceipted()[0] == first


def test_a_void_that_the_transport_refuses_is_kept_and_sent_again(opened):
    with opened() as spool:
        spool.append(poll(0), {})
        seal(spool)
        withdraw(spool)
        (void,) = spool.unreceipted()
        spool.refuse(void.id, "400", NOW)
        assert spool.tend(NOW + 2 * DAY, KEPT) == (void.id,)
        assert spool.unreceipted() == [void]


def test_what_was_taken_back_while_it_was_refused_is_no_batch_to_split(opened):
    with opened() as spool:
        spool.append(poll(0), {})
        batch = seal(spool)
        withdraw(spool)
        standing = spool.unreceipted()
        assert spool.split(batch, "413", NOW)
        assert spool.unreceipted() == standing
        assert spool.most_bytes(NOW) is None


def test_a_directory_that_is_too_large_is_told_anew_in_smaller_parts(opened):
    items = {f"places/D{n:014d}": {"id": f"D{n:014d}", "label": f"flat {n}"} for n in range(40)}
    with opened() as spool:
        batch = spool.announce(items, NOW, "trusted")
        assert spool.announce(items, NOW, "trusted") is None
        assert spool.split(batch, "413", NOW)
        told = []
        while one := spool.announce(items, NOW, "trusted"):
            told.append(one)
        assert len(told) > 2
        assert all(len(one.payload) < len(batch.payload) for one in told)

"""What a spool still holds of one person, for that person: all of it, and nothing of another's."""

import pytest

from agent.buffer.batch import read
from agent.core.model import Lane
from tests.contract.buffer.far import FOREVER, receipt_for, seal
from tests.contract.buffer.test_withdrawal import DAY, NOW, withdraw
from tests.unit.buffer.rows import poll, series


def mine(number=0, *slots):
    return [row for slot in slots for row in poll(slot) if row.series.place == series(number).place]


def held(spool, number=0):
    return spool.held_of(series(number).occupancy)


@pytest.mark.parametrize("parted", [False, True], ids=["mixed", "parted"])
def test_what_waits_of_one_and_of_nobody_else_is_found(opened, parted):
    with opened() as spool:
        spool.append(poll(0), {})
        spool.append(poll(1), {})
        if parted:
            spool.tend(NOW, DAY * 60)
            spool.tend(NOW, DAY * 60)
        assert held(spool) == mine(0, 0, 1)
        assert held(spool, 1) == mine(1, 0, 1)
        assert spool.held_of("HNOBODY") == []


def test_what_is_under_way_is_still_held_and_what_was_received_is_not(opened):
    with opened() as spool:
        spool.append(poll(0), {})
        batch = seal(spool, Lane.BACKFILL, FOREVER)
        assert mine(0, 0)[0] in read(batch.payload)
        spool.append(poll(1), {})
        assert [row.t for row in held(spool)] == [row.t for row in mine(0, 0, 1)]
        spool.settle(receipt_for(batch), NOW)
        assert [row.t for row in held(spool)] == [row.t for row in mine(0, 1)]


def test_rows_of_a_void_that_a_neighbour_has_caused_are_held_once(opened):
    with opened() as spool:
        spool.append(poll(0), {})
        seal(spool, Lane.BACKFILL, FOREVER)
        withdraw(spool)
        assert held(spool) == []
        assert [row.t for row in held(spool, 1)] == [row.t for row in mine(1, 0)]

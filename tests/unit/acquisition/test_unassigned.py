"""Guards rules G3, G4: what a meter says before anybody knows whose it is leaves for nobody,
and for the right dwelling, on the basis of its own time, once somebody has said so. Rules I21, C5.
"""

import asyncio
from decimal import Decimal
from types import SimpleNamespace

import pytest

from agent.acquisition.ingest import Ingest, SlotAccount
from agent.acquisition.slots import SlotLedger
from agent.acquisition.unsent_readings import UnassignedReadings
from agent.buffer.database import in_own_thread
from agent.buffer.schema import Wrong
from agent.buffer.unassigned_store import UnassignedStore
from agent.core.errors import SpoolFull, StorageFailed
from agent.core.model import Why
from tests.unit.acquisition.house import LONG_AGO, NOW, point, sample

DAY = 86_400
METER = point("m9")
KEY = ("m9", 10)


class Here:
    """A ledger whose intake keeps rows in a list, and a shelf in a file."""

    def __init__(self, town):
        self.town, self.rows, self.full = town, [], False
        self.ledger = SlotLedger(town.gate(), {KEY: [METER]}, {})
        self.account = SlotAccount(self.ledger, Ingest(self.append, 1.0))

    async def append(self, rows, marks):
        assert marks is not None
        if self.full:
            raise SpoolFull("full")
        self.rows += rows

    def read(self, unclaimed, slots, serial="9009"):
        for n in slots:
            read = [sample(METER, f"{n}.50", NOW + n * 10 + 1.0)]
            unclaimed.note(NOW + n * 10, read, serial)
            assert self.ledger.close(KEY, NOW + n * 10, read, serial, Why.BUSY) == []

    async def tend(self, unclaimed, now):
        return await unclaimed.tend(now, [self.account], lambda _device, _name: METER)


def scenario(tmp_path, town, does, *cap):
    async def run():
        opening = lambda: UnassignedStore.open(tmp_path / "shelf.db", b"k" * 32, *cap)  # noqa: E731
        async with in_own_thread("shelf", opening) as (shelf, thread):
            here = Here(town)
            await does(here, UnassignedReadings(town.registry, shelf, thread), shelf, thread)

    asyncio.run(run())


def test_when_a_number_was_first_read_is_known_after_a_restart(tmp_path, town):
    async def does(here, unclaimed, shelf, thread):
        here.read(unclaimed, range(3))
        await unclaimed.commit()
        again = UnassignedReadings(town.registry, shelf, thread)
        await here.tend(again, NOW + 60.0)
        assert unclaimed.seen == again.seen == {"9009": NOW}

    scenario(tmp_path, town, does)


def test_an_unassigned_meters_readings_are_given_to_the_dwelling_it_turns_out_to_be(tmp_path, town):
    async def does(here, unclaimed, shelf, thread):
        here.read(unclaimed, range(5))
        await here.tend(unclaimed, NOW + 60)
        assert here.rows == []
        assert await thread.run(shelf.count) == 5
        town.dwelling("D7", "9009", NOW + 20)
        assert await here.tend(unclaimed, NOW + 200) == 3
        assert [(row.t, row.value) for row in here.rows] == [
            (NOW + n * 10, Decimal(f"{n}.50")) for n in (2, 3, 4)
        ]
        assert {row.flags for row in here.rows} == {"EXCH+LATE"}
        assert {row.ver for row in here.rows} == {NOW + 200}
        assert {row.series.place for row in here.rows} == {town.place("D7")}
        assert await thread.run(shelf.count) == 2  # of the time before anybody had it
        assert await here.tend(unclaimed, NOW + 300) == 0

    scenario(tmp_path, town, does)


def test_while_the_registry_knows_no_basis_no_value_is_given(tmp_path, town):
    """Rule A8: without a basis it would be destroyed and not sent."""

    async def does(here, unclaimed, shelf, thread):
        here.read(unclaimed, range(5))
        town.dwelling("D7", "9009", NOW)
        town.registry.mute = True
        assert await here.tend(unclaimed, NOW + 200) == 0
        assert await thread.run(shelf.count) == 5
        town.registry.mute = False
        assert await here.tend(unclaimed, NOW + 300) == len(here.rows) == 5

    scenario(tmp_path, town, does)


def test_only_the_first_value_of_a_slot_that_a_start_read_again_is_given(tmp_path, town):
    """Rule M10."""

    async def does(here, unclaimed, shelf, thread):
        here.read(unclaimed, range(2))
        await unclaimed.commit()
        again = UnassignedReadings(town.registry, shelf, thread)
        again.note(NOW + 10, [sample(METER, "1.70", NOW + 17.0)], "9009")
        here.read(again, [2])
        town.dwelling("D7", "9009", NOW)
        assert await here.tend(again, NOW + 200) == 4
        assert [row.value for row in here.rows] == [Decimal(f"{n}.50") for n in range(3)]
        assert await thread.run(shelf.count) == 0

    scenario(tmp_path, town, does)


def test_what_a_full_spool_does_not_take_stays_on_the_shelf(tmp_path, town):
    async def does(here, unclaimed, shelf, thread):
        here.read(unclaimed, range(5))
        town.dwelling("D7", "9009", NOW)
        here.full = True
        with pytest.raises(SpoolFull):
            await here.tend(unclaimed, NOW + 200)
        assert await thread.run(shelf.count) == 5
        here.full = False
        assert await here.tend(unclaimed, NOW + 500) == 5
        assert [row.value for row in here.rows] == [Decimal(f"{n}.50") for n in range(5)]
        assert await thread.run(shelf.count) == 0

    scenario(tmp_path, town, does)


def test_what_nobody_may_have_is_destroyed_once_it_is_known_whose_it_is(tmp_path, town):
    async def does(here, unclaimed, shelf, thread):
        here.read(unclaimed, range(3))
        town.dwelling("D7", "9009", LONG_AGO, consents=False)
        assert await here.tend(unclaimed, NOW + 100) == 3
        assert here.rows == []
        assert await thread.run(shelf.count) == 0

    scenario(tmp_path, town, does)


def test_what_nobody_claims_in_60_days_is_destroyed(tmp_path, town):
    async def does(here, unclaimed, shelf, thread):
        here.read(unclaimed, range(3))
        await here.tend(unclaimed, NOW + 60 * DAY)
        assert await thread.run(shelf.count) == 3
        await here.tend(unclaimed, NOW + 60 * DAY + 60)
        assert await thread.run(shelf.count) == 0

    scenario(tmp_path, town, does)


WRONG = Wrong({KEY: NOW + 10}, {KEY: NOW + 30})
"""a wrong clock closed the slots 2 and 3"""


@pytest.mark.parametrize("written", [True, False])
def test_what_a_wrong_clock_dated_is_destroyed(tmp_path, town, written):
    async def does(here, unclaimed, _shelf, _thread):
        here.read(unclaimed, range(5))
        if written:
            await unclaimed.commit()
        await unclaimed.set_back(WRONG)
        town.dwelling("D7", "9009", NOW)
        assert await here.tend(unclaimed, NOW + 200) == 3
        assert [row.value for row in here.rows] == [Decimal(f"{n}.50") for n in (0, 1, 4)]

    scenario(tmp_path, town, does)


def test_a_store_that_fails_destroys_what_a_wrong_clock_dated_before_anything_else(tmp_path, town):
    async def does(here, unclaimed, _shelf, thread):
        async def fails(*_call):
            raise StorageFailed("the disk does not answer")

        here.read(unclaimed, range(5))
        await unclaimed.commit()
        unclaimed.thread = SimpleNamespace(run=fails)
        with pytest.raises(StorageFailed):
            await unclaimed.set_back(WRONG)
        with pytest.raises(StorageFailed):
            await here.tend(unclaimed, NOW + 200)
        assert here.rows == []
        unclaimed.thread = thread
        # read again for a slot that the wrong clock had closed
        unclaimed.note(NOW + 30, [sample(METER, "9.50", NOW + 31.0)], "9009")
        town.dwelling("D7", "9009", NOW)
        assert await here.tend(unclaimed, NOW + 200) == 4
        assert [str(row.value) for row in here.rows] == ["0.50", "1.50", "4.50", "9.50"]

    scenario(tmp_path, town, does)


def test_it_is_there_after_a_restart_and_cannot_be_read_on_the_disk(tmp_path, town):
    async def first(here, unclaimed, _shelf, _thread):
        here.read(unclaimed, [1234])
        await unclaimed.commit()

    async def second(_here, _unclaimed, shelf, thread):
        assert await thread.run(shelf.count) == 1

    scenario(tmp_path, town, first)
    on_disk = (tmp_path / "shelf.db").read_bytes()
    assert b"1234.50" not in on_disk
    assert b"9009" not in on_disk
    scenario(tmp_path, town, second)


def test_a_full_shelf_gives_up_the_oldest(tmp_path, town):
    async def does(here, unclaimed, shelf, thread):
        for round_ in range(400):
            here.read(unclaimed, range(round_ * 300, round_ * 300 + 300))
            await unclaimed.commit()
        kept = [
            one.slot for _, values in await thread.run(lambda: list(shelf.each())) for one in values
        ]
        assert max(kept) == NOW + (400 * 300 - 1) * 10
        assert min(kept) > NOW
        assert (tmp_path / "shelf.db").stat().st_size <= 1_000_000

    scenario(tmp_path, town, does, 1_000_000)

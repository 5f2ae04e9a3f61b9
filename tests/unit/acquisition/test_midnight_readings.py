"""Guards rule G3: what a meter showed at midnight is kept for a duty only, 62 days, and leaves
for nothing but the index of a change of occupant that was told after it, and the month ends since.
Rules P10, C5.
"""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from zoneinfo import ZoneInfo

import pytest

from agent.acquisition.ingest import Ingest, SlotAccount
from agent.acquisition.row_assignment import ExpectedSeries
from agent.acquisition.slots import SlotLedger
from agent.acquisition.unsent_readings import MidnightReadings
from agent.buffer.database import in_own_thread
from agent.buffer.schema import Wrong
from agent.buffer.unassigned_store import UnassignedStore
from agent.core.errors import SpoolFull
from agent.core.model import Why
from agent.registry.dates import MONTH
from agent.registry.inputs import NewDuty, NewOccupancy
from tests.unit.acquisition.house import LONG_AGO, NOW, RECIPIENT, Town, point, sample

DAY = 86_400
HOUR = 3600
MIDNIGHT = NOW // DAY * DAY + DAY
FIRST = int(datetime(2027, 2, 1, tzinfo=UTC).timestamp())
METER = point("m1", every=HOUR)
KEY = ("m1", HOUR)


@pytest.fixture
def town(tmp_path):
    town = Town(tmp_path, consents=[])
    duty = NewDuty(RECIPIENT, "décret", ("elec.imp",), since=LONG_AGO, id="duty")
    town.registry.oblige([duty], "test", "test", NOW)
    return town


class Here:
    """A ledger whose intake keeps rows in a list."""

    def __init__(self, town):
        self.town, self.rows, self.full = town, [], False
        self.ledger = SlotLedger(town.gate(), {KEY: [METER]}, {})
        self.accounts = [SlotAccount(self.ledger, Ingest(self.append, 1.0))]

    async def append(self, rows, marks):
        assert marks is not None
        if self.full:
            raise SpoolFull("full")
        self.rows += rows

    def reads(self, registers, first, hours=30):
        """Read every hour; what leaves at once."""
        left = []
        for n in range(hours):
            slot = first + n * HOUR
            read = [sample(METER, f"{n}.50", slot + 1.0)]
            registers.note(slot, read, "1001", self.accounts)
            left += self.ledger.close(KEY, slot, read, "1001", Why.BUSY)
        return left

    def moves(self, at, told):
        rows = [
            NewOccupancy("move_out", "D1", until=at),
            NewOccupancy("move_in", "D1", since=at),
        ]
        return self.town.registry.occupy(rows, "test", "test", told)[-1]

    def corrects(self, home, at, told):
        """The people before moved out at this time, and those of `home` moved in. Returns these."""
        known = self.town.registry.occupancies_of(home.place)
        before = next(one for one in known if one.until == home.since)
        rows = [
            NewOccupancy("correct", id=before.id, until=at),
            NewOccupancy("correct", id=home.id, since=at),
        ]
        later = at > home.since  # the one that makes room comes first
        done = self.town.registry.occupy(rows[::-1] if later else rows, "test", "test", told)
        return next(one for one in done if one.id == home.id)

    async def tend(self, registers, now):
        return await registers.tend(now, self.accounts, lambda _device, _name: METER)


def scenario(tmp_path, town, does):
    async def run():
        opening = lambda: UnassignedStore.open(tmp_path / "registers.db", b"k" * 32)  # noqa: E731
        async with in_own_thread("registers", opening) as (shelf, thread):
            await does(Here(town), MidnightReadings(town.registry, shelf, thread), shelf, thread)

    asyncio.run(run())


@pytest.mark.parametrize("written", [True, False])
def test_the_index_of_a_midnight_that_a_wrong_clock_saw_is_destroyed(tmp_path, town, written):
    async def does(here, registers, shelf, thread):
        here.reads(registers, MIDNIGHT - 2 * HOUR, 60)
        if written:
            await registers.commit()
        await registers.set_back(Wrong({KEY: MIDNIGHT + HOUR}, {KEY: MIDNIGHT + DAY}))
        told = MIDNIGHT + 20 * DAY
        home = here.moves(MIDNIGHT + DAY, told)
        assert await here.tend(registers, told) == 0
        assert here.rows == []
        assert await thread.run(shelf.count) == 2
        here.corrects(home, MIDNIGHT + 2 * DAY, told + 60)
        assert await here.tend(registers, told + 300) == 1
        assert [(row.t, row.value) for row in here.rows] == [(MIDNIGHT + 2 * DAY, Decimal("50.50"))]

    scenario(tmp_path, town, does)


def test_what_a_full_spool_does_not_take_stays_on_the_shelf(tmp_path, town):
    async def does(here, registers, shelf, thread):
        here.reads(registers, MIDNIGHT - 2 * HOUR, 60)
        await here.tend(registers, MIDNIGHT + 3 * DAY)
        told = MIDNIGHT + 20 * DAY
        here.moves(MIDNIGHT + DAY, told)
        here.full = True
        with pytest.raises(SpoolFull):
            await here.tend(registers, told)
        assert await thread.run(shelf.count) == 3
        here.full = False
        assert await here.tend(registers, told + 300) == 1
        (row,) = here.rows
        assert (row.t, row.value) == (MIDNIGHT + DAY, Decimal("26.50"))

    scenario(tmp_path, town, does)


def test_a_change_of_occupant_told_late_gives_its_index_once_and_no_other(tmp_path, town):
    async def does(here, registers, shelf, thread):
        assert here.reads(registers, MIDNIGHT - 2 * HOUR, 60) == []
        assert await here.tend(registers, MIDNIGHT + 3 * DAY) == 0
        assert await thread.run(shelf.count) == 3  # midnights, and nothing between
        told = MIDNIGHT + 20 * DAY
        home = here.moves(MIDNIGHT + DAY, told)
        assert await here.tend(registers, told) == 1
        (row,) = here.rows
        assert (row.t, row.value, row.series.step) == (MIDNIGHT + DAY, Decimal("26.50"), DAY)
        assert (row.series.basis, row.series.occupancy) == ("duty", home.id)
        assert row.flags == "LATE"
        assert row.ver > told  # what took the slot back from those who moved out does not take it
        assert await here.tend(registers, told + 60) == 0
        here.moves(MIDNIGHT + 9 * DAY, told + 70)
        assert await here.tend(registers, told + 80) == 0
        assert len(here.rows) == 1
        assert await thread.run(shelf.count) == 3  # a correction may retract it

    scenario(tmp_path, town, does)


@pytest.mark.parametrize("on_trial", [False, True])
def test_an_index_that_a_correction_retracts_is_given_again_once_it_is_owed_again(
    tmp_path, town, on_trial
):
    """Rule P10. Before an upgrade is final the earlier version must be able to read the store."""

    async def does(here, registers, shelf, _thread):
        shelf.on_trial = on_trial
        here.reads(registers, MIDNIGHT - 2 * HOUR, 60)
        told = MIDNIGHT + 20 * DAY
        home = here.moves(MIDNIGHT + DAY, told)
        assert await here.tend(registers, told) == 1
        for n, at in enumerate((MIDNIGHT + 2 * DAY, MIDNIGHT + DAY), 1):
            home = here.corrects(home, at, told + n * 60)
            await here.tend(registers, told + n * 60)
        again = [] if on_trial else [(MIDNIGHT + DAY, told + 121)]
        assert [(row.t, row.ver) for row in here.rows] == [
            (MIDNIGHT + DAY, told + 1), (MIDNIGHT + 2 * DAY, told + 61), *again
        ]  # fmt: skip
        assert {row.flags for row in here.rows} == {"LATE"}

    scenario(tmp_path, town, does)


def test_of_two_readings_of_a_midnight_the_first_is_given(tmp_path, town):
    """After a power cut the spool may have lost what closed the slot, and it is read again."""

    async def does(here, registers, shelf, thread):
        for shown, seconds in (("26.50", 0), ("26.70", 131)):
            read = [sample(METER, shown, MIDNIGHT + seconds)]
            registers.note(MIDNIGHT, read, "1001", here.accounts)
            await registers.commit()
        told = MIDNIGHT + DAY
        here.moves(MIDNIGHT, told)
        assert await here.tend(registers, told) == 2
        assert [(row.value, row.delay) for row in here.rows] == [(Decimal("26.50"), 0)]
        assert await thread.run(shelf.count) == 1

    scenario(tmp_path, town, does)


def test_a_midnight_of_which_a_later_reading_left_is_not_given_again(tmp_path, town):
    async def does(here, registers, shelf, thread):
        registers.note(MIDNIGHT, [sample(METER, "26.50", MIDNIGHT)], "1001", here.accounts)
        await registers.commit()
        here.moves(MIDNIGHT, MIDNIGHT + 60)
        here.reads(registers, MIDNIGHT, 1)
        assert await here.tend(registers, MIDNIGHT + 120) == 1
        assert here.rows == []
        assert await thread.run(shelf.count) == 1

    scenario(tmp_path, town, does)


def test_while_the_registry_knows_no_duty_no_index_is_destroyed(tmp_path, town):
    """Rule A8."""

    async def does(here, registers, shelf, thread):
        here.reads(registers, MIDNIGHT - 2 * HOUR, 60)
        town.registry.mute = True
        assert await here.tend(registers, MIDNIGHT + 3 * DAY) == 0
        assert await thread.run(shelf.count) == 3
        town.registry.mute = False
        told = MIDNIGHT + 20 * DAY
        here.moves(MIDNIGHT + DAY, told)
        assert await here.tend(registers, told) == 1

    scenario(tmp_path, town, does)


def test_an_index_is_to_be_written_soon_and_wakes_who_does_it(tmp_path, town):
    """Rule P10."""

    async def does(here, registers, _shelf, _thread):
        here.reads(registers, MIDNIGHT - 2 * HOUR, 1)
        assert (registers.soon, registers.filled.count) == (False, 0)
        here.reads(registers, MIDNIGHT, 1)
        assert (registers.soon, registers.filled.count) == (True, 1)
        await registers.commit()
        assert not registers.soon

    scenario(tmp_path, town, does)


def test_a_notice_that_takes_a_month_end_back_gives_it_again_to_the_manager(tmp_path, town):
    async def does(here, registers, _shelf, _thread):
        (first,) = here.reads(registers, FIRST, 1)
        assert (first.t, first.series.step) == (FIRST, MONTH)
        told = FIRST + 20 * DAY
        home = here.moves(FIRST - DAY, told)
        assert await here.tend(registers, told) == 1
        (row,) = here.rows
        assert (row.t, row.value, row.series.step) == (FIRST, first.value, MONTH)
        assert (row.series.basis, row.series.occupancy) == ("duty", home.id)
        assert (row.flags, row.ver) == ("LATE", told + 1)
        assert await here.tend(registers, told + DAY) == 0

    scenario(tmp_path, town, does)


def test_a_month_end_that_is_given_first_to_who_moved_in_unnoticed_is_owed_in_its_series(
    tmp_path, town
):
    """Rule T21: while the dwelling was vacant, nothing was owed. The index of a move is no slot."""

    async def does(here, registers, _shelf, _thread):
        out = [NewOccupancy("move_out", "D1", until=FIRST - 2 * DAY)]
        town.registry.occupy(out, "test", "test", FIRST - 2 * DAY)
        assert here.reads(registers, FIRST, 30) == []
        told = FIRST + 2 * DAY
        back = [NewOccupancy("move_in", "D1", since=FIRST - HOUR)]
        town.registry.occupy(back, "test", "test", told)
        assert await here.tend(registers, told) == 1
        steps = {row.series.step: row for row in here.rows}
        owed = {ExpectedSeries.of(steps[MONTH].series): FIRST}
        assert here.ledger.owed_in(here.rows) == owed

    scenario(tmp_path, town, does)


@pytest.mark.parametrize("on_trial", [False, True])
def test_what_left_on_the_day_is_given_again_once_a_correction_was_taken_back(
    tmp_path, town, on_trial
):
    async def does(here, registers, shelf, thread):
        shelf.on_trial = on_trial
        home = here.moves(MIDNIGHT, MIDNIGHT - DAY)
        (row,) = here.reads(registers, MIDNIGHT - 2 * HOUR, 30)
        assert row.t == MIDNIGHT
        told = MIDNIGHT + 2 * DAY
        assert await here.tend(registers, told) == 0
        assert await thread.run(shelf.count) == (1 if on_trial else 2)
        for n, at in enumerate((MIDNIGHT + DAY, MIDNIGHT), 1):
            home = here.corrects(home, at, told + n * 60)
            await here.tend(registers, told + n * 60)
        again = [] if on_trial else [(MIDNIGHT, Decimal("2.50"))]
        assert [(row.t, row.value) for row in here.rows] == [
            (MIDNIGHT + DAY, Decimal("26.50")), *again
        ]  # fmt: skip

    scenario(tmp_path, town, does)


def test_an_index_is_given_again_each_time_that_a_correction_retracts_it_but_owes_it_still(
    tmp_path, town
):
    """Rules P9, I22: at the midnight at which people moved out the index is theirs, but what they
    agreed to ended before it. A move-out later on that day retracts nothing of that midnight.
    """
    town.policy = replace(town.policy, zone=ZoneInfo("UTC"))

    async def does(here, registers, _shelf, _thread):
        def leaves(at, told, change):
            return town.registry.occupy([change(until=at)], "test", "test", told)[-1].id

        moving = partial(NewOccupancy, "move_out", "D1")
        home = leaves(MIDNIGHT + HOUR, MIDNIGHT - HOUR, moving)
        correcting = partial(NewOccupancy, "correct", id=home)
        (row,) = here.reads(registers, MIDNIGHT - 2 * HOUR, 30)
        assert (row.t, row.series.occupancy) == (MIDNIGHT, home)
        told = MIDNIGHT + 2 * DAY
        for n, at in enumerate((MIDNIGHT, MIDNIGHT + 2 * HOUR, MIDNIGHT + HOUR, MIDNIGHT)):
            leaves(at, told + n * 60, correcting)
            await here.tend(registers, told + n * 60)
        assert [(row.t, row.series.occupancy, row.ver) for row in here.rows] == [
            (MIDNIGHT, home, told + 1), (MIDNIGHT, home, told + 181)
        ]  # fmt: skip

    scenario(tmp_path, town, does)


def test_after_62_days_it_is_destroyed_and_a_notice_comes_too_late(tmp_path, town):
    async def does(here, registers, _shelf, _thread):
        here.reads(registers, MIDNIGHT, 1)
        assert await here.tend(registers, MIDNIGHT + 62 * DAY) == 0
        assert await here.tend(registers, MIDNIGHT + 62 * DAY + 1) == 1
        here.moves(MIDNIGHT, MIDNIGHT + 63 * DAY)
        assert await here.tend(registers, MIDNIGHT + 63 * DAY) == 0
        assert here.rows == []

    scenario(tmp_path, town, does)


def test_without_a_duty_nothing_is_kept_and_what_was_is_destroyed_with_it(tmp_path, town):
    async def does(here, registers, shelf, thread):
        here.reads(registers, MIDNIGHT, 1)
        await registers.commit()
        assert await thread.run(shelf.count) == 1
        town.registry.end_duty("duty", MIDNIGHT - 1, "test", "test", MIDNIGHT + DAY)
        assert await here.tend(registers, MIDNIGHT + DAY) == 1
        here.reads(registers, MIDNIGHT + DAY, 1)
        await registers.commit()
        assert await thread.run(shelf.count) == 0
        assert here.rows == []

    scenario(tmp_path, town, does)


def test_it_is_given_after_a_restart_and_cannot_be_read_on_the_disk(tmp_path, town):
    async def first(here, registers, _shelf, _thread):
        here.reads(registers, MIDNIGHT - 26 * HOUR, 27)
        await registers.commit()

    async def second(here, registers, _shelf, _thread):
        here.moves(MIDNIGHT, MIDNIGHT + DAY)
        assert await here.tend(registers, MIDNIGHT + DAY) == 1
        assert [row.value for row in here.rows] == [Decimal("26.50")]

    scenario(tmp_path, town, first)
    on_disk = (tmp_path / "registers.db").read_bytes()
    assert b"26.50" not in on_disk
    assert b"1001" not in on_disk
    scenario(tmp_path, town, second)


def test_people_may_see_what_is_kept_of_their_dwelling_and_it_stays(tmp_path, town):
    async def does(here, registers, _shelf, _thread):
        here.reads(registers, MIDNIGHT - 2 * HOUR, 60)
        home = here.town.registry.place("D1").id
        for _ in range(2):
            found = await registers.of(home, lambda _device, _name: METER)
            values = [(kept.slot, kept.value) for kept, _ in found]
            assert values == [
                (MIDNIGHT, "2.50"),
                (MIDNIGHT + DAY, "26.50"),
                (MIDNIGHT + 2 * DAY, "50.50"),
            ]
        assert await registers.of("DELSEWHERE", lambda _device, _name: METER) == []
        assert await registers.of(home, lambda _device, _name: None) == []

    scenario(tmp_path, town, does)

"""What a full spool gives up first, and that it says so of every slot (rule M11)."""

from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from agent.acquisition.timetable import running_slot
from agent.buffer.capacity import Tier, common, given_up, thinned, utc_midnight
from agent.core.model import Reading, Series
from tests.unit.buffer.rows import some_rows

PARIS = ZoneInfo("Europe/Paris")
MIDNIGHT = partial(running_slot, 86_400, zone=PARIS)
PLANT, HOME = "CZS2YFSTBQQ5WDC", "D84G7ZWYRD6Z1GQ"


def of(place, kind, step, basis="common"):
    return Series(place, "elec.imp", kind, "kWh", step, None, None, basis)


def day(series, first=datetime(2026, 10, 25, tzinfo=PARIS)):
    """Every slot of the day of 25 hours."""
    start = int(first.timestamp())
    return [Reading(series, t, Decimal(t), "V") for t in range(start, start + 90_000, series.step)]


def kept(rows, tier):
    return [
        datetime.fromtimestamp(row.t, UTC)
        for row in thinned(rows, tier, MIDNIGHT)
        if row.value is not None
    ]


def test_common_plant_keeps_a_value_an_hour_and_then_that_of_the_buildings_midnight():
    rows = day(of(PLANT, "INS", 60))
    assert [at.minute for at in kept(rows, Tier.HOURLY)] == [0] * 25
    assert kept(rows, Tier.DAILY) == [datetime(2026, 10, 24, 22, tzinfo=UTC)]
    assert kept(rows, Tier.INDEXES) == []


def test_a_change_of_a_state_is_never_given_up():
    rows = day(of(PLANT, "EVT", 2400))
    assert thinned(rows, Tier.INDEXES, MIDNIGHT) == rows


def test_an_index_at_an_exchange_is_never_given_up():
    """Rule R14: it has no step, and nobody can read it again."""
    rows = [Reading(of(place, "REG", 0), 1_792_900_123, Decimal(1), "R") for place in (PLANT, HOME)]
    for tier in (Tier.HOURLY, Tier.DAILY, Tier.INDEXES):
        assert thinned(rows, tier, MIDNIGHT) == rows


def test_a_step_that_meets_no_full_hour_keeps_the_first_slot_of_each():
    rows = day(of(PLANT, "INS", 2400))
    assert len(kept(rows, Tier.HOURLY)) == 25


def test_dwellings_and_sums_over_dwellings_are_not_thinned_before_they_are_dropped():
    for series in (of(HOME, "REG", 1800, "K1"), of("B6ASQZ1Y2KSAA3Y", "REG", 1800, "rest")):
        assert not common(series)
        assert len(kept(day(series), Tier.HOURLY)) == 50
        assert len(kept(day(series), Tier.DAILY)) == 50
        assert len(kept(day(series), Tier.INDEXES)) == 1


def test_the_index_of_a_midnight_is_never_given_up_whatever_its_step():
    for place in (PLANT, HOME):
        for step in (60, 900, 3600, 86_400):
            rows = day(of(place, "REG", step))[: 90_000 // step]
            assert kept(rows, Tier.INDEXES) == [datetime(2026, 10, 24, 22, tzinfo=UTC)]


def test_runs_of_what_was_given_up_are_one_row_each_and_other_reasons_stand():
    series = of(PLANT, "INS", 60)
    rows = day(series)[:10]
    rows[5] = Reading(series, rows[5].t, None, "M", why="silent")
    said = [(row.why, row.span) for row in thinned(rows, Tier.INDEXES, MIDNIGHT)]
    assert said == [("shed", 5), ("silent", 1), ("shed", 4)]


@given(some_rows, st.sampled_from(Tier))
def test_every_slot_is_stated_as_often_as_before_under_its_own_version(rows, tier):
    after = thinned(rows, tier, utc_midnight)
    assert slots(after) == slots(rows)
    lost = sum(given_up(row, tier, utc_midnight) for row in rows)
    assert values(after) == values(rows) - lost


@given(some_rows, st.sampled_from(Tier))
def test_thinning_what_is_thin_changes_no_value(rows, tier):
    once = thinned(rows, tier, utc_midnight)
    assert values(thinned(once, tier, utc_midnight)) == values(once)


def slots(rows):
    """Where what is stated of a series under a version begins and ends: spans are long here."""
    edges = Counter()
    for row in rows:
        edges[row.series, row.ver, row.again, row.t] += 1
        edges[row.series, row.ver, row.again, row.t + row.span * row.series.step] -= 1
    return {edge: number for edge, number in edges.items() if number}


def values(rows):
    return sum(row.value is not None for row in rows)

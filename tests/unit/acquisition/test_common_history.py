"""What waits for the small history: which values, of which points, and how much of them at most."""

import tracemalloc
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.acquisition.common_history import (
    MINUTES,
    MOST_MINUTE_POINTS,
    MOST_WAITING,
    OWN,
    CommonHistory,
    MinuteValues,
    quantities,
)
from agent.buffer.history_store import AMOUNT, QUARTER
from agent.core.model import Point, Quality, Sample, Why

T = 1_790_000_000 // QUARTER * QUARTER
SUPPLY = Point("boiler", "supply", "7", "holding/1", 60, "temp", "Cel", place="CZS2YFSTBQQ5WDC")
IMPORT = Point("meter", "imp", "8", "holding/1", 900, "elec.imp", "Wh", place="CZS2YFSTBQQ5WDC")
OFFSET = Point("boiler", "offset", "7", "holding/2", 60, None, "K", Decimal("0.1"))
HOME = Point("sdm-11", "power", "1", "input/12", 60, "elec.power", "W")
KEPT = frozenset({("boiler", "supply"), ("boiler", "offset"), ("meter", "imp")})


@pytest.fixture
def history():
    history = CommonHistory()
    history.keep(KEPT, [("boiler", "offset"), ("boiler", "supply")])
    return history


def good(point, value, **more):
    return Sample(point, T + 1.0, Decimal(value), **more)


def rows(history, until=2**40):
    return {(v.name.point, v.t): v.values for v in history.waiting(until)}


def test_a_quarter_has_the_lowest_the_mean_and_the_highest_value(history):
    for n, value in enumerate((20, 22, 18), 1):
        history.note(T + 60 * n, [good(SUPPLY, value)], None)
    history.note(T + QUARTER, [good(SUPPLY, 40)], None)
    history.note(T + QUARTER + 60, [good(SUPPLY, 7)], None)
    first = {("supply", T + QUARTER): (18.0, 25.0, 40.0)}
    assert rows(history) == first | {("supply", T + 2 * QUARTER): (7.0,)}
    assert rows(history, T + QUARTER) == first
    history.stored(history.waiting(T + QUARTER))
    assert rows(history) == {("supply", T + 2 * QUARTER): (7.0,)}


def test_an_index_is_the_last_one_in_its_own_unit_and_another_meter_is_another_series(history):
    history.note(T + QUARTER, [good(IMPORT, 1500)], "KAM-1")
    history.note(T + 2 * QUARTER, [good(IMPORT, 2000)], None)
    history.note(T + 2 * QUARTER + 60, [good(IMPORT, 30)], "KAM-2")
    found = [(v.name.serial, v.name.unit, v.values) for v in history.waiting(2**40)]
    assert found == [
        ("KAM-1", "kWh", (1.5,)), ("KAM-1", "kWh", (2.0,)), ("KAM-2", "kWh", (0.03,)),
    ]  # fmt: skip


def test_a_value_that_comes_twice_or_late_changes_nothing(history):
    """Rule L7."""
    for slot, value in ((T + 120, 20), (T + 120, 90), (T + 60, 95), (T + 180, 22)):
        history.note(slot, [good(SUPPLY, value)], None)
    assert rows(history) == {("supply", T + QUARTER): (20.0, 21.0, 22.0)}


BAD = {
    "of a dwelling": good(HOME, 300),
    "silent": Sample(SUPPLY, T, why=Why.SILENT),
    "a text": Sample(SUPPLY, T, "on"),
    "suspect": good(SUPPLY, 300, quality=Quality.SUSPECT),
    "no number": good(SUPPLY, "NaN"),
    "derived": good(replace(SUPPLY, derived=True), 20),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_good_value_of_a_kept_point_is_not_kept(history, name):
    """Rule L1."""
    history.note(T + 60, [BAD[name]], "KAM-1")
    assert history.waiting(2**40) == []


def test_what_may_no_longer_be_kept_is_dropped_before_it_is_written(history):
    """Rule L1."""
    history.note(T + 60, [good(SUPPLY, 20), good(OFFSET, 5)], None)
    history.note_own("disk/free", "B", T + 60, 7.0)
    history.note_own("sent/centre", "B", T + 60, 7.0, AMOUNT)
    history.keep(frozenset({("boiler", "offset")}), [("boiler", "supply"), ("boiler", "offset")])
    assert {(v.name.device, v.name.point) for v in history.waiting(2**40)} == {
        ("boiler", "offset"), (OWN, "disk/free"), (OWN, "sent/centre"),
    }  # fmt: skip
    assert list(history.minutes) == [("boiler", "offset")]


def test_what_waits_is_bounded_and_the_oldest_goes(history):
    """Rule L3."""
    for n in range(MOST_WAITING + 10):
        history.note(T + n * QUARTER + 60, [good(SUPPLY, 20)], None)
    assert len(history.waiting(2**50)) == MOST_WAITING
    assert history.dropped == 10
    assert min(v.t for v in history.waiting(2**50)) == T + 11 * QUARTER
    points = [("boiler", f"p{n}") for n in range(40)]
    history.keep(frozenset(points), points)
    assert len(history.minutes) == MOST_MINUTE_POINTS


def test_the_memory_of_forty_series_and_sixteen_points_by_minute_is_small():
    """Rule L3."""
    points = [("boiler", f"p{n}") for n in range(40)]
    of = {name: Point("boiler", name[1], "7", "h", 60, "temp", "Cel") for name in points}
    tracemalloc.start()
    history = CommonHistory()
    history.keep(frozenset(points), points)
    for n in range(140):  # as long as nothing is written
        history.note(T + n * 60, [good(of[name], n % 7) for name in points], None)
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(history.minutes) == MOST_MINUTE_POINTS
    assert taken < 500_000


def test_what_a_wrong_clock_has_dated_is_forgotten(history):
    """Rule L7."""
    history.note(T + 60, [good(OFFSET, 5)], None)
    history.note(T + 86_400, [good(OFFSET, 50)], None)
    history.forget_after(T + 120)
    assert rows(history) == {("offset", T + QUARTER): (0.5,)}
    minutes = history.minutes["boiler", "offset"]
    assert minutes.between(0, 2**40) == [(T + 60, 0.5)]
    history.note(T + 120, [good(OFFSET, 7)], None)
    assert minutes.between(0, 2**40) == [(T + 60, 0.5), (T + 120, 0.7)]


@given(st.lists(st.tuples(st.integers(0, 3 * MINUTES), st.integers(-999, 999)), max_size=60))
def test_minutes_are_those_of_a_table_of_the_last_48_hours(puts):
    minutes, model, last = MinuteValues(), {}, 0
    for minute, value in puts:
        at = T // 60 + minute
        minutes.put(at * 60 + 7, float(value))
        if at > last - MINUTES:
            model.setdefault(at, float(value))
            last = max(last, at)
    wanted = {at * 60: value for at, value in model.items() if at > last - MINUTES}
    assert dict(minutes.between(0, 2**40)) == wanted


def test_quantities_are_differences_of_one_meter_and_never_negative():
    old, new = {0: (100.0,), 900: (100.5,), 1800: (99.0,)}, {2700: (3.0,), 3600: (3.25,)}
    assert quantities([old, new]) == {
        0: (None, 100.0), 900: (0.5, 100.5), 1800: (None, 99.0), 2700: (None, 3.0),
        3600: (0.25, 3.25),
    }  # fmt: skip

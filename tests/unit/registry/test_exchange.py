"""What flowed is never lost or doubled by an exchange of meters (rule M7)."""

from dataclasses import replace
from decimal import Decimal

from agent.acquisition.row_assignment import Flow, Forgotten, ShownIndex, flow, succession
from tests.unit.registry.building import NOW, installed


def meter(since, until=None, opened=None, closed=None, times="1"):
    def indexes(value):
        return () if value is None else (("heat", Decimal(value)),)

    one = installed(serial=str(since), since=NOW + since, until=until and NOW + until)
    return replace(one, opened=indexes(opened), closed=indexes(closed), multiplier=Decimal(times))


def between(*meters, last=(0, "100"), now=(100, "130.5")):
    def shown(when, value):
        return ShownIndex(NOW + when, Decimal(value))

    return flow(meters, "heat", shown(*last), shown(*now))


def test_one_meter_is_its_own_difference():
    assert between(meter(-9)) == Flow(Decimal("30.5"), False, False)
    assert between(meter(-9, times="10")) == Flow(Decimal("305.0"), False, False)


def test_an_exchange_with_both_indexes_is_measured():
    old, new = meter(-9, 50, closed="120.25"), meter(50, opened="3", times="10")
    assert between(old, new, now=(100, "5")) == Flow(Decimal("40.25"), True, False)


def test_without_a_closing_index_the_last_reading_stands_for_it():
    old, new = meter(-9, 50), meter(50, opened="3")
    assert between(old, new, now=(100, "5")) == Flow(Decimal(2), True, True)


def test_without_an_opening_index_nothing_of_the_new_meter_is_made_up():
    old, new = meter(-9, 50, closed="120"), meter(50)
    assert between(old, new, now=(100, "5000")) == Flow(Decimal(20), True, True)


def test_a_forgotten_reading_is_missed_only_where_it_counts():
    new, now = meter(50, opened="3"), ShownIndex(NOW + 100, Decimal(5))
    assert flow([meter(-9, 50), new], "heat", Forgotten(NOW), now) == Flow(Decimal(2), True, True)
    assert flow([meter(-9, 50, closed="120"), new], "heat", Forgotten(NOW), now) is None
    assert flow([meter(-9)], "heat", Forgotten(NOW), now) is None


def test_two_exchanges_in_one_gap():
    chain = meter(-9, 50, closed="120"), meter(50, 60, "0", "7"), meter(60, opened="1")
    assert between(*chain, now=(100, "2")) == Flow(Decimal(28), True, False)


def test_where_nobody_measured_or_an_index_fell_nothing_is_said():
    assert between(meter(-9, 50, closed="120"), meter(60, opened="1")) is None
    assert between(meter(10)) is None
    assert between(meter(-9), now=(100, "99")) is None
    assert between(meter(-9, 50, closed="99"), meter(50, opened="0")) is None
    assert between() is None


def test_a_meter_that_never_measured_or_measures_something_else_does_not_count():
    other = replace(meter(20), channel="cw")
    assert between(meter(-9), meter(20, 20), other) == Flow(Decimal("30.5"), False, False)


def test_a_meter_that_measures_beside_another_takes_nobody_s_place():
    heat, electricity = meter(-9), meter(-20)
    assert succession(heat, [electricity, heat]) == [heat]


def test_of_two_that_ended_together_each_is_followed_by_the_one_of_its_device():
    old = [replace(meter(-20, 50), device=name) for name in ("heat", "power")]
    new = [replace(meter(50), device=name) for name in ("heat", "power")]
    before = replace(meter(-90, -20), device="heat")
    every = [before, *old, *new]
    assert succession(new[0], every) == [before, old[0], new[0]]
    assert succession(new[1], every)[1:] == [old[1], new[1]]

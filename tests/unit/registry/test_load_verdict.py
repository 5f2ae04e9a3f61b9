"""Which meter a load has moved."""

from decimal import Decimal

from agent.registry.matching import IndexReading, verdict


def seen(*values, every=60):
    return tuple(
        IndexReading(number * every, Decimal(value)) for number, value in enumerate(values)
    )


STILL, BUSY = seen("10.00", "10.00", "10.00"), seen("5.00", "5.01", "5.02")
KETTLE = seen("7.00", "7.01", "7.05")
FRIDGE = seen("7.00", "7.02", "7.05")


def test_the_meter_that_counts_more_with_the_load_on_is_the_one():
    found = verdict("a", {"a": KETTLE, "b": BUSY, "c": STILL})
    assert (found.agrees, found.moved, found.more["a"]) == (True, "a", Decimal("0.03"))


def test_another_one_that_moves_is_named():
    found = verdict("b", {"a": KETTLE, "b": BUSY})
    assert (found.agrees, found.moved) == (False, "a")


def test_a_neighbour_who_switches_something_on_too_makes_it_nobodys():
    found = verdict("a", {"a": KETTLE, "b": seen("7.00", "7.00", "7.02")})
    assert (found.agrees, found.moved) == (False, None)


def test_what_ran_all_the_time_and_what_stands_still_prove_nothing():
    assert verdict("b", {"b": BUSY, "c": STILL}).moved is None
    assert verdict("c", {"c": STILL}).moved is None
    assert verdict("d", {"d": FRIDGE, "c": STILL}).moved is None
    assert verdict("c", {}).moved is None


def test_spans_of_different_length_are_compared_by_the_second():
    uneven = (
        IndexReading(0, Decimal(0)),
        IndexReading(30, Decimal(1)),
        IndexReading(90, Decimal(3)),
    )
    assert verdict("a", {"a": uneven}).moved is None

"""How long the spool bears an outage is told beforehand, and what to write where it is short.
Rule M19.
"""

from __future__ import annotations

import pytest

from agent.buffer.capacity import DailyLoad, days, enough
from agent.config import parse
from agent.config.estimates import daily_load, left, outage
from tests.unit.config.samples import SMALL, changed

METERS = "".join(
    f"  m{n}: {{link: plant, address: {n}, profile: eastron-sdm120}}\n" for n in range(20, 220)
)
BIG = SMALL.replace("uplinks:", f"{METERS}uplinks:")


def test_a_small_building_is_told_that_it_bears_over_a_year():
    assert outage(parse(SMALL, "x")) == ["an outage of over a year loses no readings"]


def test_a_spool_that_is_too_small_is_told_with_the_size_that_is_not():
    config = parse(BIG + "spool: {max: 10MB}\n", "x")
    first, second = outage(config)
    lasts = left(config, 0)
    assert first == f"! an outage of more than about {lasts} days loses readings; recommended: 30"
    size = second.partition("`max: ")[2].partition("`")[0]
    (better,) = outage(parse(BIG + f"spool: {{max: {size}}}\n", "x"))
    assert int(better.split()[4]) >= 30 > lasts


def test_what_waits_already_shortens_it():
    config = parse(BIG, "x")
    assert left(config, 0) > left(config, 1_000_000) > left(config, 10**9) == 0


def test_values_of_dwellings_that_never_leave_need_no_room():
    often = changed("profile: eastron-sdm120}", "profile: eastron-sdm120, every: 1min}")
    assert daily_load(parse(often, "x")) == DailyLoad(0, 0)
    assert left(parse(often, "x"), 0) is None
    assert daily_load(parse(SMALL, "x")).owners == 1


def test_nothing_is_said_where_nothing_is_kept():
    assert outage(parse(SMALL.partition("uplinks:")[0], "x")) == []


@pytest.mark.parametrize("rows", [1, 100, 100_000, 5_000_000])
def test_enough_is_enough(rows):
    of = DailyLoad(rows, 50)
    assert days(enough(of), of) >= 30

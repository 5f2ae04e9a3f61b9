"""A mean speaks for its whole step, or says why it cannot. Rule M16."""

from dataclasses import replace
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from agent.acquisition.values import Means
from agent.config.config import mean
from agent.core.model import Sample, Why
from tests.unit.acquisition.house import NOW, point, sample

HOUR = NOW - NOW % 3600
SOURCE = point(name="supply", channel="temp.supply", unit="Cel", every=600)
MEAN = mean(SOURCE, 3600)


def told(values, zone=None, of=MEAN):
    """The mean of an hour in which these were read; None: nobody asked."""
    means = Means(zone)
    for n, value in enumerate(values):
        slot = HOUR + (n + 1) * 600
        if isinstance(value, Sample):
            means.note([of], slot, [value])
        elif value is not None:
            means.note([of], slot, [sample(SOURCE, value)])
    (said,) = means.derive([of], HOUR + 3600)
    return said


def test_a_mean_has_one_digit_more_than_what_was_read():
    said = told(["20.0", "20.0", "20.1", "20.0", "20.0", "20.0"])
    assert (str(said.value), said.quality, said.point.every) == ("20.02", "K", 3600)


def test_what_lies_before_the_step_and_after_it_does_not_count():
    """Rule R4."""
    means = Means(None)
    for slot, value in [(HOUR, "99"), *((HOUR + n * 600, "20") for n in range(1, 7))]:
        means.note([MEAN], slot, [sample(SOURCE, value)])
    means.note([MEAN], HOUR + 4200, [sample(SOURCE, "99")])
    assert [s.value for s in means.derive([MEAN], HOUR + 3600)] == [Decimal(20)]


def test_four_fifths_are_enough_and_less_is_missing_for_the_reason_of_most():
    silent = sample(SOURCE, None, why=Why.SILENT)
    assert told([*["20"] * 5, silent]).value == 20
    assert told([*["20"] * 4, silent, silent]).why is Why.SILENT
    assert told(["20"]).why is Why.AGENT
    assert told([]).why is Why.AGENT


def test_a_suspect_value_is_in_no_mean():
    """Rule M5."""
    odd = replace(sample(SOURCE, "68"), quality="S")
    assert told([*["20"] * 5, odd]).value == 20
    assert told([*["20"] * 4, odd, odd]).why is Why.BAD


def test_a_value_that_comes_late_takes_the_place_of_the_silence():
    means = Means(None)
    for n in range(1, 7):
        means.note([MEAN], HOUR + n * 600, [sample(SOURCE, None, why=Why.SILENT)])
        means.note([MEAN], HOUR + n * 600, [sample(SOURCE, "20")])
    assert means.derive([MEAN], HOUR + 3600)[0].value == 20


@pytest.mark.parametrize(("day", "reads"), [("2026-03-29", 23), ("2026-10-25", 25)])
def test_a_day_of_23_or_25_hours_is_whole_with_as_many_reads(day, reads):
    import datetime as dt

    zone = ZoneInfo("Europe/Paris")
    begin = int(dt.datetime.fromisoformat(day).replace(tzinfo=zone).timestamp())
    hourly = replace(SOURCE, every=3600)
    daily, means = mean(hourly, 86_400), Means(zone)
    for n in range(1, reads + 1):
        means.note([daily], begin + n * 3600, [sample(hourly, str(n))])
    (said,) = means.derive([daily], begin + reads * 3600)
    assert said.value == Decimal(reads + 1) / 2


def test_what_is_remembered_is_bounded():
    means = Means(None)
    for n in range(1000):
        means.note([MEAN], HOUR + n * 600, [sample(SOURCE, "20")])
    assert len(means._values_of["m1", "supply"]) <= 12

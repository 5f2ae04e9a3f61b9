"""Rule M9: a day begins at the building's midnight and has 23, 24 or 25 hours."""

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.acquisition.timetable import DAY, following, length, next_slot, running_slot, spans

PARIS = ZoneInfo("Europe/Paris")
ZONES = [PARIS, ZoneInfo("America/Sao_Paulo"), ZoneInfo("Pacific/Apia"), ZoneInfo("Asia/Kathmandu")]


def at(*words, zone=PARIS):
    return int(dt.datetime(*words, tzinfo=zone).timestamp())


def test_the_running_day_began_at_the_buildings_midnight():
    assert running_slot(DAY, at(2026, 7, 1, 13, 30), PARIS) == at(2026, 7, 1)
    assert running_slot(DAY, at(2026, 7, 1), PARIS) == at(2026, 7, 1)
    assert running_slot(DAY, at(2026, 7, 1) - 1, PARIS) == at(2026, 6, 30)


def test_the_days_of_a_change_of_the_clock_have_23_and_25_hours():
    assert length(at(2026, 3, 30), PARIS) == 23 * 3600
    assert length(at(2026, 10, 26), PARIS) == 25 * 3600
    assert length(at(2026, 7, 1), PARIS) == DAY


def test_shorter_steps_know_no_summer():
    assert following(at(2026, 3, 29, 1), 3600, PARIS) == at(2026, 3, 29, 1) + 3600


def test_a_run_of_days_is_cut_where_its_slots_are_not_a_day_apart():
    """Rule R8."""
    runs = list(spans(at(2026, 3, 28), at(2026, 4, 2), DAY, PARIS))
    assert runs == [(at(2026, 3, 28), 2), (at(2026, 3, 30), 3)]


@pytest.mark.parametrize("zone", ZONES, ids=str)
@given(st.integers(1_600_000_000, 2_000_000_000), st.integers(0, 60))
def test_runs_hold_every_midnight_once(zone, now, days):
    first = running_slot(DAY, now, zone)
    before = first + days * DAY
    slots = [
        start + n * DAY for start, count in spans(first, before, DAY, zone) for n in range(count)
    ]
    expected, slot = [], first
    while slot < before:
        expected.append(slot)
        slot = following(slot, DAY, zone)
    assert slots == expected


@pytest.mark.parametrize("zone", [PARIS, None], ids=str)
@given(st.sampled_from([60, 900, 3600, DAY]), st.integers(1_600_000_000, 2_000_000_000))
def test_the_next_slot_follows_the_closed_one(zone, step, now):
    closed = running_slot(step, now, zone)
    assert closed <= now < following(closed, step, zone)
    assert next_slot(closed, step, now, zone) == following(closed, step, zone)
    assert next_slot(None, step, now, zone) == closed

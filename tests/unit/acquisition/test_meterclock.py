"""A meter's clock is compared with the building's time, summer time or not. Rule M18."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest

from agent.acquisition.device import describe, drift

PARIS = ZoneInfo("Europe/Paris")
WINTER = dt.datetime(2026, 11, 24, 10, 12, tzinfo=PARIS).timestamp()
SUMMER = dt.datetime(2026, 7, 24, 10, 12, tzinfo=PARIS).timestamp()


@pytest.mark.parametrize(
    ("at", "said", "seconds"),
    [
        (WINTER, "2026-11-24T10:12", 0),
        (WINTER, "2026-11-24T10:02:30", -570),
        (WINTER, "2026-11-24T11:12", 3600),
        (SUMMER, "2026-07-24T10:12", 0),
        (SUMMER, "2026-07-24T09:12", 0),  # it knows no summer time
        (SUMMER, "2026-07-24T08:12", -3600),
        (SUMMER, "2000-01-01T00:00", -838_199_520),
    ],
)
def test_the_drift_is_against_civil_or_winter_time_whichever_is_nearer(
    at: float, said: str, seconds: int
) -> None:
    assert drift(said, at, PARIS) == seconds


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (299, ""),
        (-570, "its clock is 9 min behind"),
        (3660, "its clock is 1 h 1 min ahead"),
        (-90_000, "its clock is 1 d 1 h behind"),
    ],
)
def test_it_is_said_in_words_where_it_matters(seconds: int, said: str) -> None:
    assert describe(seconds) == said

"""A successor is proposed only where there is one silent meter and one new one of its kind.
Rule M21.
"""

from __future__ import annotations

from zoneinfo import ZoneInfo

from agent.gateway.replacement_scan import PATIENCE, New, Silent, proposals

ZONE = ZoneInfo("Europe/Paris")
NOW = 1_795_600_000.0  # Wed 25 November 2026, 10:46 in Paris
HEAT = "mbus-heat"
OLD = Silent("45123456", "A-3-12", HEAT, NOW - PATIENCE)
NEW = New(HEAT, "45999001, heat, 0.012 MWh")


def said(silent: list[Silent], new: list[New]) -> list[str]:
    return proposals(silent, new, NOW, ZONE)


def test_one_silent_and_one_new_is_asked_in_words() -> None:
    assert said([OLD], [NEW]) == [
        (
            "45123456 (A-3-12) silent since 2026-11-24 10:46; new on the line: 45999001, heat,"
            " 0.012 MWh. Exchange?"
        )
    ]


def test_nothing_is_asked_before_a_day_or_where_nobody_is_new() -> None:
    assert said([OLD._replace(since=NOW - PATIENCE + 1)], [NEW]) == []
    assert said([OLD], []) == []


def test_two_and_two_are_not_guessed() -> None:
    both = said([OLD, OLD._replace(number="45123457", label=None)], [NEW, NEW])
    assert both == [
        (
            "45123456 (A-3-12) and 45123457 silent; new on the line: 45999001, heat, 0.012 MWh and"
            " 45999001, heat, 0.012 MWh. Read their type plates to see which meter replaced which"
        )
    ]


def test_one_that_is_silent_since_an_hour_may_be_the_one_too() -> None:
    (one,) = said([OLD, OLD._replace(number="45123457", since=NOW - 3600)], [NEW])
    assert "Exchange?" not in one


def test_a_water_meter_takes_no_heat_meters_place() -> None:
    water = New("mbus-cold-water", "45999002, water, 1 m3")
    assert said([OLD], [water]) == []
    (one,) = said([OLD], [water, NEW])
    assert one.endswith("45999001, heat, 0.012 MWh. Exchange?")

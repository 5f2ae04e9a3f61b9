"""Plots: ticks of the building's days, gaps, round values, and what people who do not see get."""

import re
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.web.drawing import WITHIN_A_DAY, round_range, times_of
from agent.web.plot import Curve, CurveKind, LimitLine, Mark, csv_answer, csv_of, figure
from agent.web.words import LocalTime

PARIS = ZoneInfo("Europe/Paris")
CLOCK = LocalTime("Europe/Paris", "fr")


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=PARIS).timestamp()


def drawn(*curves: Curve, since: str, until: str, language: str = "en", **more) -> str:
    clock = LocalTime("Europe/Paris", language)
    return str(
        figure("Boiler", curves, "W", at(since), at(until), clock, language, **more)
    )  # fmt: skip


def paths(text: str, kind: str) -> list[str]:
    """Return the paths of a class in the form for phones."""
    narrow = text.partition('class="narrow"')[2].partition("</svg>")[0]
    return re.findall(rf'class="{kind}" d="([^"]*)"', narrow)


def day(value: float | None = 5.0, hours: int = 24) -> list[tuple[float, float | None]]:
    return [(at("2026-05-12") + 3600 * n, value) for n in range(hours)]


def test_no_line_crosses_a_time_without_values():
    points = [*day(1.0, 3), (at("2026-05-12T03:00"), None), (at("2026-05-12T04:00"), 2.0)]
    (path,) = paths(drawn(Curve("x", points), since="2026-05-12", until="2026-05-13"), "series s1")
    assert path.count("M") == 2
    far = [(at("2026-05-12T00:00"), 1.0), (at("2026-05-12T09:00"), 2.0)]
    curve = Curve("x", far, gap=3600)
    (path,) = paths(drawn(curve, since="2026-05-12", until="2026-05-13"), "series s1")
    assert path.count("M") == 2
    assert path.count("h1.5") == 2  # each is a dot that can be seen


def test_a_band_has_the_gaps_of_its_curve():
    rows = [[at("2026-05-12") + 900 * n, 1, 2, 3] for n in range(8) if n != 4]
    text = drawn(Curve.of_history("x", rows, 1000), since="2026-05-12", until="2026-05-13")
    assert paths(text, "band s1")[0].count("Z") == 2
    assert paths(text, "series s1")[0].count("M") == 2


def test_a_request_is_in_force_until_the_next_one_and_from_before_the_plot():
    points = [(at("2026-05-11T20:00"), 3.0), (at("2026-05-12T10:00"), 1.0)]
    curve = Curve("asked", points, CurveKind.STEPS)
    (path,) = paths(drawn(curve, since="2026-05-12", until="2026-05-13"), "series s1")
    assert re.fullmatch(r"M[\d.]+ [\d.]+H[\d.]+V[\d.]+H326\.0", path)
    table = csv_of([curve, Curve("done", day(2.0, 12))], "W", CLOCK, "fr")
    assert "2026-05-12 09:00:00;2026-05-12T07:00:00Z;3;2" in table
    assert "2026-05-12 11:00:00;2026-05-12T09:00:00Z;1;2" in table


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        ("2026-05-12", "2026-05-13", ["05-12", "06:00", "12:00", "18:00", "05-13"]),
        ("2026-05-04", "2026-06-04", ["05-04", "05-11", "05-18", "05-25", "06-01"]),
        ("2025-11-20", "2026-11-20", ["2026-01", "2026-04", "2026-07", "2026-10"]),
        ("2026-05-12T10:00", "2026-05-12T11:00", ["10:00", "10:15", "10:30", "10:45", "11:00"]),
    ],
)
def test_the_ticks_of_time_are_round(since, until, expected):
    clock = LocalTime("Europe/Paris", "en")
    assert [text for _at, text in times_of(at(since), at(until), 5, clock, "en")] == expected


def test_ticks_keep_to_local_hours_when_clocks_change():
    for change in ("2026-03-29", "2026-10-25"):
        clock = LocalTime("Europe/Paris", "fr")
        begin = at(change)
        ticks = times_of(begin, begin + 86_400, 9, clock, "fr")
        assert [f"{clock.local(t):%H:%M}" for t, _ in ticks][1:3] == ["03:00", "06:00"]
    missing = times_of(at("2026-03-29"), at("2026-03-29T05:00"), 6, clock, "fr")
    assert [text for _at, text in missing] == ["29/03", "01:00", "03:00", "04:00", "05:00"]


@given(st.floats(60, 5 * 366 * 86_400), st.integers(1_500_000_000, 2_000_000_000))
def test_there_are_some_ticks_and_never_too_many(lasts, since):
    ticks = times_of(since, since + lasts, 9, CLOCK, "fr")
    # two of a calendar's months are shorter than two times thirty days
    assert (1 if lasts > 10 * WITHIN_A_DAY[0] else 0) <= len(ticks) <= 11
    assert ticks == sorted(ticks)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=5))
def test_the_axis_of_values_holds_all_of_them_in_few_round_steps(values):
    low, high, step = round_range(values)
    slack = 1e-6 * max(abs(low), abs(high))
    assert low - slack <= min(values)
    assert max(values) <= high + slack
    assert 1 <= round((high - low) / step) <= 8
    assert f"{step:e}"[0] in "125"


def test_small_values_begin_at_zero_and_far_ones_do_not():
    assert round_range([3, 9]) == (0, 10, 2)
    assert round_range([0, 0])[:2] == (0, 1)
    assert round_range([228.0, 233.0])[0] > 200


def test_who_does_not_see_gets_lowest_highest_and_last_and_the_table():
    text = drawn(
        Curve("flow", [*day(1234.5, 3), (at("2026-05-12T03:00"), 900.0)]),
        since="2026-05-12", until="2026-05-13", language="fr", csv="/lines/a.csv",
    )  # fmt: skip
    assert 'role="img" aria-labelledby=' in text
    described = (
        re.search(r"<desc[^>]*>([^<]*)", text)[1].replace("\u202f", " ").replace("\xa0", " ")
    )
    assert "flow" in described
    assert "900 W" in described
    assert "1 234,5 W" in described
    assert text.count('<th scope="row">') == 4
    assert 'href="/lines/a.csv"' in text
    ids = re.findall(r' id="([^"]*)"', text)
    assert len(ids) == len(set(ids)) == 4


def test_a_long_table_is_thinned_and_says_so():
    text = drawn(Curve("x", [(at("2026-05-12") + n, n) for n in range(1000)]),
                 since="2026-05-12", until="2026-05-13")  # fmt: skip
    assert text.count('<th scope="row">') == 100
    assert "One of 10 values is shown." in text


def test_many_values_keep_their_lowest_and_highest_in_few_letters():
    points = [(at("2026-05-12") + 30 * n, 1.0) for n in range(2880)]
    points[1000] = (points[1000][0], 99.0)
    text = drawn(Curve("x", points), since="2026-05-12", until="2026-05-13")
    (path,) = paths(text, "series s1")
    assert len(path) < 16_000
    heights = [float(place.split()[1]) for place in path[1:].split("L")]
    assert min(heights) < 30 < max(heights)


def test_a_hostile_name_is_text():
    name = '"><script>alert(1)</script>\u202e'
    text = drawn(Curve(name, day()), Curve("y", day()), since="2026-05-12", until="2026-05-13",
                 csv='/x"onload="y', mark=Mark(name, at("2026-05-12"), at("2026-05-13")),
                 limit=LimitLine(name, 4.0))  # fmt: skip
    assert "<script" not in text
    assert 'onload="y' not in text
    assert " style=" not in text
    table = csv_of([Curve('=cmd|"/c calc"', day(-1.5, 1))], "W", CLOCK, "fr")
    assert table.splitlines()[0].endswith('"\'=cmd|""/c calc"" (W)"')
    assert table.splitlines()[1].endswith(";-1,5")
    kept = csv_answer(table, 'a"\r\nx: é.csv').headers["Content-Disposition"]
    assert kept == 'attachment; filename="a---x---.csv"'


def test_a_limit_and_a_time_are_marked_within_the_axes():
    text = drawn(Curve("x", day(3.0)), since="2026-05-12", until="2026-05-13",
                 mark=Mark("in force", at("2026-05-11"), at("2026-05-12T12:00")),
                 limit=LimitLine("guard", 40.0))  # fmt: skip
    (limit,) = paths(text, "limit")
    assert 22 <= float(limit.split()[1].partition("H")[0]) < 40
    left, width = map(
        float, re.search(r'class="marked" x="([^"]*)" y="22" width="([^"]*)"', text).groups()
    )
    assert width == pytest.approx((326 - left) / 2, abs=1)


def test_without_values_it_says_so():
    text = drawn(Curve("x", [(at("2026-05-12"), None)]), since="2026-05-12", until="2026-05-13")
    assert "<svg" not in text
    assert "There are no values" in text

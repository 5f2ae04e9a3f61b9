"""Rows of the small history as curves."""

import pytest

from agent.web.history import SPANS, curve_of, of_each_step, title_of
from agent.web.plot import CurveKind

GAUGE = {"columns": ["at", "min", "mean", "max"]}
REGISTER = {"columns": ["at", "quantity", "index"]}
POWER = {"device": "boiler", "point": "p1", "channel": "elec.power", "unit": "W"}
DAY = 86_400


def curve(answer, rows, span="day", factor=1.0, series=POWER):
    return curve_of(series, {**answer, "rows": rows}, SPANS[span], factor, "fr")


def test_a_gauge_has_its_means_and_a_band_of_its_extremes():
    made = curve(GAUGE, [[900, 1, 2, 3], [1800, None, None, None], [2700, 4, 5, 6]], factor=10)
    assert made.points == [(900, 20), (1800, None), (2700, 50)]
    assert made.band == [(900, 10, 30), (2700, 40, 60)]
    assert made.gap < 2 * 900
    assert made.name == "puissance électrique (p1)"


def test_a_number_that_is_noted_once_in_a_quarter_has_no_band():
    assert curve(GAUGE, [[900, 7, 7, 7], [1800, 8, 8, 8]]).band == ()


def test_a_quantity_is_of_the_quarter_that_ends_and_of_the_day_that_begins():
    quarters = curve(REGISTER, [[900, 2.5, 100], [1800, 3, 103]])
    assert quarters.kind is CurveKind.STEPS
    assert quarters.points == [(0, 2.5), (900, 3)]
    assert curve(REGISTER, [[DAY, 2.5, 100]], "year").points == [(DAY, 2.5)]


def test_the_quantity_of_a_gap_is_not_shown_as_that_of_one_quarter():
    rows = [[900, 1, 100], [9000, 50, 150], [9900, 1, 151]]
    assert curve(REGISTER, rows).points == [(0, 1), (8100, None), (9000, 1)]
    amounts = {"columns": ["at", "quantity"]}  # these are of their slot whatever was before
    assert curve(amounts, [row[:2] for row in rows]).points[1] == (8100, 50)


@pytest.mark.parametrize("channel", [None, "nix"])
def test_what_is_no_known_quantity_has_the_name_of_its_point(channel):
    series = {"device": "@gateway", "point": "disk/free", "channel": channel, "unit": "B"}
    assert title_of(series, "fr") == "disk/free"


def test_a_title_tells_of_which_step_its_quantities_are():
    assert of_each_step("Données", SPANS["day"]).in_language("fr") == "Données, par quart d'heure"
    assert of_each_step("Données", SPANS["year"]).in_language("fr") == "Données, par jour"

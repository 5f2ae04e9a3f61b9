"""No upgrade near a command, none outside of its window, none before its ring. Rule U15."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest

from agent.config import parse
from agent.config.config import early, held
from agent.config.models import Updates
from agent.core.errors import ConfigError
from tests.command import gardien
from tests.unit.config.samples import SMALL

PARIS = ZoneInfo("Europe/Paris")
NIGHT = dt.datetime(2026, 11, 25, 1, 30, tzinfo=dt.UTC)  # 02:30 in Paris
FREE = {"state": "free", "until": None, "next": []}


def begins(**later):
    begin = NIGHT + dt.timedelta(**later)
    return {**FREE, "next": [{"jti": "x", "begin": begin.isoformat(), "end": begin.isoformat()}]}


@pytest.mark.parametrize(
    ("control", "why"),
    [
        (FREE, ""),
        ({**FREE, "state": "held", "until": "19:31"}, "boiler is held until 19:31"),
        ({**FREE, "state": "being given back"}, "boiler is being given back"),
        ({**FREE, "state": "failsafe"}, "boiler is failsafe"),
        (begins(minutes=119), "boiler is commanded from 2026-11-25T03:29"),
        (begins(minutes=120), ""),
        (begins(minutes=-1), "boiler is commanded from"),
    ],
)
def test_two_hours_before_a_command_and_during_it_nothing_is_upgraded(control, why):
    said = held({"other": FREE, "boiler": control}, NIGHT)
    assert said.startswith(why) if why else said == ""


@pytest.mark.parametrize(
    ("updates", "published", "why"),
    [
        ({}, 4, ""),
        ({}, 3, "ring 2 takes this version from 2026-11-26 02:30 on"),
        ({"ring": 0}, None, ""),
        ({"ring": 0}, 0, ""),
        ({"ring": 1}, 0, "ring 1 takes this version from 2026-11-26 02:30 on"),
        ({"ring": 1}, 1 - 1 / 1440, "ring 1 takes this version from 2026-11-25 02:31 on"),
        ({"ring": 3}, 14, ""),
        ({"ring": 3}, 13, "ring 3 takes"),
        ({"ring": 1}, None, "the archive does not say when this version appeared"),
        ({"window": "02:31-05:00"}, 9, "outside of 02:31-05:00"),
        ({"window": "22:00-02:45"}, 9, ""),
        ({"window": "Sat-Sun 01:00-05:00"}, 9, "outside of Sat-Sun 01:00-05:00"),
    ],
)
def test_a_version_is_taken_in_its_window_and_after_the_days_of_its_ring(updates, published, why):
    moment = None if published is None else NIGHT - dt.timedelta(days=published)
    said = early(Updates(**updates), moment, NIGHT, PARIS)
    assert said.startswith(why) if why else said == ""


def test_without_the_word_only_people_upgrade():
    assert "only upgraded by hand" in early(
        None, dt.datetime(2020, 1, 1, tzinfo=dt.UTC), NIGHT, PARIS
    )
    assert parse(SMALL, "x").updates is None


@pytest.mark.parametrize(
    ("written", "what"),
    [
        ("{ring: 4}", "config.yaml:8:17: updates.ring: expected at most 3, found 4"),
        ("{window: night}", 'updates.window: "night" is no window such as'),
        ("{windw: 01:00-05:00}", 'updates.windw: no such option; did you mean "window"?'),
    ],
)
def test_a_mistake_in_it_is_told(written, what):
    with pytest.raises(ConfigError) as caught:
        parse(f"{SMALL}updates: {written}\n", "config.yaml")
    assert what in str(caught.value)


def test_the_command_answers_gardien_upgrade(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(f"{SMALL}state: {tmp_path / 'state'}\n")

    def said(*words):
        done = gardien("updates", "-c", str(path), *words)
        return done.exit_code, done.output or str(done.exception)

    assert said("--by-hand") == (0, "gardien may be upgraded now\n")
    assert said()[0] == 1
    assert "only upgraded by hand" in said()[1]
    path.write_text(f"{SMALL}state: {tmp_path / 'state'}\nupdates: {{window: 00:00-24:00}}\n")
    assert said("--published", "2026-01-01") == (0, "gardien may be upgraded now\n")
    assert said("--published", "today")[0] == 1
    now = dt.datetime.now(dt.UTC)
    status, words = said("--published", f"{now - dt.timedelta(days=4, hours=1):%Y-%m-%dT%H:%MZ}")
    assert (status, words) == (0, "gardien may be upgraded now\n")
    # of a day alone nobody knows the hour: it counts from its end
    assert said("--published", f"{now - dt.timedelta(days=4):%Y-%m-%d}")[0] == 1
    assert said("--published", f"{now - dt.timedelta(days=5):%Y-%m-%d}")[0] == 0
    path.write_text("broken: [")
    assert said("--by-hand")[0] == 0
    status, words = said("--published", "2026-01-01")
    assert (status, "it is unknown which orders are in force" in words) == (1, True)

"""What the pages make of answers."""

import datetime as dt

import pytest

from agent.api import overview
from agent.core.finding import Actor, Finding, Severity
from agent.core.i18n import Text
from agent.web.audit_text import SENTENCES, sentence
from agent.web.pages.course import plots
from agent.web.pages.now import state_of
from agent.web.pages.orders import _left, span_text
from agent.web.words import LocalTime, environment, set_in, with_code


def finding(severity, actor=Actor.INSTALLER):
    return Finding(code="x", subject=Text("line hall"), what=Text("it is"), severity=severity,
                   actor=actor)  # fmt: skip


@pytest.mark.parametrize(
    ("severities", "english", "french"),
    [
        ([], "Everything works", "Tout fonctionne"),
        (["note"], "Everything works", "Tout fonctionne"),
        (["later"], "It works; 1 thing needs attention", "Tout fonctionne ; 1 point à traiter"),
        (["later"] * 2, "It works; 2 things need attention",
         "Tout fonctionne ; 2 points à traiter"),
        (["waiting", "later"], "Readings wait; nothing is lost",
         "Des relevés attendent ; rien n'est perdu"),
        (["lost", "waiting"], "Readings are being lost", "Des relevés sont en train d'être perdus"),
    ],
)  # fmt: skip
def test_the_worst_finding_decides_the_one_state(severities, english, french):
    text = state_of([finding(Severity(one)) for one in severities])
    assert (str(text), text.in_language("fr")) == (english, french)


def test_the_four_questions_say_whether_somebody_must_worry():
    control = {"value": "-1.5", "unit": "K", "until": "2026-11-28T17:00:00Z"}
    status = {"uplinks": {}, "controls": {"boiler": control}}
    made = overview.questions(status, [finding(Severity.LATER)], lambda _: "18:00")
    assert [(str(one.answer), one.good) for one in made] == [
        ("no", True), ("no", True), ("yes: boiler −1.5 K until 18:00", True),
        ("installer (1)", False),
    ]  # fmt: skip
    wrong = overview.questions(status, [finding(Severity.EQUIPMENT)], lambda _: "18:00")[2]
    assert str(wrong.answer) == "yes: boiler −1.5 K until 18:00; LOOK AT line hall"
    assert not wrong.good


def test_each_record_of_the_audit_chain_has_a_sentence_in_both_languages():
    for kind in SENTENCES:
        english = sentence(kind, {"control": "boiler", "recipient": "métropole"})
        assert "{" not in english
        assert english.in_language("fr") != str(english), kind
    assert str(sentence("new.kind", {"by": "x"})) == "new.kind"
    assert str(sentence("control.refused", {"controls": ["a", "b"]})).startswith("a, b: ")


def test_a_course_has_a_plot_of_the_device_and_one_of_each_guard_with_its_limit():
    course = {
        "unit": "K",
        "requested": [(100, -1.5), (400, None)],
        "points": [
            {"role": "point", "name": "boiler/offset", "unit": "K", "step": "1m",
             "columns": ["at", "value"], "rows": [[60, 0.0], [120, -1.5]]},
            {"role": "guard", "name": "stairwell", "unit": "Cel", "step": "15m", "min": 17.0,
             "max": None, "columns": ["at", "min", "mean", "max"], "rows": [[900, 19, 20, 21]]},
            {"role": "power", "name": "meter", "unit": "W", "step": "15m",
             "columns": ["at", "quantity"], "rows": [[900, 5.0]]},
        ],
    }  # fmt: skip
    device, guard, power = plots(course)
    assert [str(curve.name) for curve in device.curves] == ["requested", "device"]
    assert device.curves[0].points == [(100, -1.5), (400, None)]
    assert (guard.limit.value, str(guard.title)) == (17.0, "Guard stairwell")
    assert guard.curves[0].band == [(900, 19, 21)]
    assert power.curves[0].points == [(900, 5.0)]
    assert power.limit is None


def test_the_time_left_is_in_minutes_and_then_in_hours():
    def left(**span):
        end = dt.datetime.now(dt.UTC) + dt.timedelta(**span)
        return str(_left(end.isoformat()))

    assert left(seconds=30) == "1 minute left"
    assert left(minutes=29, seconds=30) == "30 minutes left"
    assert left(hours=3) == "3 h left"
    assert left(minutes=-5) == "0 minutes left"
    assert _left(None) == "until further notice"


def test_the_day_of_a_coming_order_is_said_once():
    clock = LocalTime("Europe/Paris", "fr")
    span = span_text("2026-01-12T17:00:00Z", "2026-01-12T18:30:00Z", clock)
    assert span == "12 janvier 2026 à 18:00 – 19:30"
    over_midnight = span_text("2026-01-12T22:00:00Z", "2026-01-12T23:30:00Z", clock)
    assert over_midnight == "12 janvier 2026 à 23:00 – 13 janvier 2026 à 00:30"


def test_french_punctuation_stays_with_what_it_follows():
    assert set_in("fr", "arrêté : non ?") == "arrêté\xa0: non\xa0?"
    assert set_in("en", "stopped : no") == "stopped : no"


def test_backticks_become_code_and_nothing_else_becomes_html():
    assert with_code("write `web: <x>` & go") == "write <code>web: &lt;x&gt;</code> &amp; go"
    shown = environment("en").from_string("{{ text|with_code }}").render(text="<b>`")
    assert shown == "&lt;b&gt;`"

"""`gardien status` fits on one screen of 80 x 24, whatever is wrong, and answers four questions."""

import pytest

from agent.api.diagnosis import running
from agent.cli import doctor, status
from agent.cli.terminal import broken
from agent.core.clock import NO_TIME_SERVICE
from agent.core.finding import Actor, Finding, Severity, worst_first
from agent.core.i18n import Text
from agent.enrolment.tls import UNKNOWN_ISSUER
from agent.uplink.base import WRONG_LOGIN
from tests.unit.test_document import answer as document_answer

LINES, METERS = 3, 46
QUESTIONS = ("Data lost now?", "Data waiting?", "Equipment held?", "Who must act?")


def building(*, down=(), silent=0, uplinks=1, faults=0, connected=True):
    """The answer of a gateway with 46 meters on 3 lines."""
    made = document_answer()
    del made["events"]
    mine, line = made["uplinks"]["mine"], made["links"]["riser"]
    mine |= {
        "receipt": "platform", "bears_days": 40, "held_devices": 0,
        "delivery": {
            "connected_since": "2026-11-24T10:00:00Z" if connected else None, "alarm": "",
            "lost": "" if connected else "no route to host", "last_receipt": None,
            "lost_since": None if connected else "2026-11-24T10:00:00Z",
        },
    }  # fmt: skip
    mine["backlog"] |= {"slots": 1240, "batch_rows": 0, "oldest": 1_795_600_000}
    each = METERS // LINES
    made["links"] = {
        f"hall-{n}": line
        | {
            "open": n not in down, "error": "the adapter does not answer" if n in down else "",
            "devices": each, "silent": silent if n not in down else 0,
        }
        for n in range(LINES)
    }  # fmt: skip
    made["devices"] = {
        f"meter-{n}-{m}": {
            "link": f"hall-{n}", "failures": m < silent, "answered": "2026-11-24T10:00:00Z",
        }
        for n in range(LINES)
        for m in range(each)
    }  # fmt: skip
    made["uplinks"] = {f"recipient-{n}": mine for n in range(uplinks)}
    fault = made["faults"][2]
    made["faults"] = [fault | {"component": f"poll hall-{n}"} for n in range(faults)]
    return made | {
        "building": "Résidence Les Alpins", "gateway": "G4QX7A9Z1Y2KSAA", "controls": {},
        "dwellings": {"occupied": 40, "vacant": 3, "unknown": 3},
        "certificate": None, "consents": {"unanswered": 2, "ending": 0},
    }  # fmt: skip


def screen(monkeypatch, capsys, made, *, every=False):
    """What a terminal of 80 columns shows."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("os.isatty", lambda _: True)
    findings = worst_first(Finding.of(one.wire()) for one in running.findings(made))
    if every:
        for listed in status._listed(findings, None):
            print(status.wrapped(listed))
    else:
        status.show(made, findings, every=False)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize(
    "trouble",
    [
        {},
        {"down": (1,)},
        {"down": (0, 1, 2), "silent": 9, "uplinks": 9, "faults": 9},
        {"silent": 1, "uplinks": 3, "faults": 2, "connected": False},
        {"uplinks": 20, "faults": 40, "connected": False},
    ],
)
def test_a_status_of_46_meters_fits_on_one_screen(monkeypatch, capsys, language, trouble):
    monkeypatch.setenv("LANGUAGE", language)
    made = building(**trouble)
    shown = screen(monkeypatch, capsys, made)
    assert len(shown) < 24
    assert max(map(len, shown)) <= 80
    if language == "en":
        assert all(any(line.startswith(one) for line in shown) for one in QUESTIONS)
    everything = screen(monkeypatch, capsys, made, every=True)
    assert len([line for line in everything if line.startswith("!")]) == len(
        worst_first(running.findings(made))
    ), "--all shows every finding"


def test_the_first_lines_say_what_is_lost_what_waits_and_who_must_act(monkeypatch, capsys):
    shown = "\n".join(screen(monkeypatch, capsys, building(down=(1,))))
    assert "Data lost now?   YES: line hall-1" in shown
    assert "Data waiting?    yes: recipient-0 1,240 values since" in shown
    assert "Equipment held?  no" in shown
    assert "Who must act?    installer (1)" in shown
    assert "! line hall-1 is down: the adapter does not answer" in shown
    assert "15 devices are not read" in shown
    assert "> sudo gardien doctor" in shown
    quiet = "\n".join(screen(monkeypatch, capsys, building()))
    assert "Data lost now?   no" in quiet
    assert "Who must act?    nobody" in quiet
    assert "nothing to report" in quiet


def test_equipment_that_is_held_is_named_with_its_value_and_end(monkeypatch, capsys):
    made = building()
    control = {"value": "-1.5", "unit": "K", "until": "2026-11-24T12:00:00Z", "alarm": ""}
    made["controls"] = {"boiler-offset": control}
    shown = "\n".join(screen(monkeypatch, capsys, made))
    assert "Equipment held?  yes: boiler-offset −1.5 K until 2026-11-24" in shown
    made["controls"] = {"boiler-offset": control | {"alarm": "not released yet: no answer"}}
    shown = " ".join(" ".join(screen(monkeypatch, capsys, made)).split())
    assert "LOOK AT control boiler-offset" in shown
    assert "! control boiler-offset: not released yet: no answer" in shown


def test_a_line_on_which_nothing_answers_is_one_finding():
    made = [one for one in running.findings(building(silent=15)) if one.code == "device-silent"]
    assert [one.what for one in made] == [
        f"line hall-{n} does not answer: 15 devices wait" for n in range(LINES)
    ]
    assert {one.since for one in made} == {"2026-11-24T10:00:00Z"}


@pytest.mark.parametrize(
    ("why", "actor", "command"),
    [
        (
            Text("{host} could not be authenticated: {why}", host="h", why=Text(UNKNOWN_ISSUER)),
            Actor.INSTALLER,
            "sudo install -m 644 NEW-CA.pem /etc/ca.pem",
        ),
        (Text("refused{hint}", hint=Text(WRONG_LOGIN)), Actor.INSTALLER, "sudoedit /etc/word"),
        (Text("{error}", error=ConnectionRefusedError(111, "Connection refused")),
         Actor.PLATFORM, ""),
        ("no route to host", Actor.INSTALLER, "sudo gardien doctor"),
    ],
)  # fmt: skip
def test_an_uplink_that_is_down_has_the_next_step_for_its_cause(why, actor, command):
    made = building(connected=False)
    (uplink,) = made["uplinks"].values()
    uplink["delivery"]["lost"] = why
    uplink["files"] = {"ca": "/etc/ca.pem", "password": "file:/etc/word"}
    (down,) = [one for one in running.findings(made) if one.code == "uplink-down"]
    assert (down.actor, down.command) == (actor, command)
    assert (". " in str(down.cost)) is (down.command != "sudo gardien doctor")


def test_if_all_uplinks_are_cut_off_the_network_is_the_one_cause():
    made = worst_first(running.findings(building(uplinks=3, connected=False)))
    (cut,) = [one for one in made if one.code == "uplink-down"]
    assert len(cut.also) == 2
    (one,) = worst_first(running.findings(building(uplinks=1, connected=False)))
    assert one.cause == "uplink recipient-0"


def test_french_punctuation_stays_with_its_word():
    question = "Est-ce bien « A-O-1 », ou plutôt « A-0-1 » ?"
    for width in range(18, 40):
        lines = [line.strip() for line in broken(question, width).splitlines()]
        assert " ".join(lines) == question
        assert not [line for line in lines if line[0] in "»?-" or line[-1] in "«-"]


def test_a_component_that_failed_is_named_in_the_language_of_the_reader(monkeypatch, capsys):
    made = building(faults=1)
    made["faults"] = [made["faults"][0] | {"component": "uplink centre"}]
    monkeypatch.setenv("LANGUAGE", "fr")
    shown = "\n".join(screen(monkeypatch, capsys, made))
    assert "! liaison centre : arrêt après une erreur imprévue" in shown


@pytest.mark.parametrize(
    ("problems", "unknown", "last"),
    [
        (0, 0, "all fine"),
        (0, 2, "no problem found, 2 checks have no result (?)"),
        (1, 0, "1 problem"),
        (3, 1, "3 problems, 1 check has no result (?)"),
    ],
)
def test_the_last_line_of_the_doctor_says_what_was_not_found_out(problems, unknown, last):
    assert doctor._outcome(problems, unknown) == last


def test_values_wait_only_if_they_wait_longer_than_the_interval_of_sending(monkeypatch, capsys):
    made = building()
    made["uplinks"]["recipient-0"]["late"] = False
    assert "Data waiting?    no" in screen(monkeypatch, capsys, made)
    made["uplinks"]["recipient-0"]["late"] = True
    assert "Data waiting?    yes: recipient-0 1,240 values" in "\n".join(
        screen(monkeypatch, capsys, made)
    )


def test_without_keys_the_spools_are_no_unexpected_error():
    made = building(faults=1)
    made["faults"] = [made["faults"][0] | {"component": "spool mine", "error": "Refused"}]
    assert "fault" in {one.code for one in running.findings(made)}
    assert "fault" not in {one.code for one in running.findings(made | {"gateway": None})}


def test_a_clock_that_no_service_sets_is_one_finding_with_the_command_that_sets_it():
    undated = running.findings(building() | {"clock_said": NO_TIME_SERVICE})
    other = Finding(
        code="clock", subject=Text("clock"), what=Text("no time service sets it"),
        severity=Severity.LATER, cause="clock",
    )  # fmt: skip
    (one,) = worst_first([*undated, other])
    assert (one.what, one.command) == ("readings are kept undated", running.SET_CLOCK)
    assert one.also == ("no time service sets it",)

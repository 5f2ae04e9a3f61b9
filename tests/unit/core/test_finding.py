"""Findings: one for each cause, the worst first, the same in every language and process."""

import json
import re
from pathlib import Path

import pytest

from agent.core.finding import (
    COMPONENTS,
    DOCTOR,
    Actor,
    Finding,
    Severity,
    component_text,
    exit_status,
    worst_first,
)
from agent.core.i18n import Plural, Text
from agent.gateway import key_rotation
from agent.gateway.recipient import jobs_of
from agent.gateway.supervisor import BESIDE_CONTROLS
from agent.registry import syndic_export

TOP = Path(__file__).resolve().parents[3]

NAMES = Text("line {line}: 1 of {all} devices is silent", line="riser", all=3)


def finding(code="line-down", severity=Severity.LOST, **more):
    what = more.pop("what", Text("line {line} is down: {why}", line="riser", why="gone"))
    return Finding(
        code=code, subject=Text("line {bus}", bus="riser"), what=what, severity=severity, **more
    )


def test_what_has_one_cause_is_one_finding_and_the_worst_comes_first():
    note = finding("note", Severity.NOTE)
    late = finding("late", Severity.LATER, cause="line riser", since="2026-11-24T09:00:00Z")
    lost = finding("lost", cause="line riser", since="2026-11-24T10:00:00Z", what=NAMES)
    other = finding("other", Severity.WAITING)
    made = worst_first([note, late, other, lost])
    assert [one.code for one in made] == ["lost", "other", "note"]
    assert made[0].also == (late.what,)
    assert made[0].since == "2026-11-24T09:00:00Z", "the cause is as old as its oldest effect"


def test_of_equal_findings_the_one_that_knows_the_cause_is_shown():
    down = finding("down", cause="line riser", command=DOCTOR)
    port = finding("port", cause="line riser", command="ls /dev", what=NAMES)
    (shown,) = worst_first([down, port])
    assert (shown.code, shown.command) == ("port", "ls /dev")


def test_what_is_fine_is_never_merged_into_a_problem():
    fine, unknown = finding(severity=Severity.FINE), finding(severity=Severity.UNKNOWN)
    assert len(worst_first([fine, fine, unknown, finding(cause="")])) == 4


@pytest.mark.parametrize("severity", Severity)
def test_the_exit_status_follows_from_the_findings(severity):
    costs = severity in {
        Severity.LOST, Severity.EQUIPMENT, Severity.WAITING, Severity.LATER,
    }  # fmt: skip
    assert exit_status([finding(severity=Severity.FINE), finding(severity=severity)]) == costs
    assert finding(severity=severity).fine is (None if severity == "unknown" else not costs)


def test_a_finding_crosses_a_process_and_is_read_in_another_language(monkeypatch):
    made = finding(
        cost=Plural("1 device is not read", "{number} devices are not read; their meters keep"
                    " counting, but the values between are missing", 2),
        since="2026-11-24T10:00:00Z", until="2026-11-25T10:00:00Z", cause="line riser",
        actor=Actor.INSTALLER, command="gardien scan riser", count=2, uplink="centre",
        also=(NAMES,),
    )  # fmt: skip
    there = Finding.of(json.loads(json.dumps(made.wire())))
    assert there == made
    monkeypatch.setenv("LANGUAGE", "fr")
    text = there.sentence(lambda time: time[:10]).in_language()
    assert text.startswith("le bus riser est coupé : gone, depuis 2026-11-24, jusqu'à 2026-11-25.")
    assert text.endswith("Tapez : gardien scan riser")
    assert str(made.text).startswith("line riser is down"), "recipients read English"


def test_those_who_may_not_see_names_of_devices_see_none():
    """Rule P24."""
    secret = Text("{what}: {names}", what=NAMES, names="flat-A-3")
    made = finding(what=secret, outside=NAMES, command="gardien read flat-A-3", cause="flat-A-3")
    assert "flat" not in json.dumps(made.without_names().wire())
    assert "flat" not in made.wire()["text"]
    assert "flat-A-3" in made.wire()["here"]


def test_an_event_of_an_earlier_version_is_still_shown():
    old = {"code": "clock", "text": "readings are kept undated", "uplink": None, "here": "here"}
    made = Finding.of(old)
    assert (made.what, exit_status([made])) == ("here", 1)


def test_every_component_has_a_name_in_plain_words():
    source = "\n".join(
        path.read_text(encoding="utf-8")
        for folder in ("gateway", "control", "acquisition")
        for path in (TOP / "agent" / folder).rglob("*.py")
    ) + (TOP / "agent/app.py").read_text(encoding="utf-8")
    started = set(
        re.findall(r'(?:jobs\.(?:start|open)|\.alone)\(\s*f?"([a-z ]+?)(?: \{|")', source)
    )
    assert started > {"poll", "clock periods", "local socket", "shelf"}
    beside = {*BESIDE_CONTROLS, *jobs_of(None, None), key_rotation.COMPONENT, syndic_export.AUTHOR}
    assert started | beside <= COMPONENTS.keys()
    assert component_text("poll hall-b") == "reading of the line hall-b"
    assert component_text("another") == "another"

"""Shrinking leaves what the fault needs, and nothing else."""

import json
from collections import Counter

import pytest

from tests.sim import plan as plans
from tests.sim.command import Unreadable, planned
from tests.sim.facts import Record
from tests.sim.run import journal_text
from tests.sim.shrink import Shrinking, save, sort_of

FAULT = ("SENT", "P13")


def needs(plan):
    """The fault of a pretended agent: it shows after a withdrawal, with a kill within the hour."""
    withdrawals = [event["at"] for event in plan["events"] if event["do"] == "withdraw"]
    kills = [event["at"] for event in plan["events"] if event["do"] in ("kill", "power")]
    near = any(0 <= kill - at < 3600 for at in withdrawals for kill in kills)
    return {FAULT, ("TRUTH", "P28")} if near else {("CONSERVATION", "G2")}


def with_fault():
    return next(plan for seed in range(500) if FAULT in needs(plan := plans.plan(seed)))


def test_two_events_are_left_and_all_is_simpler():
    plan = with_fault()
    small = Shrinking(plan, FAULT, needs).smallest()
    assert FAULT in needs(small)
    assert plans.check(small) == []
    assert sorted(event["do"] in ("kill", "power") for event in small["events"]) == [False, True]
    assert small["building"]["dwellings"] == small["building"]["recipients"] == 1
    assert small["building"]["controls"] == 0
    assert small["days"] <= plan["days"]
    assert all(event["at"] < 7200 for event in small["events"])


def test_no_plan_is_run_twice_and_not_more_than_allowed():
    runs = Counter()

    def counted(plan):
        runs[plans.dump(plan)] += 1
        return needs(plan)

    shrinking = Shrinking(with_fault(), FAULT, counted, most=20)
    shrinking.smallest()
    assert set(runs.values()) == {1}
    assert shrinking.made == sum(runs.values()) <= 20


def test_another_finding_is_not_taken_for_the_same():
    plan = with_fault()
    assert Shrinking(plan, ("SENT", "P14"), needs).smallest() == plan


def test_the_sort_of_a_printed_finding():
    assert sort_of("SENT: P13 at 2027-01-01 00:00:00.000+00:00: text: more") == FAULT
    assert sort_of("WORLD: something else") == ("WORLD", "")


def test_a_case_is_a_plan_that_can_be_loaded(tmp_path):
    path = save(with_fault(), tmp_path, "withdrawn", FAULT)
    assert json.loads(path.read_text())["shows"] == list(FAULT)
    assert plans.load(path)["events"] == with_fault()["events"]


@pytest.mark.parametrize("text", [None, "{", "[]", '{"schema": 1}'])
def test_a_file_that_is_no_plan_is_refused_with_its_name(tmp_path, text):
    file = tmp_path / "case.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(Unreadable, match=r"case\.json"):
        planned(file)


def test_a_line_of_the_journal_begins_with_the_index_that_a_complaint_names():
    records = [Record(1_798_758_000.5, "life.ready", {"life": 1}), Record(0.0, "end", {})]
    first, second = journal_text(records).splitlines()
    assert first == "0 2026-12-31 23:00:00.500+00:00 life.ready {'life': 1}"
    assert second.startswith("1 1970-01-01 ")

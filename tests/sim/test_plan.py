"""Every seed gives a plan that the world can carry out, and each kind of event is drawn."""

import copy
import datetime as dt
import json
from collections import Counter
from itertools import pairwise

import pytest

from tests.sim import plan as plans

SEEDS = range(300)


@pytest.fixture(scope="module")
def drawn():
    return [plans.plan(seed) for seed in SEEDS]


def test_the_same_seed_gives_the_same_plan(drawn):
    assert [plans.dump(plans.plan(seed)) for seed in SEEDS[:20]] == list(
        map(plans.dump, drawn[:20])
    )


def test_every_plan_can_be_carried_out(drawn):
    assert [plans.check(plan) for plan in drawn] == [[]] * len(drawn)


def test_every_kind_and_every_event_and_every_choice_is_drawn(drawn):
    events = [event for plan in drawn for event in plan["events"]]
    assert {plan["kind"] for plan in drawn} == {*plans.KINDS} - {"year"}
    assert {event["do"] for event in events} == set(plans.EVENTS)
    for do, known in plans.EVENTS.items():
        for name, kind in known.items():
            if isinstance(kind, plans.Choice) and len(kind.of) > 2:
                values = {event[name] for event in events if event["do"] == do}
                assert values == set(kind.of), (do, name)


def test_a_plan_is_as_long_as_its_kind_needs_or_as_asked_for(drawn):
    for plan in drawn:
        shortest, longest = plans.KINDS[plan["kind"]].hours
        assert shortest - 0.2 <= 24 * plan["days"] <= longest + 0.2
        assert max(event["at"] for event in plan["events"]) <= plan["days"] * plans.DAY
    hours = sorted(24 * plan["days"] + plan["quiet"] / 3600 for plan in drawn)
    assert hours[len(hours) // 2] < 15, "else thousands of seeds take days"
    long = [plans.plan(seed, 90) for seed in SEEDS]
    assert [plans.check(plan) for plan in long] == [[]] * len(long)
    assert {plan["days"] for plan in long} == {90}
    assert {plan["kind"] for plan in long} == set(plans.KINDS)


def test_a_midnight_lies_inside_of_most_plans_and_after_some_refused_rows_a_day_is_quiet(drawn):
    inside = [_midnights(plan) for plan in drawn]
    assert sum(map(bool, inside)) > len(drawn) / 2
    hows = [{event.get("how") for event in plan["events"]} for plan in drawn]
    refused = sum(bool(how & {*plans.REFUSING}) for how in hows)
    quiet = Counter(plan["quiet"] for plan in drawn)
    assert set(quiet) == {plans.QUIET, plans.QUARANTINED}
    assert 0 < quiet[plans.QUARANTINED] < refused / 2


def test_in_few_plans_the_agent_looks_at_its_own_state_each_minute(drawn):
    often = sum("status" not in plan for plan in drawn)
    assert 0 < often < len(drawn) / 5
    assert {plan["status"] for plan in drawn if "status" in plan} == {plans.STATUS}
    assert plans.check(drawn[0] | {"status": 0}) == ["status is 0"]


def _midnights(plan):
    begin = dt.datetime.fromtimestamp(plan["begin"], plans.PARIS)
    end = dt.datetime.fromtimestamp(plan["begin"] + plan["days"] * plans.DAY, plans.PARIS)
    return (end.date() - begin.date()).days


def test_events_cluster(drawn):
    """At least every third fault lies within ten minutes of another one."""
    near = Counter()
    for plan in drawn:
        faults = [
            event["at"]
            for event in plan["events"]
            if event["do"] not in ("consent", "look", "order", "duty")
        ]
        pairs = [after - before for before, after in pairwise(faults)]
        near.update(apart < 600 for apart in pairs)
    assert near[True] > near[False] / 3


def test_some_plans_have_a_switch_of_the_clocks_or_the_first_of_a_month_inside(drawn):
    def has(plan, day):
        begin = plan["begin"]
        ordinal = day.toordinal() - 719_163
        return begin // plans.DAY <= ordinal <= begin // plans.DAY + plan["days"]

    assert sum(has(plan, day) for plan in drawn for day in plans.SWITCHES) > len(drawn) / 10


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda plan: plan.pop("building"), "no building"),
        (lambda plan: plan.update(schema=2), "schema is 2"),
        (lambda plan: plan.update(days=-1), "days is -1"),
        (lambda plan: plan.update(quiet="short"), "quiet is 'short'"),
        (lambda plan: plan.update(begin=5), "begin is 5"),
        (lambda plan: plan["building"].update(dwellings=0), "dwellings is 0"),
        (lambda plan: plan["building"].update(lines=[]), "lines are []"),
        (lambda plan: plan["building"].update(rooms=3), "unknown rooms"),
        (lambda plan: plan["events"][0].update(do="dance"), "do is 'dance'"),
        (lambda plan: plan["events"][0].update(at=-1), "at is -1"),
        (lambda plan: plan["events"][0].update(seed=None), "seed is None"),
        (lambda plan: plan["events"][0].update(colour=1), "unknown colour"),
        (lambda plan: plan["events"][0].pop("dwelling"), "dwelling is None"),
        (lambda plan: plan["events"][0].update(flaw="odd"), "flaw is 'odd'"),
        (
            lambda plan: (
                plan["building"].update(controls=0),
                plan["events"].append({"at": 1, "do": "cancel", "seed": 1, "control": 0}),
            ),
            "no control",
        ),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused_with_the_reason(drawn, change, reason):
    plan = copy.deepcopy(next(plan for plan in drawn if plan["events"][0]["do"] == "consent"))
    change(plan)
    assert reason in "; ".join(plans.check(plan))


def test_a_dumped_plan_is_loaded_as_it_was_and_a_wrong_one_is_not(drawn, tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(plans.dump(drawn[0]))
    assert plans.load(path) == drawn[0]
    path.write_text(json.dumps(drawn[0] | {"days": "many"}))
    with pytest.raises(ValueError, match="days is 'many'"):
        plans.load(path)

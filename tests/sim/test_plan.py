"""Every seed gives a plan that the world can carry out, and each kind of event is drawn."""

import copy
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
    assert {plan["kind"] for plan in drawn} == set(plans.KINDS)
    assert {event["do"] for event in events} == set(plans.EVENTS)
    for do, known in plans.EVENTS.items():
        for name, kind in known.items():
            if isinstance(kind, plans.Choice) and len(kind.of) > 2:
                values = {event[name] for event in events if event["do"] == do}
                assert values == set(kind.of), (do, name)


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

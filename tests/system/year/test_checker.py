"""The checker of the year's end counts only if it notices faults in the gate: here they are."""

import asyncio

import pytest

from agent.registry.registry import Registry
from tests.system.year import faulty
from tests.system.year.checker import judged
from tests.system.year.script import (
    ELEC,
    FLEX,
    HEAT,
    METRO,
    PLANT,
    SYNDIC,
    Script,
    midnight,
)
from tests.system.year.truth import DAY, Step

LONG = 11


def runs_out(s, n, _):
    s.gives(n, METRO, Step.DAILY, 1, until=midnight(6))


def narrows(s, n, _):
    first = s.gives(n, METRO, Step.LOADCURVE, 1, channels=(ELEC,))
    s.gives(n, METRO, Step.DAILY, 5, channels=(ELEC,), replaces=first)


def agrees_to_days(s, n, _):
    s.gives(n, METRO, Step.DAILY, 1)


def moves(s, n, _):
    s.gives(n, METRO, Step.DAILY, 1)
    s.moves(n, 6, told=6)


def moves_late(s, n, _):
    s.gives(n, METRO, Step.DAILY, 1)
    s.moves(n, 4, told=8)


def withdraws(s, n, _):
    s.withdraws(s.gives(n, METRO, Step.DAILY, 1), 7)


def gets_a_meter(s, n, _):
    s.gives(n, METRO, Step.DAILY, 1)
    s.exchanges(n, HEAT, 5, told=7, closing=True)
    s.exchanges(n, ELEC, 5, told=5, closing=True)


def has_crossed_lines(s, n, _):
    s.gives(n, METRO, Step.DAILY, 1)
    s.crosses(n, n - 1, HEAT, 4, 9)


STORIES = (
    runs_out, narrows, agrees_to_days, has_crossed_lines, moves, moves_late, withdraws, gets_a_meter
)  # fmt: skip


def found(folder, registry):
    """What is wrong, and in which story, after some days with such a registry."""
    script = Script(folder, STORIES, registry, fine={narrows, agrees_to_days})
    asyncio.run(script.run(LONG))
    truth, end = script.truth(), midnight(LONG)
    name = {PLANT: "stairs"} | {
        place: story.__name__ for place, story in zip(script.places, STORIES, strict=True)
    }
    return {
        (one.what, name[one.place])
        for recipient in (METRO, FLEX, SYNDIC)
        for one in judged(truth, recipient, script.house.held(recipient), end)
    }


def test_the_checker_finds_nothing_where_nothing_is_wrong(tmp_path):
    assert found(tmp_path, Registry) == set()


PLANTED = [
    (faulty.ForgetsTheEnd, {("too many", "runs_out"), ("too many", "narrows")}),
    (faulty.ForgetsTheStep, {("too many", "agrees_to_days"), ("missing", "agrees_to_days")}),
    (faulty.ForgetsWhoMovedOut, {("too many", "moves"), ("too many", "moves_late")}),
    (faulty.KeepsWhatWasTheirs, {("too many", "moves_late")}),
    (faulty.KeepsWhatIsWithdrawn, {("too many", "withdraws")}),
    (faulty.BelievesTheDevice, {("wrong", "gets_a_meter"), ("wrong", "has_crossed_lines")}),
    (faulty.ForgetsTheConsent, {("missing", "agrees_to_days"), ("missing", "gets_a_meter")}),
    (faulty.ForgetsTheClosing, {("wrong", "gets_a_meter")}),
]


@pytest.mark.parametrize(
    ("registry", "expected"), PLANTED, ids=lambda it: getattr(it, "__name__", "")
)
def test_the_checker_notices_a_fault_planted_in_the_gate(tmp_path, registry, expected):
    assert expected <= found(tmp_path, registry)


def agrees_to_flexibility(s, n, _):
    s.gives(n, FLEX, Step.DAILY, 1)


def wrong_after_an_outage(folder, unsent):
    script = Script(folder, [agrees_to_flexibility])
    script.unreachable(FLEX, 3, 73)
    script.house.unsent = unsent
    asyncio.run(script.run(76))
    return {one.what for one in judged(script.truth(), FLEX, script.house.held(FLEX), midnight(76))}


def test_the_checker_notices_what_was_kept_beyond_60_days(tmp_path):
    (tmp_path / "right").mkdir()
    (tmp_path / "wrong").mkdir()
    assert wrong_after_an_outage(tmp_path / "right", 60 * DAY) == set()
    assert wrong_after_an_outage(tmp_path / "wrong", 365 * DAY) == {"too many", "too late"}

"""Sums over dwellings and withheld rows: a recipient holds what it may hold, all of it and nothing
else, as the rules alone say; and the checker counts only if it notices faults: here they are.

What else leaves a building is judged over the whole agent (tests/sim).
"""

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest

from agent.registry.registry import Registry
from tests.system.year import faulty
from tests.system.year.checker import judged
from tests.system.year.script import ELEC, FLEX, HEAT, METRO, STAIRS, Script, midnight
from tests.system.year.truth import Step

LONG = 10
SUMS = {FLEX: (ELEC, HEAT)}


def agrees(s, n):
    s.gives(n, METRO, Step.LOADCURVE, 1, channels=(ELEC,))


def agrees_to_flexibility(s, n):
    s.gives(n, FLEX, Step.DAILY, 4)


def withdraws(s, n):
    s.withdraws(s.gives(n, METRO, Step.DAILY, 1), 4)


def falls_silent(s, n):
    s.silent(n, HEAT, 6, 8)


def leaves_it_empty(s, n):
    s.gives(n, METRO, Step.DAILY, 1)
    s.moves(n, 3, told=3, back=5)


def stays_out(s, n):
    """Says nothing to anybody."""


STORIES = (
    agrees, agrees_to_flexibility, withdraws, falls_silent, leaves_it_empty, *[stays_out] * 8
)  # fmt: skip


def found(folder, registry=Registry, spoilt=lambda _: None, stories=STORIES, **more):
    """What is wrong, with which kind of place, after some days in a dozen dwellings; the sums."""
    script = Script(
        folder, stories, registry, fine={agrees}, sums=SUMS, withheld=(METRO,), **more
    )  # fmt: skip
    spoilt(script.house)
    asyncio.run(script.run(LONG))
    truth, end = script.truth(), midnight(LONG)
    return {
        (one.what, one.place[0])
        for recipient in (METRO, FLEX)
        for one in judged(truth, recipient, script.house.held(recipient), end)
    }, [row for row in script.house.held(FLEX) if row.basis == "rest"]


def test_it_finds_nothing_where_nothing_is_wrong(tmp_path):
    rules, rows = found(tmp_path)
    assert rules == set()
    assert {row.n for row in rows if row.v is not None} == {13, 12}


def says_nothing(house):
    house.withheld = ()


def leaves_too_early(house):
    house.policy = replace(house.policy, common=replace(house.policy.common, since=midnight(1)))


def reckons_no_flow(house):
    house.by_device = {name: points[:1] for name, points in house.by_device.items()}


def reckons_in_other_units(house):
    index, flow = house.by_device[STAIRS]
    house.by_device[STAIRS] = [index, replace(flow, scale=Decimal(1000))]


two_agree = (agrees_to_flexibility, agrees_to_flexibility, *STORIES[:1], *[stays_out] * 9)
PLANTED = [
    ({"adder": faulty.ChangesItsGroup}, ("wrong", "B")),
    ({"adder": faulty.ScalesUp}, ("wrong", "B")),
    ({"adder": faulty.CountsItsGroup}, ("wrong", "B")),
    ({"adder": faulty.TellsOfFew, "stories": two_agree}, ("too many", "B")),
    ({"registry": faulty.ForgetsWhoIsSentAlone, "stories": two_agree}, ("too many", "B")),
    ({"registry": faulty.ForgetsToWhomTheyAgreed}, ("too many", "D")),
    ({"registry": faulty.ForgetsWhoLivedThere}, ("wrong", "D")),
    ({"spoilt": says_nothing}, ("missing", "D")),
    ({"spoilt": leaves_too_early}, ("too many", "C")),
    ({"spoilt": reckons_no_flow}, ("missing", "D")),
    ({"spoilt": reckons_in_other_units}, ("wrong", "C")),
]


@pytest.mark.parametrize(("fault", "expected"), PLANTED, ids=[f"{n}" for n in range(len(PLANTED))])
def test_it_notices_a_fault_that_was_planted(tmp_path, fault, expected):
    assert expected in found(tmp_path, **fault)[0]

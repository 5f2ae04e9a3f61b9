"""Ten minutes of chaos on 60 dwellings in `make torture`; here, that a plan kills everything.

Guards rules G1, G2, M22, R14, T16, T20 over agent, receiver, database and four transports.
"""

import random

import pytest

from hil import chaos
from tests.depth import LONG, depth


@pytest.mark.parametrize("transport", chaos.TRANSPORTS)
def test_a_plan_is_the_same_for_a_seed_and_has_each_kind_of_kill(transport):
    kinds = chaos.KINDS[transport]
    drawn = list(chaos.plan(random.Random(7), kinds, 150.0))
    assert drawn == list(chaos.plan(random.Random(7), kinds, 150.0))
    assert drawn != list(chaos.plan(random.Random(8), kinds, 150.0))
    assert {kill.kind for kill in drawn} == set(kinds)
    assert 30 <= len(drawn) <= 80


@pytest.mark.alone
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("transport", depth([], chaos.TRANSPORTS))
def test_nothing_is_lost_or_stored_twice_whatever_is_killed(tmp_path, capsys, transport):
    seed = random.randrange(10_000) if LONG else 0
    with capsys.disabled():
        seconds = chaos.SECONDS / len(chaos.TRANSPORTS)
        result = chaos.run(tmp_path, transport, seconds, seed)
        print("\n".join(result.lines()), f"  seed {seed}", sep="\n")
    assert result.proved

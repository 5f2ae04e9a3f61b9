"""A short run of the simulation: the corpus in turn, one drawn plan, and the smallest world twice.

Together at most 60 s of CPU.

New seeds are for `make night`: until thousands of them find nothing, a finding of a new seed says
nothing of the change that is tested.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CORPUS = 25.0
"""seconds of CPU after which no further plan is begun"""
SEED = 1


def simulation(*arguments):
    """Run a command of the simulation; its exit status and output."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.sim", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=1_500,
    )
    print(done.stdout)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.timeout(1_600)
def test_no_plan_of_the_corpus_breaks_a_rule():
    status, text = simulation("corpus", "--in-turn", "--jobs", 1, "--within", CORPUS)
    assert status == 0, text


@pytest.mark.timeout(1_600)
def test_a_drawn_plan_breaks_no_rule():
    seed = int(os.environ.get("GARDIEN_SIM_SEED") or SEED)
    status, text = simulation("seeds", seed, seed, "--jobs", 1)
    assert status == 0, text


def test_the_smallest_world_lives_the_same_life_twice():
    first, second = (simulation("first") for _ in range(2))
    assert first[0] == second[0] == 0, first[1] + second[1]
    assert trace_of(first[1]) == trace_of(second[1])


def trace_of(text):
    return text.rpartition("trace ")[2].split()[0]

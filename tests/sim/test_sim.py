"""A short run of the simulation: the corpus, two new seeds, and one plan twice."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

CORPUS, SEEDS = 25.0, 10.0
"""seconds of CPU after which no further plan is begun"""
DAYS = 1


def simulation(*arguments):
    """Run a command of the simulation; its seconds of CPU with its exit status and output."""
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-m", "tests.sim", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=1_500,
    )
    print(done.stdout)
    after = os.times()
    used = after.children_user + after.children_system
    used -= before.children_user + before.children_system
    return used, done.returncode, done.stdout + done.stderr


@pytest.mark.timeout(1_600)
def test_no_plan_of_the_corpus_breaks_a_rule():
    _, status, text = simulation("corpus", "--jobs", 1, "--within", CORPUS)
    assert status == 0, text


@pytest.mark.timeout(1_600)
def test_a_day_of_new_seeds_breaks_no_rule():
    seed = int(os.environ.get("GARDIEN_SIM_SEED") or time.time() // 86_400)
    end = ("--days", DAYS, "--jobs", 1, "--within", SEEDS)
    _, status, text = simulation("seeds", seed, seed + 9, *end)
    assert status == 0, text


def test_the_smallest_world_lives_the_same_life_twice():
    first, second = (simulation("first") for _ in range(2))
    assert first[1] == second[1] == 0, first[2] + second[2]
    assert trace_of(first[2]) == trace_of(second[2])


def trace_of(text):
    return text.rpartition("trace ")[2].split()[0]

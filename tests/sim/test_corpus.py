"""A short run of the corpus is the same for the same code, and leaves no plan out for ever."""

from __future__ import annotations

from tests.sim import corpus

NAMES = ["slow-and-good", "quick-and-good", "quick", "new", "newer"]
MUTANTS = {
    "a": {"plan": "cases/slow-and-good.json", "cpu": 12.0},
    "b": {"plan": "cases/slow-and-good.json", "cpu": 11.0},
    "c": {"plan": "cases/quick-and-good.json", "cpu": 5.0},
    "d": {"plan": "cases/quick-and-good.json", "cpu": 5.5},
    "e": {"plan": "cases/quick.json", "cpu": 3.0},
}
BEST = ["quick-and-good", "quick", "slow-and-good"]


def test_every_plan_is_there_once_and_the_same_code_has_the_same_order():
    order = corpus.in_turn(NAMES, MUTANTS, "a commit")
    assert sorted(order) == sorted(NAMES)
    assert order == corpus.in_turn(NAMES[::-1], MUTANTS, "a commit")


def test_what_notices_most_mutants_in_a_second_comes_first_whatever_the_code():
    for number in range(20):
        order = corpus.in_turn(NAMES, MUTANTS, f"commit {number}")
        assert order[0] == BEST[0]
        assert set(BEST[:2]) <= set(order[:4])


def test_every_plan_soon_comes_early():
    early = {corpus.in_turn(NAMES, MUTANTS, f"commit {number}")[1] for number in range(40)}
    assert early >= set(NAMES) - {BEST[0]}


def test_a_short_run_has_all_plans_in_that_order():
    assert list(corpus.short()) == list(corpus.short())
    assert corpus.short().keys() == corpus.whole().keys()

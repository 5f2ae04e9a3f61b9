"""The mutants fit the agent as it is, and no clause of docs/rules is left out."""

from __future__ import annotations

import json

import pytest

from tests.sim import mutants
from tests.sim.mutants import CASES, FOUND, HERE, MUTANTS, WITHOUT, patched
from tests.sim.plan import KINDS, load
from tests.unit.test_rules import KNOWN


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_applies_once_and_leaves_valid_python(mutant):
    assert patched(mutant)
    assert mutant.patches
    assert set(mutant.kinds) <= KINDS.keys()


def test_every_clause_has_a_mutant_or_the_reason_why_it_has_none():
    clauses = {clause.id for clause in KNOWN}
    with_mutant = {rule for mutant in MUTANTS for rule in mutant.rules}
    assert with_mutant | WITHOUT.keys() == clauses
    assert with_mutant & WITHOUT.keys() == set()


@pytest.mark.parametrize(("name", "why"), [
    ("nosuch", "no mutant and no clause"), ("G7", WITHOUT["G7"]),
])  # fmt: skip
def test_a_name_without_a_mutant_is_refused(capsys, name, why):
    with pytest.raises(SystemExit) as ended:
        mutants.main([name])
    assert ended.value.code == 2
    assert f"{name}: {why}" in capsys.readouterr().err


def test_no_two_mutants_have_one_name():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_the_plans_that_find_mutants_are_kept_and_valid():
    entries = json.loads(FOUND.read_text(encoding="utf-8"))
    assert entries.keys() <= {mutant.name for mutant in MUTANTS}
    plans = {HERE / entry["plan"] for entry in entries.values()}
    assert all(plan.parent == CASES for plan in plans)
    for plan in plans:
        load(plan)


@pytest.mark.parametrize(("plan", "problem", "status"), [
    ("cases/a.json", "", 0), ("cases/a.json", "not noticed", 1), ("", "", 1),
])  # fmt: skip
def test_a_mutant_that_is_not_noticed_or_has_no_plan_is_a_failure(
    monkeypatch, plan, problem, status
):
    monkeypatch.setattr(mutants, "check", lambda one: mutants.Row(one, plan, "", 0.0, problem))
    assert mutants.check_all(MUTANTS[:1], 1, write=False) == status

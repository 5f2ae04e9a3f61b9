"""The list of mistakes is complete; some recipes are carried out, those that need no agent."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections import Counter

import pytest

from tests.mistakes import HERE, KINDS, WHO, WORLDS, mistakes
from tests.mistakes.provoke import STEPS

MADE = {
    mistake.id: mistake
    for mistake in mistakes()
    if mistake.shows and (os.geteuid() == 0 or mistake.id != "root-without-a-name")
}
POINTS = ("happened", "costs", "next")


def test_the_messages_were_scored_before_they_were_changed():
    assert (HERE / "scores-before.csv").exists()


def test_there_are_a_hundred_mistakes_and_most_are_made_at_run_time():
    assert len({mistake.id for mistake in mistakes()}) == len(mistakes()) >= 100
    kinds = Counter(mistake.kind for mistake in mistakes())
    assert kinds["run time"] >= 60
    assert kinds["file"] <= 40


@pytest.mark.parametrize("mistake", mistakes(), ids=lambda mistake: mistake.id)
def test_a_recipe_is_well_formed(mistake):
    assert mistake.who in WHO
    assert mistake.kind in KINDS
    assert mistake.world in WORLDS
    assert mistake.kind == "run time" or mistake.world == "bare"
    assert all((mistake.does, mistake.happened, mistake.costs, mistake.next))
    assert mistake.types.startswith("gardien ")
    steps = (mistake.setup + mistake.after).splitlines()
    assert {line.split()[0] for line in steps if line.startswith("@")} <= STEPS.keys()


@pytest.mark.parametrize("scored", sorted(HERE.glob("scores-*.csv")), ids=lambda path: path.stem)
def test_each_message_has_its_score_in_both_languages(scored):
    with scored.open(encoding="utf-8") as file:
        scores = {row["id"]: row for row in csv.DictReader(file, delimiter=";")}
    assert list(scores) == [mistake.id for mistake in mistakes()]
    for row in scores.values():
        for code in ("en", "fr"):
            assert int(row[code]) == sum(code in row[point].split() for point in POINTS)
        assert row["reason"] or int(row["en"]) == int(row["fr"]) == len(POINTS)


def test_the_messages_have_nearly_all_points_and_none_is_without():
    with (HERE / "scores-after.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    lower = {row["id"]: min(int(row["en"]), int(row["fr"])) for row in rows}
    assert set(lower) == {mistake.id for mistake in mistakes()}
    assert sum(lower.values()) > 2.7 * len(lower)
    assert [name for name, points in lower.items() if points == 0] == []


@pytest.fixture(scope="module")
def seen():
    done = subprocess.run(
        [sys.executable, "-m", "tests.mistakes", "--json", *MADE],
        cwd=HERE.parents[1], capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_enough_recipes_are_carried_out():
    assert len(MADE) >= 10
    assert not any("@start" in mistake.setup for mistake in MADE.values())


@pytest.mark.parametrize("code", ["en", "fr"])
@pytest.mark.parametrize("mistake", MADE.values(), ids=lambda mistake: mistake.id)
def test_what_a_person_sees_has_the_facts_and_the_command(seen, mistake, code):
    text = seen[mistake.id][code]
    assert [fact for fact in mistake.shows if fact not in text] == []
    assert [secret for secret in mistake.hides if secret in text] == []

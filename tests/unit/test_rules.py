"""Every rule that is cited is in docs/rules, and a test guards each (docs/rules/README.md)."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import NamedTuple

import pytest

TOP = Path(__file__).parents[2]
PAGES = TOP / "docs/rules"
KINDS = {".py", ".md", ".c", ".yaml", ".toml", ".json", ".sh"}
OTHERS = {TOP / "docs/decisions", TOP / "docs/architecture.md"}
"""what tells how it came to be, and may name what was there before"""

CLAUSE = re.compile(r"^\*\*([A-Z])(\d+)\*\* (.*?)(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)
UNTESTED = re.compile(r"\*\(No test: (.+?\.)\)\*$")
CITED = re.compile(r"\b[Rr]ules?\s+((?:[A-Z]\d+\b(?:,\s+(?:# )?)?)+)")
FORMER = re.compile(
    r"\b(?:domain|design|rules-checked)\.md\b|\brules-checked\b|\b[Ii]nvariants?:? [A-Z]?\d"
    r"|\b[Dd]elivery rules?\b|\bMDP-1, rules?\b|\b[Rr]ules?:? \d"
)
"""how rules were cited before they were in docs/rules"""
COUNTER_EXAMPLE = re.compile(r"\*\*([A-E]_[a-z])\*\*|`(B_\w+)`")
NAMED = re.compile(r"^\s*(?:async )?def test_([A-E]_[a-zA-Z]\w*)", re.MULTILINE)
LONGEST = 110
"""words of a clause: more than three sentences are two promises"""


class Clause(NamedTuple):
    """One promise."""

    id: str
    page: str
    text: str

    @property
    def untested(self) -> str | None:
        """Why no test can guard it; None: one does."""
        found = UNTESTED.search(self.text)
        return found[1] if found else None


def clauses() -> list[Clause]:
    """All that docs/rules promise, in the order of the pages."""
    return [
        Clause(f"{letter}{number}", page.name, " ".join(text.split()))
        for page in sorted(PAGES.glob("*.md"))
        for letter, number, text in CLAUSE.findall(page.read_text("utf-8"))
    ]


def files(*folders: str) -> list[Path]:
    """What may cite a rule; not this file, which says how rules are not cited."""
    found = [path for folder in folders for path in sorted((TOP / folder).rglob("*"))]
    return [path for path in found if path.suffix in KINDS and path != Path(__file__)]


def citations(text: str) -> set[str]:
    """The ids of the clauses that a text cites."""
    return {id_ for ids in CITED.findall(text) for id_ in re.findall(r"[A-Z]\d+", ids)}


KNOWN = clauses()
EVERYTHING = files("agent", "hil", "receiver", "tests", "bench", "docs")


def test_each_letter_has_a_page_and_its_numbers_have_no_gap():
    ids = [clause.id for clause in KNOWN]
    assert len(ids) == len(set(ids)) > 200
    for letter, group in itertools.groupby(KNOWN, lambda clause: clause.id[0]):
        of_letter = list(group)
        assert [one.id for one in of_letter] == [f"{letter}{n + 1}" for n in range(len(of_letter))]
        assert len({one.page for one in of_letter}) == 1
    index = (PAGES / "README.md").read_text("utf-8")
    listed = re.findall(r"^\| ([A-Z]) \| \[(\w+\.md)\]\(\2\)", index, re.MULTILINE)
    assert dict(listed) == {clause.id[0]: clause.page for clause in KNOWN}


def test_a_clause_is_one_short_promise():
    long = {one.id: len(one.text.split()) for one in KNOWN if len(one.text.split()) > LONGEST}
    assert long == {}


def test_every_citation_is_of_a_clause():
    ids = {clause.id for clause in KNOWN}
    unknown = {
        str(path.relative_to(TOP)): sorted(wrong)
        for path in EVERYTHING
        if (wrong := citations(path.read_text("utf-8")) - ids)
    }
    assert unknown == {}


def test_no_rule_is_cited_in_another_way():
    former = {
        str(path.relative_to(TOP)): found
        for path in EVERYTHING
        if not OTHERS & {path, *path.parents}
        if (found := FORMER.findall(path.read_text("utf-8")))
    }
    assert former == {}


def test_a_test_guards_every_clause_or_the_clause_says_why_none_can():
    tests = [path for path in files("tests") if path.name.startswith("test_")]
    cited = set().union(*(citations(path.read_text("utf-8")) for path in tests))
    assert [one.id for one in KNOWN if one.id not in cited and one.untested is None] == []
    assert [one.id for one in KNOWN if one.id in cited and one.untested is not None] == []


def test_every_counter_example_has_a_test_that_has_its_name():
    pages = (page.read_text("utf-8") for page in sorted(PAGES.glob("*.md")))
    known = [letter or word for page in pages for letter, word in COUNTER_EXAMPLE.findall(page)]
    names = {name for path in files("tests") for name in NAMED.findall(path.read_text("utf-8"))}
    told = {one for one in known if any(f"{name}_".startswith(f"{one}_") for name in names)}
    assert told == set(known)
    short = {"_".join(name.split("_")[:2]) for name in names if not name.startswith("B_")}
    assert short == {one for one in known if not one.startswith("B_")}


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Guards rule T5.", {"T5"}),
        ("Rules T5, T10: a batch", {"T5", "T10"}),
        ("(rules G1,\n    H12)", {"G1", "H12"}),
        ("a rule of three, and ruled G1", set()),
    ],
)
def test_citations_are_read_as_the_page_says(text, ids):
    assert citations(text) == ids

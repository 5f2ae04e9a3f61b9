"""The missing-data policy is clear and known: the same words in the command and in docs/."""

from pathlib import Path

import pytest

from agent.buffer.batch import POLICY
from agent.core.model import Flag, Why
from agent.registry.page import render
from tests.command import gardien

TEXTS = {language: render("acquisition/policy.txt", language=language) for language in ("en", "fr")}
DOCS = Path(__file__).parents[3] / "docs"
PAGES = {"en": DOCS / "policy.md", "fr": DOCS / "fr" / "policy.md"}


@pytest.mark.parametrize("lang", TEXTS)
def test_the_command_says_what_the_page_says(lang):
    said = gardien("policy", "show", "--lang", lang)
    assert said.exit_code == 0
    assert said.output == TEXTS[lang]
    title, _link, *text = PAGES[lang].read_text(encoding="utf-8").split("\n\n")
    assert "\n\n".join([title, *text]) == TEXTS[lang]


def test_the_language_is_the_terminals(monkeypatch):
    monkeypatch.delenv("LC_ALL", raising=False)
    monkeypatch.setenv("LANG", "fr_FR.UTF-8")
    assert gardien("policy", "show").output == TEXTS["fr"]
    monkeypatch.setenv("LANG", "C.UTF-8")
    assert gardien("policy", "show").output == TEXTS["en"]


@pytest.mark.parametrize("lang", TEXTS)
def test_every_word_that_a_batch_may_hold_is_explained(lang):
    """Rule R6."""
    text = TEXTS[lang]
    assert POLICY in text
    missing = Why.SILENT, Why.LINK, Why.AGENT, Why.BAD, Why.EARLY, Why.BUSY, Why.SHED, Why.CLOCK
    for why in (*missing, Why.UPLINK):
        assert f"`{why}`" in text
    for flag in set(Flag) - {Flag.MANUAL, Flag.EXCHANGED}:
        assert flag in text

"""The question of `gardien profile record` about the number on the device."""

from __future__ import annotations

from io import StringIO

import pytest

from agent.cli.profile import _number_agrees


@pytest.mark.parametrize(
    ("typed", "agrees"), [("\n", None), ("y\n", True), ("n\n", False), ("what?\n\n", None)]
)
def test_only_an_answer_says_that_the_number_is_another_one(typed, agrees, monkeypatch):
    monkeypatch.setattr("sys.stdin", StringIO(typed))
    assert _number_agrees("21900001") is agrees

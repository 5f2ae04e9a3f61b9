"""YAML as plain data with places: what is kept as it was written."""

from __future__ import annotations

from decimal import Decimal

import pytest

from agent.config.files import YamlUnreadable, read
from agent.config.problem import SourcePosition


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("12", 12),
        ("-12", -12),
        ("1_000", 1000),
        ("012", "012"),
        ("0x10", "0x10"),
        ("12:30", "12:30"),
        ("0.10", Decimal("0.10")),
        ("1e-3", Decimal("0.001")),
        ("1e400", "1e400"),
        (".nan", ".nan"),
        ("true", True),
        ("yes", "yes"),
        ("~", None),
        ("", None),
        ("'12'", "12"),
        ("2026-07-12", "2026-07-12"),
    ],
)
def test_a_scalar_keeps_what_was_written(written, value):
    data = read(f"a: {written}\n").data
    assert data == {"a": value}
    assert type(data["a"]) is type(value)


def test_a_key_is_the_text_that_was_written():
    assert list(read("12: a\ntrue: b\n2026-07-12: c\n").data) == ["12", "true", "2026-07-12"]


def test_every_key_and_value_has_its_place():
    tree = read("a:\n  b: [x, {c: 1}]\n")
    assert tree.key_place(("a", "b")) == SourcePosition(2, 3)
    assert tree.place(("a", "b", "2", "c")) == SourcePosition(2, 14)


def test_what_is_missing_has_the_place_of_what_it_would_stand_in():
    tree = read("a:\n  b: 1\n")
    assert tree.place(("a", "c")) == SourcePosition(2, 3)
    assert tree.key_place(("a", "b", "d", "e")) == SourcePosition(2, 6)


def test_of_two_equal_keys_the_first_is_kept_and_the_second_told():
    tree = read("a: 1\nb: 2\na: 3\n")
    assert tree.data == {"a": 1, "b": 2}
    assert [(path, place) for path, place, _ in tree.wrong] == [(("a",), SourcePosition(3, 1))]


def test_what_is_written_wins_over_what_is_merged_in():
    tree = read("a: &a {x: 1, y: 2}\nb: &b {y: 3}\nc: {<<: [*b, *a], x: 4}\n")
    assert tree.data["c"] == {"x": 4, "y": 3}


def test_nested_deeper_than_any_configuration_is_refused_where_it_is():
    with pytest.raises(YamlUnreadable, match="nested too deeply"):
        read("".join(f"{'  ' * depth}k:\n" for depth in range(40)))

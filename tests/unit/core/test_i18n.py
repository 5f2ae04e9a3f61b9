"""What people read is in their language, and a message that is new or changed is missed at once."""

from __future__ import annotations

import ast
import json
import string
import sys
from pathlib import Path

import pytest

from agent.config.check import check
from agent.core.i18n import Text, _, entries, language, n_
from tests.unit.config.samples import changed, edited_sample

TOP = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TOP / "packaging"))

import catalogue  # noqa: E402

AGENT = catalogue.HERE
LANGUAGES = [path.stem for path in (AGENT / "locale").glob("*.po")]
SPOKEN = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")


@pytest.fixture
def speaks(monkeypatch):
    """Set what the terminal speaks, by variable; the others are not set."""

    def speak(**words):
        for name in SPOKEN:
            monkeypatch.delenv(name, raising=False)
        for name, word in words.items():
            monkeypatch.setenv(name, word)

    return speak


def names(message):
    """The values of a message; none of one that has a brace of YAML in it, and none to put in."""
    try:
        return {name for _text, name, _spec, _how in string.Formatter().parse(message) if name}
    except ValueError:
        return set()


@pytest.mark.parametrize("word", LANGUAGES)
def test_a_catalogue_says_what_the_code_says_with_the_same_values(word):
    """What it does not have yet, `make check` tells."""
    known, said = catalogue.known(word), catalogue.messages()
    assert known.keys() - said.keys() - {""} == set(), "nobody says this any more"
    for message, translated in known.items():
        assert translated, message
        assert names(translated) == names(message), message


@pytest.mark.parametrize("word", LANGUAGES)
def test_no_message_stands_twice_in_a_catalogue(word):
    text = (AGENT / "locale" / f"{word}.po").read_text(encoding="utf-8")
    found = [message for message, _said in entries(text)]
    assert len(found) == len(set(found))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"LANG": "fr_FR.UTF-8"}, "fr"),
        ({"LANG": "fr_FR.UTF-8", "LC_ALL": "C.UTF-8"}, "en"),
        ({"LANG": "C.UTF-8", "LANGUAGE": "de:fr"}, "fr"),
        ({"LANG": "en_GB.UTF-8", "LC_MESSAGES": "fr_CH"}, "fr"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "fr_FR.UTF-8", "LC_ALL": ""}, "fr"),
        ({}, "en"),
    ],
)
def test_the_language_is_the_terminal_s(speaks, words, expected):
    speaks(**words)
    assert language() == expected


def test_the_check_speaks_french(speaks, tmp_path):
    """Rule U18."""
    speaks(LANG="fr_FR.UTF-8")
    file = tmp_path / "config.yaml"
    file.write_text(edited_sample(), encoding="utf-8")
    status, text = check(file)
    assert status == 0
    assert "est en ordre" in text
    assert "2 appareils" in text
    text = text.replace(str(file), "config.yaml")
    assert all(len(line) <= 80 for line in text.splitlines()), text
    own = changed("energie.metropole.example", "energie.ville.example")
    file.write_text(changed("profile:", "profil:", own), encoding="utf-8")
    status, text = check(file)
    assert status == 1
    assert 'profil: cette option n\'existe pas ; vouliez-vous dire "profile" ?' in text
    assert text.endswith("1 problème ; rien n'a été modifié")


def test_nothing_counts_as_one_in_french_and_as_several_in_english(speaks):
    one, several = "{number:,} device", "{number:,} devices"
    speaks(LANG="fr_FR")
    assert [n_(one, several, number) for number in (0, 1, 2)] == [
        "0 appareil",
        "1 appareil",
        "2 appareils",
    ]
    speaks(LANG="C")
    assert [n_(one, several, number) for number in (0, 1, 2)] == [
        "0 devices",
        "1 device",
        "2 devices",
    ]


def test_a_value_that_looks_like_a_place_for_one_is_left_as_it_is():
    assert _("no such day: {value}", value="{value.__class__}") == "no such day: {value.__class__}"


def told_untranslated(path):
    """Texts of a module that reach a person past the catalogue."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        func = node.func
        word = func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")
        if word not in {"value", "key", "ValueError", "Refused", "ConfigError", "Unreadable"}:
            continue
        last = node.args[-1]
        parts = last.values if isinstance(last, ast.JoinedStr) else [last]
        for part in parts:
            said = part.value if isinstance(part, ast.Constant) else ""
            if isinstance(said, str) and " " in said.strip():
                yield f"{path.name}:{node.lineno}: {said}"


def test_nothing_that_check_says_passes_by_the_catalogue():
    modules = [*(AGENT / "config").glob("*.py"), AGENT / "core" / "settings.py"]
    assert [one for path in modules for one in told_untranslated(path)] == []


def test_a_text_is_translated_where_it_is_read_with_the_texts_in_it(speaks):
    inner = Text("less than")
    sent = json.dumps(Text("{said}; found {found}", said=[inner, inner], found=7).wire())
    speaks(LANG="fr_FR.UTF-8")
    text = Text.of(json.loads(sent))
    assert text == "less than, less than; found 7"
    assert text.in_language() == _(
        "{said}; found {found}", said=f"{_('less than')}, {_('less than')}", found=7
    )
    assert "less than" not in text.in_language()

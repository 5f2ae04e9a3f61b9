"""What people read is in their language, and a message that is new or changed is missed at once."""

from __future__ import annotations

import ast
import datetime as dt
import json
import string
import sys
from collections import Counter
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path

import pytest

from agent.config.check import check
from agent.config.load import load
from agent.core.errors import ConfigError, Refused
from agent.core.i18n import (
    Plural,
    Size,
    Text,
    _,
    entries,
    from_wire,
    in_language,
    joined,
    language,
    n_,
    to_wire,
)
from tests.unit.config.samples import changed, edited_sample

TOP = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TOP / "packaging"))

import catalogue  # noqa: E402
import untranslated  # noqa: E402

AGENT = catalogue.HERE
LANGUAGES = [path.stem for path in (AGENT / "locale").glob("*.po")]
DATE = "{year}-{month}-{day}"
"""a language may take the month's name for its number"""
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


def other_words():
    """Whether this is another typer than Debian's: the catalogue has the words of that one."""
    pinned = (TOP / "packaging/constraints-debian13.txt").read_text().split()
    return f"typer=={version('typer')}" not in pinned


@pytest.mark.skipif(other_words(), reason="the catalogue has the words of Debian's typer")
@pytest.mark.parametrize("word", LANGUAGES)
def test_a_catalogue_says_what_the_code_says_with_the_same_values(word):
    """What it does not have yet, `make check` tells."""
    known, said = catalogue.known(word), catalogue.messages()
    assert known.keys() - said.keys() - {""} == set(), "nobody says this any more"
    for message, translated in known.items():
        assert translated, message
        if message != DATE:
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
    assert text.endswith("Corrigez-le, puis : gardien check")
    assert "1 problème : l'agent ne démarre pas avec ce fichier" in text


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


def test_nothing_that_people_read_passes_by_the_catalogue():
    """Rule U18."""
    assert list(untranslated.outside(catalogue.modules(), AGENT)) == []


@pytest.mark.parametrize(
    "said",
    [
        'raise Refused(f"no line {name}")',
        'raise AgentError(f"{where}: {why}" if where else why)',
        'return lost(error)(f"{why}; {own}")',
        'typer.echo(f"{many} rows wait")',
        'typer.echo("nothing waits" if done else _("it waits"))',
        'return _("the disk: {why}", why="it is full" if full else _("no answer"))',
        'def one():\n    """Say it."""\n    text = "nothing was written"',
    ],
)
def test_a_sentence_that_passes_by_is_found(said):
    path = AGENT / "cli" / "key.py"
    (found,) = untranslated.outside({path: ast.parse(said)}, AGENT)
    assert found.startswith("cli/key.py:")


def test_what_is_no_sentence_for_people_is_left_alone():
    path = AGENT / "cli" / "key.py"
    code = """class Refused(AgentError):
    pass
def one():
    \"\"\"Say it.\"\"\"
    log.info("the disk is full %s", name)
    raise Refused("no line {name}", name=given["a key"])
    typer.Option("--to", help="The file to write.")
"""
    assert list(untranslated.outside({path: ast.parse(code)}, AGENT)) == []


@pytest.mark.parametrize(
    ("value", "english", "french"),
    [
        (Decimal("8412.5"), "8412.5", "8\u00a0412,5"),
        (0.25, "0.25", "0,25"),
        (1502, "1502", "1502"),
        (84123, "84123", "84\u00a0123"),
        (Size(8_400_000), "8.4 MB", "8,4 Mo"),
        (dt.timedelta(minutes=90), "1 h 30 min", "1 h 30"),
        (dt.timedelta(days=3), "3 days", "3 jours"),
        (dt.date(2026, 5, 1), "2026-05-01", "1er mai 2026"),
        (dt.datetime(2026, 5, 12, 9, 30, tzinfo=dt.UTC), "2026-05-12 09:30", "12 mai 2026 à 09:30"),
        ([Text("less than"), 0.5], "less than, 0.5", "moins de, 0,5"),
        (OSError(13, "Permission denied", "/x"), "Permission denied", "accès refusé"),
    ],
)
def test_values_are_shown_in_the_reader_s_language(speaks, value, english, french):
    text = Text.of(json.loads(json.dumps(Text("{value}", value=value).wire())))
    assert str(text) == english
    speaks(LANG="fr_FR.UTF-8")
    assert text.in_language() == french
    assert _("{value}", value=value) == french


def test_a_number_with_a_form_keeps_it(speaks):
    speaks(LANG="fr_FR.UTF-8")
    assert _("{number:,.1f}", number=12345.67) == "12\u00a0345,7"
    assert _("{code:02X}", code=10) == "0A"


@pytest.mark.parametrize(("number", "french"), [(0, "0 jour"), (1, "1 jour"), (3, "3 jours")])
def test_a_text_has_a_plural_where_it_is_read(speaks, tmp_path, monkeypatch, number, french):
    own = '\nmsgid "{number} day"\nmsgstr "{number} jour"\nmsgid "{number} days"\n'
    head = 'msgid ""\nmsgstr "Plural-Forms: nplurals=2; plural=(n > 1);"\n'
    (tmp_path / "xx.po").write_text(f'{head}{own}msgstr "{{number}} jours"\n', encoding="utf-8")
    monkeypatch.setenv("GARDIEN_LOCALES", str(tmp_path))
    text = Text.of(json.loads(json.dumps(Plural("{number} day", "{number} days", number).wire())))
    speaks(LANG="xx")
    assert text.in_language() == french


def test_an_answer_keeps_its_texts_on_the_way(speaks):
    answer = {"rows": [{"why": Text("less than"), "n": 1}], "state": "free"}
    got = json.loads(json.dumps(to_wire(answer)), object_hook=from_wire)
    assert got == answer
    speaks(LANG="fr_FR.UTF-8")
    assert got["rows"][0]["why"].in_language() == "moins de"


def test_an_error_keeps_its_text_and_those_in_it(speaks):
    inner = Refused("expected {expected}, found {found}{quotes}", expected=Text("a number"),
                    found="x", quotes="")  # fmt: skip
    outer = Refused("{where}: {error}", where="a.csv:2", error=inner)
    assert str(outer) == "a.csv:2: expected a number, found x"
    speaks(LANG="fr_FR.UTF-8")
    assert outer.text.in_language() == "a.csv:2 : attendu : un nombre ; trouvé : x"


def test_joined_and_added_texts_are_translated(speaks):
    text = joined("; ", [Text("a number"), "x"]) + Text(", found {found}", found=1)
    assert text == "a number; x, found 1"
    speaks(LANG="fr_FR.UTF-8")
    assert in_language(text) == "un nombre ; x ; trouvé : 1"


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


def test_every_message_gets_its_values():
    """One that lacks a value would fail only when it is said; a constant by its name, too."""
    trees = catalogue.modules()
    marks = catalogue.SAID | dict.fromkeys(untranslated.errors(trees.values()), (0,))
    defined = [
        (target.id, node.value.args[0].value)
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Name)
        if isinstance(node.value, ast.Call) and getattr(node.value.func, "id", "") == "N_"
    ]
    often = Counter(name for name, _message in defined)
    constants = {name: message for name, message in defined if often[name] == 1}
    checked, wrong = 0, []
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or getattr(node.func, "id", "") not in marks:
                continue
            if node.func.id == "N_" or any(keyword.arg is None for keyword in node.keywords):
                continue
            given = {keyword.arg for keyword in node.keywords}
            if node.func.id in {"n_", "Plural"}:
                given.add("number")
            for place in marks[node.func.id]:
                argument = node.args[place] if place < len(node.args) else None
                message = getattr(argument, "value", constants.get(getattr(argument, "id", "")))
                if isinstance(message, str) and given:
                    checked += 1
                    if not names(message) <= given:
                        wrong.append(f"{path}:{node.lineno}: {names(message) - given}")
    assert checked > 1000
    assert wrong == [], "\n".join(wrong)


def test_a_mistake_that_the_daemon_finds_in_the_file_is_told_in_the_caller_s_language(
    speaks, tmp_path
):
    file = tmp_path / "config.yaml"
    file.write_text("bilding: {}\nuplinks: 3\n", encoding="utf-8")
    speaks(LANGUAGE="en")
    with pytest.raises(ConfigError) as refused:
        load(file)
    carried = json.loads(json.dumps(to_wire(refused.value.text)), object_hook=from_wire)
    assert carried == str(refused.value)
    speaks(LANGUAGE="fr")
    with pytest.raises(ConfigError) as french:
        load(file)
    assert carried.in_language() == str(french.value)
    assert "cette option n'existe pas" in str(french.value)

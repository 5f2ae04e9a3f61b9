"""Every command says in 80 columns what it takes, and to who uses it wrongly, too."""

import io
from contextlib import redirect_stderr, redirect_stdout

import pytest

from agent.cli import command_line

ROOT = command_line()


def commands(command, *words):
    yield words
    for word, one in getattr(command, "commands", {}).items():
        yield from commands(one, *words, word)


ALL = list(commands(ROOT))


def said(*words):
    shown = io.StringIO()
    with redirect_stdout(shown), redirect_stderr(shown), pytest.raises(SystemExit) as ended:
        ROOT.main(words, prog_name="gardien")
    return ended.value.code, shown.getvalue()


@pytest.fixture(autouse=True)
def _narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_says_what_it_takes(words):
    status, text = said(*words, "--help")
    assert status == 0
    assert f"Usage: gardien {' '.join(words)}".rstrip() in text
    assert "default: None" not in text
    assert max(map(len, text.splitlines())) <= 80


# of `meter verify` each word is a quantity
@pytest.mark.parametrize("words", [one for one in ALL if one[-1:] != ("verify",)], ids=" ".join)
def test_a_word_that_no_command_knows_is_told_with_its_usage(words):
    status, text = said(*words, "--nonsense")
    assert "No such option: --nonsense" in text
    assert "Usage: gardien" in text
    assert status == 2


@pytest.mark.parametrize(
    ("words", "meant"), [(("statsu",), "status"), (("place", "lsit"), "list")], ids=str
)
def test_the_command_that_may_be_meant_is_named(words, meant):
    status, text = said(*words)
    assert f'there is no command `{words[-1]}`; did you mean "{meant}"?' in text
    assert status == 2


def test_the_usage_names_what_a_command_takes_in_the_language_of_the_reader(monkeypatch):
    monkeypatch.setenv("LANG", "fr_FR.UTF-8")
    shown = io.StringIO()
    with redirect_stdout(shown), pytest.raises(SystemExit):
        command_line().main(["meter", "assign", "--help"], prog_name="gardien")
    words = shown.getvalue().replace("{", "").replace("}", "")  # of typer 0.29
    assert "gardien meter assign [OPTIONS] APPAREIL LOGEMENT" in words
    assert not {"device", "dwelling", "DEVICE", "DWELLING"} & {*words.split()}

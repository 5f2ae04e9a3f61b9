"""The French pages keep in step with the English ones: same parts, tables, links and commands."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = (
    "clock",
    "control",
    "dwellings",
    "enrolment",
    "forms",
    "history",
    "install",
    "log",
    "metrics",
    "policy",
    "privacy",
    "replace",
    "spreadsheets",
    "stolen",
    "trace",
    "web",
)
CODES = re.compile(r"\| (`[A-Za-z0-9_.]+`(?:, `[A-Za-z0-9_.]+`)*) (?=\|)")
"""a cell of a table that has names of the program only"""
COMMENT = re.compile(r"\s+#\s.*|\s{2,}\S.*")
"""what a line of a block says beside its command: `gardien check   # reports every mistake`"""


def blocks_and_text(text):
    """The commands in the blocks of a page, and the page without its blocks. Of a block that shows
    what is printed, in the language of the page, only what is typed (`$`) or to type (`>`) counts.
    """
    commands, rest, fenced, printed = [], [], False, False
    for line in text.splitlines():
        words = line.strip()
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or (line.startswith("    ") and not is_list(line, rest)):
            printed = printed or words.startswith(("$ ", "! "))
            if not printed or words.startswith(("$ ", "> ")):
                commands.append(COMMENT.sub("", words))
        else:
            printed = False
            rest.append(line)
    return commands, rest


def is_list(line, before):
    """Whether an indented line continues an entry of a list, in which blocks are indented more."""
    entry = any(re.match(r"([0-9]+\.|-) ", one) for one in before[-1:]) or (
        before and before[-1].startswith("    ")
    )
    return bool(entry and before[-1] and not re.match(r" {6,}(gardien|sudo) ", line))


def shape(text):
    """What the two languages must have in common."""
    commands, rest = blocks_and_text(text)
    page = "\n".join(rest)
    return {
        "headings": [len(match) for match in re.findall(r"^(#+) ", page, re.MULTILINE)],
        "tables": [line.count(" | ") for line in rest if line.startswith("|")],
        "names": [cell for line in rest for cell in CODES.findall(line)],
        "entries": [line[: line.index(" ")] for line in rest if re.match(r"([0-9]+\.|-) ", line)],
        "bold": len(re.findall(r"\*\*.+?\*\*", page, re.DOTALL)),
        "commands": commands,
        "codes": sorted(set(re.findall(r"\bE_[A-Z]+", page))),
    }


def test_each_page_for_installers_and_managers_is_in_french():
    assert sorted(path.stem for path in (DOCS / "fr").glob("*.md")) == sorted(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_the_same_parts_and_commands_in_both_languages(page):
    english = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    french = (DOCS / "fr" / f"{page}.md").read_text(encoding="utf-8")
    assert shape(french) == shape(english)
    assert f"*[Français](fr/{page}.md)*" in english.splitlines()[:3]
    assert f"*[English](../{page}.md)*" in french.splitlines()[:3]


@pytest.mark.parametrize("page", PAGES)
def test_each_link_of_a_french_page_leads_somewhere(page):
    path = DOCS / "fr" / f"{page}.md"
    for link in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
        file, _, part = link.partition("#")
        target = (path.parent / file) if file else path
        assert target.is_file(), link
        titles = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", title.casefold()).replace(" ", "-") for title in titles}
        assert not part or part in anchors, link


def test_a_command_that_one_language_lacks_is_found():
    text = "# T\n\n    gardien check     # all\n\n- **a**\n"
    assert shape(text)["commands"] == ["gardien check"]
    assert shape(text) != shape(text.replace("gardien check", "gardien status"))
    assert shape(text) != shape(text + "- b\n")
    assert shape("| `a`, `b` | x |") == shape("| `a`, `b` | y |") != shape("| `a`, `c` | x |")


def test_what_is_printed_is_in_the_language_of_the_page_and_what_is_typed_is_not():
    text = "# T\n\n    $ gardien status\n    ! the line\n        > gardien scan\n"
    assert shape(text)["commands"] == ["$ gardien status", "> gardien scan"]
    assert shape(text) == shape(text.replace("the line", "le bus"))
    assert shape(text) != shape(text.replace("gardien scan", "gardien read"))

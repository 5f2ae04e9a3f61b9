"""Why a text is not YAML, in words for whoever typed it."""

from __future__ import annotations

import re
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from agent.config.problem import Place
from agent.settings import shown

NO_READER_EXPECTED = (
    ValueError,
    OverflowError,
    RecursionError,
    AttributeError,
    IndexError,
    KeyError,
    TypeError,
    AssertionError,
    NotImplementedError,
)
"""what the reader itself trips over: `"\\UFFFFFFFF"`, 500 open brackets, …"""

NOT_IN_LINE = (
    "this line does not line up with the lines before it: lines that belong together begin in the"
    " same column"
)
WORDS = {
    r"mapping values are not allowed": (
        "a `key:` cannot stand here: this line is indented deeper than the line before, or that"
        " line lacks its `:`, or a value that contains `: ` needs quotes around it"
    ),
    r"expected ',' or '\]'": "a `,` or the closing `]` is missing before this",
    r"expected ',' or '\}'": "a `,` or the closing `}` is missing before this",
    r"expected <block end>": NOT_IN_LINE,
    r"expected '<document start>'": NOT_IN_LINE,
    r"could not find expected ':'": "a `:` is missing: each line reads `key: value`",
    r"but found another document": "a second document begins here (`---`): the file holds one",
    r"escape (character|sequence)": (
        r"in double quotes `\` begins an escape: write `\\`, or put the text in single quotes"
    ),
    r"sequence entries are not allowed": "a `- ` cannot stand here: begin a line with it",
}
"""by what the reader says"""

LINE_END = re.compile("\r\n|[\r\n\x85\u2028\u2029]")


class Unreadable(Exception):
    """The text cannot be read as YAML; with the place, and what to do, in words for people."""

    def __init__(self, place: Place, what: str) -> None:
        super().__init__(what)
        self.place = place
        self.what = what


def stumbled(text: str, deepest: int) -> Unreadable:
    """Say where the reader gave up in no words of its own: it has forgotten, so look again."""
    place, depth = Place(1, 1), 0
    try:
        for token in YAML(pure=True).scan(text):
            kind = type(token).__name__
            depth += kind.endswith("StartToken") - kind.endswith("EndToken")
            if depth > deepest:
                return Unreadable(place, "nested deeper than anything in a configuration")
            place = _place(token.end_mark)
    except (YAMLError, *NO_READER_EXPECTED):
        pass
    return Unreadable(place, "after this comes something that cannot be read: write it otherwise")


def in_own_words(error: YAMLError, text: str) -> Unreadable:
    """Say what the reader found, where, and what to do about it."""
    if (position := getattr(error, "position", None)) is not None:
        return _forbidden_character(text, position)
    place = _place(getattr(error, "problem_mark", None) or getattr(error, "context_mark", None))
    found = str(getattr(error, "problem", None) or getattr(error, "context", None) or "")
    if tab := _tab(text, place.line):
        return Unreadable(tab, "indented with a tab: put spaces, two for each step inward")
    if "quoted scalar" in str(getattr(error, "context", "")) and "end of stream" in found:
        opened = _place(error.context_mark)  # type: ignore[attr-defined] # every marked error's
        return Unreadable(opened, "the quote that opens here is never closed")
    if "expected ':'" in found:
        # it looks for the `:` until the next line that has one: the key is what lacks it
        place = _place(getattr(error, "context_mark", None))
    return Unreadable(place, _words(found))


def _words(found: str) -> str:
    for pattern, words in WORDS.items():
        if re.search(pattern, found):
            return words
    if match := re.search(r"character '(.+)' that cannot start", found):
        return f"a value cannot begin with `{match[1]}`: put it in quotes"
    if match := re.search(r"undefined alias '?([^']+)", found):
        return f"no `&{match[1]}` stands before this `*{match[1]}`"
    return f"this is not YAML: {shown(found)[1:-1]}"


def _tab(text: str, until: int) -> Place | None:
    for number, line in enumerate(LINE_END.split(text)[:until], start=1):
        indent = line[: len(line) - len(line.lstrip())]
        if "\t" in indent and line.strip():
            return Place(number, indent.index("\t") + 1)
    return None


def _forbidden_character(text: str, position: int) -> Unreadable:
    before = text[:position]
    place = Place(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
    what = f"the character U+{ord(text[position]):04X} cannot stand in a configuration: delete it"
    return Unreadable(place, what)


def _place(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)

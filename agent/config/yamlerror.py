"""Explain YAML errors to the person who wrote the file."""

from __future__ import annotations

import re
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scanner import Scanner

from agent.config.problem import SourcePosition, no_blank
from agent.core.i18n import N_, _
from agent.core.settings import shown

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
"""exceptions in which the YAML reader itself fails: for `"\\UFFFFFFFF"`, `!<tag`, …"""

MOST_DEPTH = 20
MOST_SIGNS = 80_000
"""words, dashes, colons and brackets of one file; a building of 1,000 devices has about 20,000"""
TOO_DEEP = N_("nested too deeply for a configuration")

NOT_IN_LINE = N_(
    "this line does not line up with the lines before it: lines that belong"
    " together begin in the same column"
)
EXPLANATIONS = {
    r"mapping values are not allowed": (
        N_(
            "a `key:` cannot stand here: this line is indented deeper than the line"
            " before, or that line lacks its `:`, or a value that contains `: `"
            " needs quotes around it"
        )
    ),
    r"expected ',' or '\]'": N_("a `,` or the closing `]` is missing before this"),
    r"expected ',' or '\}'": N_("a `,` or the closing `}` is missing before this"),
    r"expected <block end>": NOT_IN_LINE,
    r"expected '<document start>'": NOT_IN_LINE,
    r"could not find expected ':'": N_("a `:` is missing: each line reads `key: value`"),
    r"but found another document": N_("a second document begins here (`---`): the file holds one"),
    r"escape (character|sequence)": (
        N_("in double quotes `\\` begins an escape: write `\\\\`, or put the text in single quotes")
    ),
    r"sequence entries are not allowed": N_("a `- ` cannot stand here: begin a line with it"),
}
"""our texts, by the pattern of the reader's message"""

BEHIND_A_QUOTE = N_(
    "nothing can stand behind the closing quote: write a `'` inside '…' twice, and"
    ' a `"` inside "…" as `\\"`, or leave the outer quotes out'
)
BLANK = re.compile(r"[ \t]*(?:- )?([\w-]+):(\S.*)")
"""a line without a space behind its colon"""
LINE_END = re.compile("\r\n|[\r\n\x85\u2028\u2029]")


class YamlUnreadable(Exception):
    """The text is not YAML. `place`: where; `what`: what to do, for people."""

    def __init__(self, place: SourcePosition, what: str) -> None:
        super().__init__(what)
        self.place = place
        self.what = what


class Bounded(Scanner):
    """A YAML scanner with limits: its time grows with the product of depth and length.

    Raises YamlUnreadable.
    """

    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader)
        self._signs = 0

    def fetch_more_tokens(self) -> Any:
        """Read the next token. Raises YamlUnreadable if there are too many or it is too deep."""
        self._signs += 1
        if self._signs > MOST_SIGNS:
            what = _(
                "more than {most:,} words and signs up to here: this is no configuration",
                most=MOST_SIGNS,
            )
            raise YamlUnreadable(_place(self.reader.get_mark()), what)
        if max(self.flow_level, len(self.indents)) > MOST_DEPTH:
            raise YamlUnreadable(_place(self.reader.get_mark()), _(TOO_DEEP))
        return super().fetch_more_tokens()


def stumbled(text: str) -> YamlUnreadable:
    """The error for a text in which the reader itself failed."""
    # such an exception has no place: a second scan finds the last token before it
    place = SourcePosition(1, 1)
    try:
        for token in YAML(typ="safe", pure=True).scan(text):
            place = _place(token.end_mark)
    except (YAMLError, *NO_READER_EXPECTED):
        pass
    return YamlUnreadable(place, _("what follows cannot be read as YAML: write it differently"))


def in_own_words(error: YAMLError, text: str) -> YamlUnreadable:
    """The error for a message of the reader: its place, and what to do."""
    if (position := getattr(error, "position", None)) is not None:
        return _forbidden_character(text, position)
    place = _place(getattr(error, "problem_mark", None) or getattr(error, "context_mark", None))
    problem = str(getattr(error, "problem", None) or getattr(error, "context", None) or "")
    # first: after such an indent the reader reports another mistake, or one in another line
    if odd := _odd_blank(text, place.line):
        return odd
    if tab := _tab(text, place):
        return tab
    if "quoted scalar" in str(getattr(error, "context", "")) and "end of stream" in problem:
        opened = _place(error.context_mark)  # type: ignore[attr-defined] # every marked error's
        return YamlUnreadable(opened, _("the quote that opens here is never closed"))
    if "expected ':'" in problem:
        # the reader stops at the next line with a `:`, but the key before it lacks one
        place = _place(getattr(error, "context_mark", None))
    return YamlUnreadable(place, _of_the_line(problem, place, text) or _explanation(problem))


def _of_the_line(problem: str, place: SourcePosition, text: str) -> str:
    """A better text than the reader's, from the line itself; empty: there is none."""
    lines = LINE_END.split(text)
    line = lines[place.line - 1] if place.line <= len(lines) else ""
    before, there = line[: place.column - 1], line[place.column - 1 :]
    if line.startswith("```"):
        return _("a line of backquotes is not part of the file: delete it")
    if "expected ':'" in problem and (pair := BLANK.fullmatch(line)):
        return no_blank(pair[1], pair[2].rstrip())
    if "expected <block end>" in problem and there.startswith("- "):
        return _("a `- ` cannot stand here: the lines before it begin with a `key:`")
    if "expected <block end>" in problem and before.strip():
        return _(BEHIND_A_QUOTE)
    return ""


def _explanation(problem: str) -> str:
    for pattern, explanation in EXPLANATIONS.items():
        if re.search(pattern, problem):
            return _(explanation)
    if match := re.search(r"character '(.+)' that cannot start", problem):
        return _("a value cannot begin with `{sign}`: put it in quotes", sign=match[1])
    if match := re.search(r"undefined alias '?([^']+)", problem):
        return _("no `&{name}` stands before this `*{name}`", name=match[1])
    return _("this is not YAML: {found}", found=shown(problem)[1:-1])


def _odd_blank(text: str, until: int) -> YamlUnreadable | None:
    for number, line in enumerate(LINE_END.split(text)[:until], start=1):
        indent = line[: len(line) - len(line.lstrip())]
        odd = indent.lstrip(" ")[:1]
        if odd and line.strip():
            place = SourcePosition(number, indent.index(odd) + 1)
            if odd == "\t":
                what = _("this line is indented with a tab: use two spaces for each level")
                return YamlUnreadable(place, what)
            what = _(
                "this line is indented with U+{code:04X}, which is not a space: use two spaces for"
                " each level",
                code=ord(odd),
            )
            return YamlUnreadable(place, what)
    return None


def _tab(text: str, place: SourcePosition) -> YamlUnreadable | None:
    """The error for a tab that ended a value, at or before the reader's place; None: no tab."""
    lines = LINE_END.split(text)
    line = lines[place.line - 1] if place.line <= len(lines) else ""
    value = line[: place.column - 1].rstrip(" \t")
    blanks = line[len(value) : place.column]
    if "\t" not in blanks or value.endswith(("'", '"', "}", "]", ",")):
        return None
    position = SourcePosition(place.line, len(value) + blanks.index("\t") + 1)
    return YamlUnreadable(position, _("there is a tab here: replace it with a space"))


def _forbidden_character(text: str, position: int) -> YamlUnreadable:
    before = text[:position]
    place = SourcePosition(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
    what = _(
        "the character U+{code:04X} cannot stand in a configuration: delete it",
        code=ord(text[position]),
    )
    return YamlUnreadable(place, what)


def _place(mark: Any) -> SourcePosition:
    return SourcePosition(mark.line + 1, mark.column + 1) if mark else SourcePosition(1, 1)

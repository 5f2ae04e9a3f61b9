"""Mistakes in a file as data: where each is, and what to do."""

from __future__ import annotations

from difflib import get_close_matches
from itertools import islice
from pathlib import PurePath
from typing import TYPE_CHECKING, NamedTuple

from agent.core.i18n import _
from agent.core.settings import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

Path = tuple[str, ...]
"""of keys from the top of the file; list items by their number"""


class SourcePosition(NamedTuple):
    """A place in a file; line and column count from 1."""

    line: int
    column: int
    file: str = ""
    """the name it is included by; empty for the main file"""


class Problem(NamedTuple):
    """One mistake, for the person who wrote the file."""

    path: str
    """of the file, as the person named it"""
    line: int
    column: int
    where: str
    """the keys from the top, `devices.sdm-12.profile`; empty for the file itself"""
    what: str
    """what is wrong, and what to write instead"""

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where else ""
        return f"{self.path}:{self.line}:{self.column}: {where}{self.what}"


def at(place: SourcePosition, main: str, where: str, what: str) -> Problem:
    """A problem at a place; an included file gets the path of the main file's folder."""
    path = str(PurePath(main).parent / place.file) if place.file else main
    return Problem(path, place.line, place.column, where, what)


def dotted(path: Path) -> str:
    """A path as text; characters that cannot be printed are escaped."""
    return ".".join(shown(key)[1:-1] if key else '""' for key in path)


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """The text `; did you mean "…"?` if a known name is similar, else an empty one."""
    # bounded (rule U4): to compare 100,000 names takes over a second
    names = {name.lower(): name for name in islice(known, 1000)}
    near = get_close_matches(text.lower()[:64], names, n=1, cutoff=0.6)
    return _('; did you mean "{other}"?', other=names[near[0]]) if near else ""


def misspelt(text: str, name: str) -> bool:
    """Whether a text is a name, with at most one letter wrong, missing, added or swapped."""
    if text == name:
        return True
    pairs = enumerate(zip(text, name, strict=False))
    same = next((n for n, (one, other) in pairs if one != other), min(len(text), len(name)))
    rest, meant = text[same:], name[same:]
    return (
        rest[1:] == meant[1:]
        or rest[1:] == meant
        or rest == meant[1:]
        or (rest[:2] == meant[1::-1] and rest[2:] == meant[2:])
    )


def no_blank(key: str, value: str) -> str:
    """The text for a missing space behind a colon, which makes key and value one word."""
    return _("a space is missing after the `:`: write `{key}: {value}`", key=key, value=value)


def or_list(known: Iterable[str]) -> str:
    """The names as a text: `"a", "b" or "c"`."""
    quoted = [f'"{word}"' for word in known]
    if len(quoted) < 2:  # noqa: PLR2004 -- nothing to choose from
        return quoted[0] if quoted else _("none")
    return _("{names} or {last}", names=", ".join(quoted[:-1]), last=quoted[-1])

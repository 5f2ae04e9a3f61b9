"""What a search found, for people: warnings, and what the configuration would say."""

from __future__ import annotations

import sys
import textwrap
from collections import defaultdict
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TENTHS = 10
"""lines of progress at most where no terminal shows them"""


class Ticker:
    """How far long work is: one line that is written over on a terminal, else one a tenth."""

    def __init__(self) -> None:
        self._shown = (0, -1)
        """the total and the tenth of it that a line was written for"""

    def __call__(self, words: dict[str, Any]) -> None:
        """Show what a call tells meanwhile: `text` stays, anything else is how far it is."""
        if "text" in words:
            self.end()
            typer.echo(words["text"], err=True)
            return
        line = f"{words['done']}/{words['total']} {words['words']}"
        if sys.stderr.isatty():
            # a line that is broken in two cannot be written over
            typer.echo(f"\r{line[: _width() - 1]}\x1b[K", err=True, nl=False)
            return
        tenth = words["total"], TENTHS * words["done"] // max(1, words["total"])
        if tenth != self._shown:
            typer.echo(line, err=True)
        self._shown = tenth

    def end(self) -> None:
        """Take the line away that was written over."""
        if sys.stderr.isatty():
            typer.echo("\r\x1b[K", err=True, nl=False)


def warn(devices: Sequence[dict[str, Any]]) -> None:
    """Say what a person must look at: once, of all the devices that it concerns."""
    told: dict[str, list[str]] = defaultdict(list)
    for one in devices:
        for warning in one["warnings"]:
            told[warning].append(one["name"])
    for warning, names in told.items():
        said = f"! {', '.join(names)}: {warning}"
        typer.echo(textwrap.fill(said, _width(), **WHOLE, subsequent_indent="  "), err=True)


def yaml_of(devices: Sequence[dict[str, Any]]) -> str:
    """What the configuration would say, ready to paste; above each device what it is.

    What nobody knows how to read yet stands there as a comment.
    """
    return "".join(f"{line}\n" for line in ("devices:", *_lines(devices)))


def _lines(devices: Sequence[dict[str, Any]]) -> Iterator[str]:
    from agent.config.add import readable, written

    for one in devices:
        about = f"  # {one['about']}"
        yield from textwrap.wrap(about, _width(), **WHOLE, subsequent_indent="  #   ")
        text = written(one["name"], one["entry"], "  ").splitlines()
        yield from text if readable(one["entry"]) else (f"  #{line[1:]}" for line in text)


WHOLE: Any = {"break_long_words": False, "break_on_hyphens": False}


def _width() -> int:
    return get_terminal_size((80, 24)).columns

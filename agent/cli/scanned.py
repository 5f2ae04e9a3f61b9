"""Output for devices that a search or an EDE file lists: progress, warnings, and YAML."""

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
"""how many lines of progress are printed without a terminal"""


class Ticker:
    """Progress of long work: one line that is overwritten on a terminal, else ten lines in all."""

    def __init__(self) -> None:
        self._shown = (0, -1)
        """the total, and the tenth of it, of the last line"""

    def __call__(self, progress: dict[str, Any]) -> None:
        """Show a message of a call: `text` stays, any other message is progress."""
        if "text" in progress:
            self.end()
            typer.echo(progress["text"], err=True)
            return
        line = f"{progress['done']}/{progress['total']} {progress['words']}"
        if sys.stderr.isatty():
            # a line that wraps cannot be overwritten
            typer.echo(f"\r{line[: _width() - 1]}\x1b[K", err=True, nl=False)
            return
        # a log must not get one line for each of thousands of addresses
        tenth = progress["total"], TENTHS * progress["done"] // max(1, progress["total"])
        if tenth != self._shown:
            typer.echo(line, err=True)
        self._shown = tenth

    def end(self) -> None:
        """Erase the line of progress."""
        if sys.stderr.isatty():
            typer.echo("\r\x1b[K", err=True, nl=False)


def warn(devices: Sequence[dict[str, Any]]) -> None:
    """Print each warning once, with all devices that it concerns."""
    devices_by_warning: dict[str, list[str]] = defaultdict(list)
    for device in devices:
        for warning in device["warnings"]:
            devices_by_warning[warning].append(device["name"])
    for warning, names in devices_by_warning.items():
        line = f"! {', '.join(names)}: {warning}"
        typer.echo(textwrap.fill(line, _width(), **WHOLE, subsequent_indent="  "), err=True)


def yaml_of(devices: Sequence[dict[str, Any]]) -> str:
    """Return the devices as YAML for the configuration, with a comment about each.

    A device without anything to read is commented out.
    """
    return "".join(f"{line}\n" for line in ("devices:", *_lines(devices)))


def _lines(devices: Sequence[dict[str, Any]]) -> Iterator[str]:
    from agent.config.add import readable, written

    for device in devices:
        about = f"  # {device['about']}"
        yield from textwrap.wrap(about, _width(), **WHOLE, subsequent_indent="  #   ")
        text = written(device["name"], device["entry"], "  ").splitlines()
        yield from text if readable(device["entry"]) else (f"  #{line[1:]}" for line in text)


# ids and commands stay in one piece, so that people can copy them
WHOLE: Any = {"break_long_words": False, "break_on_hyphens": False}


def _width() -> int:
    return get_terminal_size((80, 24)).columns

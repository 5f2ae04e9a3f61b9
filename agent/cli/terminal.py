"""What all commands share: their options, how they ask, and how they show."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

DEFAULT_CONFIG = Path("/etc/gardien/config.yaml")
DEFAULT_STATE = Path("/var/lib/gardien")

Config = Annotated[
    Path,
    typer.Option("--config", "-c", envvar="GARDIEN_CONFIG", help="The building's one YAML file."),
]
State = Annotated[
    Path | None,
    typer.Option(
        "--state",
        envvar="GARDIEN_STATE",
        help="The state directory; by default the one the configuration names.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="For programs: JSON instead of a table.")]


def state_of(config: Path, state: Path | None) -> Path:
    """The state directory, found without loading the configuration, which may be broken."""
    if state is not None:
        return state
    try:
        text = config.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return DEFAULT_STATE
    named = re.search(r"^state:[ \t]*[\"']?([^\"'#\n]+?)[\"']?[ \t]*(?:#.*)?$", text, re.MULTILINE)
    return (config.parent / named[1]).resolve() if named else DEFAULT_STATE


def ask(config: Path, state: Path | None, call: str, **args: Any) -> dict[str, Any]:
    """The answer to a call, of the daemon or of this process; progress goes to standard error."""
    from agent.local import ask as ask_either

    return ask_either(config, state_of(config, state), call, args, _progress)


def _progress(words: dict[str, Any]) -> None:
    typer.echo(words.get("text", json.dumps(words)), err=True)


def as_json(answer: Any) -> None:
    """Print an answer for programs."""
    typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows for people; it fits the terminal, or 80 columns where there is none."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    width = None if "COLUMNS" in os.environ or os.isatty(1) else 80
    shown = Table(*columns, box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for row in rows:
        shown.add_row(*row)
    Console(width=width, highlight=False, markup=False).print(shown)


def when(stamp: str | None) -> str:
    """A moment as people here say it: today by the time alone, else by the day; `never`."""
    from datetime import datetime

    if stamp is None:
        return "never"
    here = datetime.fromisoformat(stamp).astimezone()
    today = here.date() == datetime.now().astimezone().date()
    return here.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M")


def plural(number: int, word: str) -> str:
    """`1 meter`, `2 meters`."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def text_of(path: Path) -> str:
    """A spreadsheet's text, whatever program wrote it. Raises Refused where it cannot be read."""
    from agent.errors import Refused
    from agent.registry.workbook import text_of as text_in

    try:
        content = path.read_bytes()
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from error
    return text_in(content, str(path))


Preview = Annotated[
    bool, typer.Option("--preview", help="Check the file and show what it would change; no more.")
]


def not_read(answer: dict[str, Any]) -> None:
    """Say which columns were left alone."""
    if names := answer.get("not_read"):
        typer.echo("columns not read: " + ", ".join(names))

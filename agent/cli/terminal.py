"""What all commands share: their options, how they ask, and how they show."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent import atomic_write
from agent import state as packaged
from agent.errors import Refused
from agent.i18n import _

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from zoneinfo import ZoneInfo

DEFAULT_CONFIG, DEFAULT_STATE = packaged.DEFAULT_CONFIG, packaged.PACKAGED
MOST_LABELS = 50
"""dwellings that are named in a line"""
LONGEST_CONFIG = 1_000_000
"""bytes of a configuration that are searched for its state"""

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
As = Annotated[
    str | None,
    typer.Option(
        "--as",
        envvar=["GARDIEN_AS", "SUDO_USER"],
        metavar="NAME",
        help="Who says so, where several people use this account (root).",
        show_default=False,
    ),
]
Since = Annotated[
    str | None,
    typer.Option(help="From when on: 2026-07-12 (00:00) or 2026-07-12T09:30+02:00; default: now."),
]
At = Annotated[
    str | None,
    typer.Option(help="When: 2026-07-12 (00:00) or 2026-07-12T09:30+02:00; default: now."),
]
Language = Annotated[str, typer.Option(help="fr or en.")]
Json = Annotated[bool, typer.Option("--json", help="For programs: JSON instead of a table.")]


def state_of(config: Path, state: Path | None) -> Path:
    """The state directory, found without loading the configuration, which may be broken.

    Raises Refused where a configuration was named that cannot be read: not another gateway's state
    is meant.
    """
    if state is not None:
        return state
    try:
        text = atomic_write.read(config, LONGEST_CONFIG)[0].decode("utf-8", errors="replace")
    except OSError as error:
        if config == DEFAULT_CONFIG:
            return DEFAULT_STATE
        raise Refused(f"{config}: cannot be read: {error.strerror}") from error
    named = re.search(r"^state:[ \t]*[\"']?([^\"'#\n]+?)[\"']?[ \t]*(?:#.*)?$", text, re.MULTILINE)
    return (config.parent / named[1]).resolve() if named else DEFAULT_STATE


def ask(config: Path, state: Path | None, call: str, **args: Any) -> dict[str, Any]:
    """The answer to a call, of the daemon or of this process; progress goes to standard error."""
    from agent.local import ask as ask_either

    return read_here(ask_either(config, state_of(config, state), call, args, _progress))


def read_here(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer, whose moments are shown in the building's zone from now on."""
    _building.update({"timezone": answer["timezone"]} if "timezone" in answer else {})
    return answer


_building: dict[str, str] = {}
"""what answers say of where their dates are read"""


def _progress(words: dict[str, Any]) -> None:
    typer.echo(words.get("text", json.dumps(words)), err=True)


def as_json(answer: Any) -> None:
    """Print an answer for programs."""
    typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], whole: str = "") -> None:
    """Print rows for people; it fits the terminal, or 80 columns where there is none. `whole`: the
    column that is never broken over two lines, since people copy from it.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    width = None if "COLUMNS" in os.environ or os.isatty(1) else 80
    shown = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        # an id that is cut off is of no use
        shown.add_column(column, overflow="fold", no_wrap=column == whole)
    for row in rows:
        shown.add_row(*row)
    Console(width=width, highlight=False, markup=False).print(shown)


def wrapped(sentence: str) -> str:
    """A long sentence in lines that fit the terminal; whole where there is none, for a search."""
    from shutil import get_terminal_size
    from textwrap import fill

    if not os.isatty(1):
        return sentence
    return fill(sentence, get_terminal_size((80, 24)).columns, subsequent_indent="    ")


def when(stamp: str | None) -> str:
    """A moment as the building has it: today by the time alone, else by the day; `never`."""
    from datetime import datetime

    if stamp is None:
        return "never"
    here = datetime.fromisoformat(stamp).astimezone(_zone())
    today = here.date() == datetime.now(here.tzinfo).date()
    return here.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M")


def moment(stamp: str) -> str:
    """A moment as the building has it, with its date and the name of its time zone."""
    from datetime import datetime

    zone = _zone()
    here = datetime.fromisoformat(stamp).astimezone(zone)
    return f"{here:%Y-%m-%d %H:%M:%S} {zone or here.tzname()}"


def _zone() -> ZoneInfo | None:
    """The building's; None, the machine's, where no answer has named it."""
    from zoneinfo import ZoneInfo

    return ZoneInfo(_building["timezone"]) if "timezone" in _building else None


def day(stamp: str | None) -> str:
    """A date as people at the building say it: with the time only where it is not midnight."""
    from datetime import datetime

    if stamp is None:
        return ""
    here = datetime.fromisoformat(stamp).astimezone(_zone())
    return here.strftime("%Y-%m-%d" if here.strftime("%H%M%S") == "000000" else "%Y-%m-%d %H:%M")


def plural(number: int, word: str) -> str:
    """`1 meter`, `2 meters`."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def text_of(path: Path) -> str:
    """A spreadsheet's text, whatever program wrote it. Raises Refused where it cannot be read."""
    from agent.errors import Refused
    from agent.registry.workbook import LARGEST
    from agent.registry.workbook import text_of as text_in

    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from error
    return text_in(content, str(path))


def confirmed(question: str) -> bool:
    """Ask at the terminal; yes in the reader's language or in English, else no."""
    answer: str = typer.prompt(f"{question} {_('[y/N]')}", default="", show_default=False)
    return answer.strip().casefold() in {"y", "yes", _("y"), _("yes")}


def free_names(paths: Sequence[Path]) -> list[Path]:
    """The paths, or with one number behind their names where a file is there already: people may
    have written into that one.
    """
    free, number = list(paths), 1
    while any(path.exists() for path in free):
        number += 1
        free = [path.with_stem(f"{path.stem}-{number}") for path in paths]
    return free


def write_page(path: Path, text: str) -> None:
    """Write a file that only its writer reads. Raises Refused.

    A spreadsheet reads the accents of a CSV file by the mark in front.
    """
    from agent.errors import Refused

    try:
        path.touch(0o600)
        path.chmod(0o600)
        coding = "utf-8-sig" if path.suffix.lower() == ".csv" else "utf-8"
        path.write_text(text.removeprefix("\ufeff"), encoding=coding)
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from error


def form_of(to: Path, *forms: str) -> str:
    """In which of these forms a file is asked for, by how its name ends. Raises Refused."""
    if to.suffix.lower() not in forms:
        names = ", ".join(forms)
        raise Refused(_("--to: {file} must end in one of {forms}", file=to, forms=names))
    return to.suffix.lower()


Preview = Annotated[
    bool, typer.Option("--preview", help="Check the file and show what it would change; no more.")
]


def stands(answer: dict[str, Any]) -> str:
    """What a list says again: `; 3 stand as they were`, or nothing where it says nothing again."""
    many = answer.get("unchanged", 0)
    return f"; {many} {'stands as it was' if many == 1 else 'stand as they were'}" if many else ""


def not_occupied(dwellings: Iterable[dict[str, Any]]) -> None:
    """Say which dwellings are vacant, and of which that is unknown."""
    dated = [one for one in dwellings if one["lived_in_from"] is not None]
    unknown = [
        one["label"]
        for one in dwellings
        if one["occupancy_state"] == "unknown" and one not in dated
    ]
    for one in dwellings:
        if one["occupancy_state"] == "vacant":
            since = day(one["occupancy_state_since"])
            typer.echo(_("{label}: vacant since {since}", label=one["label"], since=since))
    for one in dated:
        begins = day(one["lived_in_from"])
        typer.echo(
            _(
                "{label}: lived in from {day}; nothing personal leaves before",
                label=one["label"],
                day=begins,
            )
        )
    if unknown:
        typer.echo(
            wrapped(
                _(
                    "{labels}: it is unknown whether somebody lives there, and nothing personal"
                    " leaves: gardien occupancy move-in, or import",
                    labels=", ".join(unknown[:MOST_LABELS]) + " …" * (len(unknown) > MOST_LABELS),
                )
            )
        )


def not_read(answer: dict[str, Any]) -> None:
    """Say which columns were left alone."""
    if names := answer.get("not_read"):
        typer.echo("columns not read: " + ", ".join(names))

"""What all commands share: options, calls to the agent, and output."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.core import atomic_write
from agent.core import state as packaged
from agent.core.errors import Refused
from agent.core.i18n import N_, Text, _, in_language, n_, short_date

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from zoneinfo import ZoneInfo

    from agent.registry.doubts import NeedsConfirmation

DEFAULT_CONFIG, DEFAULT_STATE = packaged.DEFAULT_CONFIG, packaged.PACKAGED
HELD = "\ue000"
"""in place of a space at which no line is broken"""
MOST_LABELS = 50
"""how many dwellings one line names"""
LONGEST_CONFIG = 1_000_000
"""bytes of a configuration that are searched for its `state` option"""

Config = Annotated[
    Path,
    typer.Option("--config", "-c", envvar="GARDIEN_CONFIG", help="The configuration file (YAML)."),
]
State = Annotated[
    Path | None,
    typer.Option(
        "--state",
        envvar="GARDIEN_STATE",
        help="The state directory; default: the one in the configuration.",
        show_default=False,
    ),
]
As = Annotated[
    str | None,
    typer.Option(
        "--as",
        envvar=["GARDIEN_AS", "SUDO_USER"],
        metavar="NAME",
        help="Your name, if several people share an account such as root.",
        show_default=False,
    ),
]
Language = Annotated[str, typer.Option(help="Language: fr or en.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def state_of(config: Path, state: Path | None) -> Path:
    """Return the state directory, without loading the configuration, which may have mistakes.

    Raises Refused if a configuration other than the default one cannot be read.
    """
    if state is not None:
        return state
    try:
        text = atomic_write.read(config, LONGEST_CONFIG)[0].decode("utf-8", errors="replace")
    except OSError as error:
        if config == DEFAULT_CONFIG:
            return DEFAULT_STATE
        # with the default state, the command would act on another gateway than the one named
        raise Refused("{path}: cannot be read: {reason}", path=config, reason=error) from error
    # the loader would refuse a file with mistakes, and then no command could reach the agent
    named = re.search(r"^state:[ \t]*[\"']?([^\"'#\n]+?)[\"']?[ \t]*(?:#.*)?$", text, re.MULTILINE)
    return (config.parent / named[1]).resolve() if named else DEFAULT_STATE


def ask(config: Path, state: Path | None, call: str, **args: Any) -> dict[str, Any]:
    """Make a call and return its answer: the daemon's, or this process's if no daemon runs.

    Progress goes to standard error. Doubtful values are asked for at a terminal; without one, and
    for a list, Refused is raised with the questions (rule I30).
    """
    return ask_watching(config, state, call, args, show_progress)


def ask_watching(
    config: Path,
    state: Path | None,
    call: str,
    args: dict[str, Any],
    progress: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """As `ask`, with the progress to another function."""
    from agent.local import ask as ask_either
    from agent.registry.doubts import NeedsConfirmation

    folder = state_of(config, state)
    typed = ".".join(sys.argv[1:3])
    while True:
        try:
            return read_here(ask_either(config, folder, call, args, progress, typed))
        except NeedsConfirmation as doubtful:
            confirmed_values = _ask_which_is_meant(doubtful)
            if not confirmed_values:
                raise Refused(doubtful.in_language()) from None
            args["confirm"] = [*args.get("confirm", ()), *confirmed_values]


def _ask_which_is_meant(doubtful: NeedsConfirmation) -> list[str]:
    """Ask for each doubtful value of a single command, and return those that a person has typed
    again. Empty without a terminal, and for a list.

    Raises Refused if a person types anything else.
    """
    if not sys.stdin.isatty() or doubtful.more or any(doubt.where for doubt in doubtful.doubts):
        return []
    for doubt in doubtful.doubts:
        # standard output may be a file, with the answer as JSON
        typer.echo(wrapped(doubt.question.in_language()), err=True)
        prompt = _("Type the value that is meant:")
        typed: str = typer.prompt(
            prompt, default="", show_default=False, prompt_suffix=" ", err=True
        )
        if not doubt.is_meant(typed):
            raise Refused(
                _(
                    "nothing was recorded. Repeat the command with the value that is meant, such"
                    " as {other}",
                    other=quote(doubt.other),
                )
            )
    return [doubt.value for doubt in doubtful.doubts]


def read_here(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the answer; from now on, times are shown in the time zone that it names."""
    _answer_facts.update({"timezone": answer["timezone"]} if "timezone" in answer else {})
    return answer


_answer_facts: dict[str, str] = {}
"""the building's `timezone`, once an answer has named it"""


def show_progress(progress: dict[str, Any]) -> None:
    """Show a message of a call on standard error."""
    typer.echo(in_language(progress.get("text", json.dumps(progress))), err=True)


def as_json(answer: Any) -> None:
    """Print an answer for programs."""
    typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))


def measured(channel: str) -> str:
    """What a channel measures, in a word; the channel's id where there is none."""
    from agent.core.quantities import MEASURED

    return _(MEASURED.get(channel) or channel)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    whole: str = "",
    *,
    aside: bool = False,
) -> None:
    """Print rows that fit the terminal, or 80 columns if there is no terminal.

    `whole`: the column that is never broken over two lines, because people copy from it. `aside`:
    to standard error, beside what people redirect into a file.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    # with markup, a label such as would be taken for a style and disappear
    console = Console(
        width=None if "COLUMNS" in os.environ or os.isatty(1 + aside) else 80,
        highlight=False, markup=False, stderr=aside,
    )  # fmt: skip
    shown = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    lines = [[in_language(cell) for cell in row] for row in rows]
    widths = _widths(columns, lines, console.width - 3 * len(columns) - 1, whole)
    for column, width in zip(columns, widths, strict=True):
        # an id that is cut off is of no use
        shown.add_column(
            column, overflow="fold", no_wrap=bool(whole) and column == whole, width=width
        )
    for line in lines:
        shown.add_row(*line)
    console.print(shown)


def _widths(
    columns: Sequence[str], lines: Sequence[Sequence[str]], room: int, whole: str
) -> list[int | None]:
    """The widths with which no word is broken, or only the longest; None for each: all fits."""
    cells = list(zip(columns, *lines, strict=True))
    most = [max(map(len, column)) for column in cells]
    widths = [
        max(len(word) for cell in column for word in (cell.split() or ("",))) for column in cells
    ]
    kept = columns.index(whole) if whole else -1
    if whole:
        widths[kept] = most[kept]
    if sum(most) <= room or room < len(columns) + (widths[kept] if whole else 0):
        return [None] * len(columns)
    heads = [max(map(len, column.split()), default=0) for column in columns]
    while sum(widths) > room:  # only the longest words are broken, and those of headings last
        widths[
            max(
                range(len(columns)),
                key=lambda at: (at != kept, widths[at] > heads[at], widths[at]),
            )
        ] -= 1
    for _spare in range(room - sum(widths)):  # to the column that needs most lines
        wanting = max(range(len(columns)), key=lambda at: most[at] / max(1, widths[at]))
        widths[wanting] += 1
    return [*widths]


def wrapped(sentence: str) -> str:
    """Break a sentence into lines that fit the terminal. Without a terminal it stays one line, so
    that grep finds it.
    """
    from shutil import get_terminal_size

    if not os.isatty(1):
        return sentence
    return broken(sentence, get_terminal_size((80, 24)).columns)


def broken(sentence: str, width: int) -> str:
    """Break a sentence into lines, but no label or option, and no punctuation from its word."""
    from re import sub
    from textwrap import fill

    joined = sub(r" (?=[»:;?!])|(?<=«) ", "\0", sentence)
    # what people copy, such as a command or a path, stays whole
    lines = fill(
        joined, width, subsequent_indent="    ", break_on_hyphens=False, break_long_words=False
    )
    return lines.replace("\0", " ")


def when(stamp: str | None) -> str:
    """Return a time in the building's time zone: for today `HH:MM:SS`, else date and time; `never`
    for None.
    """
    from datetime import datetime

    if stamp is None:
        return _("never")
    here = datetime.fromisoformat(stamp).astimezone(zone_of_answers())
    today = here.date() == datetime.now(here.tzinfo).date()
    return here.strftime("%H:%M:%S") if today else short_date(here)


def moment(stamp: str) -> str:
    """Return date and time in the building's time zone, with the name of the zone."""
    from datetime import datetime

    zone = zone_of_answers()
    here = datetime.fromisoformat(stamp).astimezone(zone)
    return f"{short_date(here.date())} {here:%H:%M:%S} {zone or here.tzname()}"


def zone_of_answers() -> ZoneInfo | None:
    """Return the building's time zone; None, the machine's, if no answer has named it."""
    from zoneinfo import ZoneInfo

    return ZoneInfo(_answer_facts["timezone"]) if "timezone" in _answer_facts else None


def day(stamp: str | None) -> str:
    """Return a date in the building's time zone, with the time unless it is midnight."""
    from datetime import datetime

    if stamp is None:
        return ""
    here = datetime.fromisoformat(stamp).astimezone(zone_of_answers())
    return short_date(here.date() if here.strftime("%H%M%S") == "000000" else here)


def plural(number: int, noun: str) -> str:
    """`1 meter`, `2 meters`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def text_of(
    path: Path,
    columns: Sequence[str] = (),
    sheet: str = "",
    tell: Callable[[str, Sequence[str]], None] | None = None,
) -> str:
    """Return the text of a CSV or .xlsx file. Raises Refused if it cannot be read.

    `columns`: the headings by which a sheet of a workbook is chosen; `sheet`: the name of one.
    `tell`: gets the sheet that was chosen, and the others; default: they are printed.
    """
    from agent.registry.sheet import unrecorded
    from agent.registry.workbook import LARGEST
    from agent.registry.workbook import text_of as text_in

    try:
        with path.open("rb") as file:
            # one byte more than allowed, so that `text_in` refuses a file that is larger
            content = file.read(LARGEST + 1)
        return text_in(content, str(path), columns, sheet, tell or _tell_sheet)
    except OSError as error:
        text = Text("{path}: {reason}", path=path, reason=error)
        raise Refused(unrecorded(text)) from error
    except Refused as error:
        raise Refused(unrecorded(error.text)) from error


def _tell_sheet(chosen: str, others: Sequence[str]) -> None:
    """Say which sheet of a workbook is read."""
    typer.echo(
        _(
            'reading the sheet "{sheet}"; not read: {others}. For another one: --sheet NAME',
            sheet=chosen,
            others=", ".join(others),
        ),
        err=True,
    )


def confirmed(question: str) -> bool:
    """Ask at the terminal. Only y or yes, in the reader's language or in English, confirms."""
    # typer.confirm understands only English answers
    answer: str = typer.prompt(f"{question} {_('[y/N]')}", default="", show_default=False)
    return answer.strip().casefold() in {"y", "yes", _("y"), _("yes")}


def free_names(paths: Sequence[Path]) -> list[Path]:
    """Return paths at which no file exists: the given ones, or all with the same number added.

    People may have written answers into an existing file, so it is never overwritten.
    """
    free, number = list(paths), 1
    while any(path.exists() for path in free):
        number += 1
        free = [path.with_stem(f"{path.stem}-{number}") for path in paths]
    return free


def write_page(path: Path, text: str) -> None:
    """Write a file that only its owner may read. Raises Refused."""
    # without the byte order mark, spreadsheet programs show accents wrongly; a text that has one
    # already would get a second one, which shows as a character
    mark = "\ufeff" if path.suffix.lower() == ".csv" else ""
    write_file(path, (mark + text.removeprefix("\ufeff")).encode(), 0o600)


def write_file(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Write or replace a file. It is on the disk as a whole when this returns.

    Raises Refused; then an earlier file is as it was.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe, or /dev/stdout
            path.write_bytes(content)
            return
        path = path.resolve()
        made = path.with_name(f".{path.name}.new")
        made.unlink(missing_ok=True)
        handle = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(handle)  # a memory stick is pulled out soon after
            made.replace(path)
        except BaseException:
            made.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Refused("{path}: {reason}", path=path, reason=error) from error


def make_folder(path: Path) -> None:
    """Make a folder to write pages to, if it is not there. Raises Refused."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused("{path}: {reason}", path=path, reason=error) from error


def suffix_of(to: Path, *forms: str, option: str = "--to") -> str:
    """Return the suffix of a file name. Raises Refused if it is not one of `forms`."""
    if to.suffix.lower() not in forms:
        names = ", ".join(forms)
        raise Refused(
            "{option}: {file} must end in one of {forms}", option=option, file=to, forms=names
        )
    return to.suffix.lower()


Preview = Annotated[
    bool, typer.Option("--preview", help="Only check the file and show what it would change.")
]


RECORDED = N_("{many} recorded{unchanged}")
WOULD_BE_RECORDED = N_("{many} would be recorded{unchanged}")


def unchanged(answer: dict[str, Any]) -> str:
    """Return `; 3 unchanged` for entries that were recorded before, or an empty text."""
    many = answer.get("unchanged", 0)
    return _("; {many} unchanged", many=many) if many else ""


def show_not_occupied(dwellings: Iterable[dict[str, Any]]) -> None:
    """Print which dwellings are vacant, and which have an unknown occupancy."""
    from agent.registry.records import occupancy_unknown

    dated = [dwelling for dwelling in dwellings if dwelling["lived_in_from"] is not None]
    unknown = [
        dwelling["label"]
        for dwelling in dwellings
        if dwelling["occupancy_state"] == "unknown" and dwelling not in dated
    ]
    for dwelling in dwellings:
        if dwelling["occupancy_state"] == "vacant":
            since = day(dwelling["occupancy_state_since"])
            typer.echo(_("{label}: vacant since {since}", label=dwelling["label"], since=since))
    for dwelling in dated:
        begins = day(dwelling["lived_in_from"])
        typer.echo(
            _(
                "{label}: occupied from {day}; no personal data is sent before",
                label=dwelling["label"],
                day=begins,
            )
        )
    if unknown:
        labels = [*unknown[:MOST_LABELS], *["…"][: len(unknown) > MOST_LABELS]]
        record = _("Record it: gardien occupancy move-in, or gardien occupancy import")
        typer.echo(wrapped(f"{occupancy_unknown(labels).in_language()}. {record}"))


def show_ignored_columns(answer: dict[str, Any]) -> None:
    """Print the columns that were ignored."""
    if names := answer.get("not_read"):
        typer.echo(_("columns ignored: {names}", names=", ".join(names)))


MOST_ROWS = 20
"""rows that are shown for each reason"""


def show_left_out(rows: Sequence[dict[str, str]]) -> None:
    """Print which rows are left out, by reason."""
    from agent.registry.remarks import LEFT_OUT

    for why in dict.fromkeys(row["why"] for row in rows):
        these = [row for row in rows if row["why"] == why]
        count = n_("left out: {number} row", "left out: {number} rows", len(these))
        typer.echo(wrapped(f"{count}, {_(LEFT_OUT[why])}"))
        for row in these[:MOST_ROWS]:
            typer.echo(f"    {row['where'].rpartition(':')[2]}: {row['what']}")
        if len(these) > MOST_ROWS:
            typer.echo(f"    … {len(these) - MOST_ROWS}")

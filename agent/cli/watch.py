"""`gardien watch`: live values in the terminal, problems first."""

from __future__ import annotations

import json as encoding
import os
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.terminal import (
    DEFAULT_CONFIG,
    As,
    Config,
    Json,
    State,
    broken,
    measured,
    read_here,
    state_of,
)
from agent.cli.terminal import when as shown_time
from agent.core.errors import Refused
from agent.core.finding import Finding, worst_first
from agent.core.i18n import N_, _, in_language, n_
from agent.core.quantities import spoken

if TYPE_CHECKING:
    from collections.abc import Iterator

Answer = dict[str, Any]
WIDE, HIGH = 80, 24
ROOM = 16
"""columns of what a point measures"""
CLEAR_LINE, HOME, CLEAR_BELOW = "\x1b[K", "\x1b[H", "\x1b[J"
CLEAR, HIDE, SHOW = "\x1b[2J", "\x1b[?25l", "\x1b[?25h"
WHY = {"silent": N_("silent"), "link": N_("link"), "bad": N_("bad"), "busy": N_("busy")}


def watch(
    every: Annotated[float, typer.Option(help="Seconds between two looks.")] = 2.0,
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Show the last value of each meter while the agent reads them, problems first.

    In a pipe it prints a line for each new value (--json: as JSON). Ctrl-C ends it. Only installers
    see the values of dwellings; each access is logged.
    """
    from agent.local import ask_daemon

    folder, live = state_of(config, state), os.isatty(1) and not json
    seen: dict[str, Any] = {}
    try:
        if live:
            sys.stdout.write(HIDE + CLEAR)
        while True:
            answer = ask_daemon(folder, "status", {"named": named}, lambda _: None)
            if answer is None:
                raise Refused(
                    "gardien is not running, so there is nothing to watch: sudo systemctl start"
                    " gardien"
                )
            read_here(answer)
            values = list(_values(answer))
            if live:
                _draw(answer, values)
            else:
                _print_new(answer, values, seen, json=json)
            sys.stdout.flush()
            time.sleep(max(every, 0.1))
    except KeyboardInterrupt:
        return
    finally:
        if live:
            sys.stdout.write(SHOW + "\n")


def _values(answer: Answer) -> Iterator[Answer]:
    """Yield the last value of each point, problems first, then by line and device."""
    rows = [
        {
            "line": device["link"],
            "device": name,
            "place": device["place"],
            "point": point,
            "channel": value["channel"],
            "value": value["value"],
            "unit": value["unit"],
            "at": value["at"],
            "why": value["why"] or ("silent" if device["failures"] else None),
            "problem": device["said"],
        }
        for name, device in answer["devices"].items()
        for point, value in (device["latest"] or {"": NEVER}).items()
    ]
    yield from sorted(rows, key=lambda row: (not row["why"], row["line"], row["device"]))


NEVER = {"channel": None, "value": None, "unit": "", "at": None, "why": None}
"""of a device that was not read yet"""


def _draw(answer: Answer, values: list[Answer]) -> None:
    """Draw one screen over the last one: each line is overwritten, so nothing flickers."""
    try:
        wide, high = os.get_terminal_size(1)
    except OSError:
        wide, high = WIDE, HIGH
    lines = [*_lines(answer, values)]
    if len(lines) > high - 1:
        more = len(lines) - (high - 2)
        lines = [*lines[: high - 2], n_("… {number} more line", "… {number} more lines", more)]
    text = "\n".join(line[: wide - 1] + CLEAR_LINE for line in lines)
    sys.stdout.write(f"{HOME}{text}\n{CLEAR_BELOW}")


def _lines(answer: Answer, values: list[Answer]) -> Iterator[str]:
    silent = len({row["device"] for row in values if row["why"]})
    yield _(
        "{building}  {time}  {answering} of {devices} devices answer  (Ctrl-C ends)",
        building=answer["building"],
        time=shown_time(answer["now"]),
        answering=len(answer["devices"]) - silent,
        devices=len(answer["devices"]),
    )
    for finding in worst_first(map(Finding.of, answer["events"])):
        if finding.fine is False:
            yield from broken(f"! {finding.what.in_language()}", WIDE - 1).splitlines()[:2]
    yield ""
    for row in values:
        yield _row(row)


def _row(row: Answer) -> str:
    sign = "!" if row["why"] else " "
    place = row["place"] or ""
    name = row["device"] if not place else f"{place} {row['device']}"
    value = _shown(row)
    at = shown_time(row["at"]) if row["at"] else _("not read yet")
    point = row["channel"] or row["point"]
    if len(measured(point)) <= ROOM:  # a name that is cut is of no use
        point = measured(point)
    return f"{sign} {name[:30]:<30} {point[:ROOM]:<{ROOM}} {value[:18]:>18} {at:>9}"


def _shown(row: Answer) -> str:
    from agent.control.history import number

    if row["why"]:
        return _(WHY.get(row["why"]) or row["why"])
    if row["value"] is None:
        return "–"
    return f"{in_language(number(row['value']))} {spoken(row['unit'])}"


def _print_new(answer: Answer, values: list[Answer], seen: dict[str, Any], *, json: bool) -> None:
    """Print what is new since the last look: findings first."""
    for finding in answer["events"]:
        subject, text = Finding.of(finding).subject, Finding.of(finding).what
        key = f"{finding['code']} {subject}"
        if seen.get(key) != text:
            seen[key] = text
            if Finding.of(finding).fine is False:
                typer.echo(
                    encoding.dumps({"finding": finding["code"], "text": str(text)},
                                   ensure_ascii=False)
                    if json
                    else f"! {text.in_language()}"
                )  # fmt: skip
    for row in values:
        key = f"{row['device']}/{row['point']}"
        if seen.get(key) != (row["at"], row["why"]):
            seen[key] = row["at"], row["why"]
            typer.echo(encoding.dumps(row, ensure_ascii=False) if json else _row(row).rstrip())

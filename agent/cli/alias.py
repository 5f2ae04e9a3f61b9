"""`gardien place alias`: the names that other systems use for places."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.terminal import (
    DEFAULT_CONFIG,
    As,
    At,
    Config,
    Json,
    Preview,
    Since,
    State,
    as_json,
    ask,
    day,
    plural,
    show_ignored_columns,
    table,
    text_of,
    unchanged,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    no_args_is_help=True,
    help="Record aliases: the names that other systems use for places (PRM, lot, …).",
)

Place = Annotated[str, typer.Argument(help="The place's label or id.")]
SchemeWord = Annotated[
    str,
    typer.Argument(
        metavar="SCHEME", help="The scheme: PRM, PCE, lot, RNB, fr.invariant, bis:desigo, …"
    ),
]


def _show(aliases: Sequence[dict[str, Any]]) -> None:
    rows = [
        (a["label"], a["said"], a["value"], a["note"], day(a["since"]), day(a["until"]))
        for a in aliases
    ]
    table(("place", "scheme", "value", "", "since", "until"), rows)


@app.command()
def add(
    place: Place,
    scheme: SchemeWord,
    value: Annotated[str, typer.Argument(help="The name in that system.")],
    since: Since = None,
    until: Annotated[str | None, typer.Option(help="End; default: none.")] = None,
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Record an alias: the name that another system uses for a place."""
    fields = {"place": place, "scheme": scheme, "value": value, "since": since, "until": until}
    answer = ask(config, state, "alias.add", named=as_, **fields)
    as_json(answer) if json else _show(answer["aliases"])


@app.command()
def end(
    place: Place,
    scheme: SchemeWord,
    value: Annotated[str | None, typer.Argument(help="Which alias, if there are several.")] = None,
    at: At = None,
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Record that an alias of a place is no longer valid."""
    fields = {"place": place, "scheme": scheme, "value": value, "at": at}
    answer = ask(config, state, "alias.end", named=as_, **fields)
    as_json(answer) if json else _show(answer["aliases"])


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="CSV or .xlsx with the columns place;scheme;value.")],
    preview: Preview = False,
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Record the aliases in a spreadsheet: all rows or none."""
    fields = {"text": text_of(file), "name": str(file), "preview": preview}
    answer = ask(config, state, "alias.import", named=as_, **fields)
    if json:
        as_json(answer)
        return
    if answer["aliases"]:
        _show(answer["aliases"])
    done = "would be recorded" if preview else "recorded"
    typer.echo(f"{plural(len(answer['aliases']), 'name')} {done}{unchanged(answer)}")
    show_ignored_columns(answer)


@app.command("list")
def list_(
    place: Annotated[str, typer.Argument(help="Only this place.", show_default=False)] = "",
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """List all aliases of places, including those that are no longer valid."""
    answer = ask(config, state, "alias.list", place=place)
    as_json(answer) if json else _show(answer["aliases"])

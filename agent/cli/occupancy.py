"""`gardien occupancy`: who lives where from when to when, without their names."""

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
    not_read,
    plural,
    table,
    text_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    no_args_is_help=True, help="Who lives where from when to when. Nobody's name is known here."
)

Dwelling = Annotated[str, typer.Argument(help="The dwelling's label or id.")]
Id = Annotated[str | None, typer.Option("--id", metavar="H…", help="This one of its occupancies.")]
Reference = Annotated[str | None, typer.Option(help="Your own, such as the number of the lease.")]


def _show(occupancies: Sequence[dict[str, Any]]) -> None:
    rows = [
        (o["label"], o["reference"] or "–", o["shown"], day(o["since"]), _until(o))
        for o in occupancies
    ]
    table(("dwelling", "your reference", "occupancy", "since", "until"), rows)


def _until(occupancy: dict[str, Any]) -> str:
    return "never" if occupancy.get("never") else day(occupancy["until"])


@app.command("move-in")
def move_in(
    dwelling: Dwelling,
    since: Since = None,
    until: Annotated[str | None, typer.Option(help="Until when; default: open.")] = None,
    reference: Reference = None,
    id: Annotated[  # noqa: A002 -- the word people write
        str | None, typer.Option("--id", metavar="H…", help="An id minted elsewhere.")
    ] = None,
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Record that somebody moves in. Who lived there before must have moved out."""
    words = {"place": dwelling, "since": since, "until": until, "reference": reference, "id": id}
    answer = ask(config, state, "occupancy.move_in", named=as_, **words)
    as_json(answer) if json else _show(answer["occupancies"])


@app.command("move-out")
def move_out(
    dwelling: Dwelling,
    at: At = None,
    id: Id = None,  # noqa: A002
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Record that who lives there moves out, or did: what was sent since is taken back."""
    answer = ask(config, state, "occupancy.move_out", named=as_, place=dwelling, at=at, id=id)
    as_json(answer) if json else _show(answer["occupancies"])


@app.command()
def correct(
    dwelling: Dwelling,
    since: Annotated[str | None, typer.Option(help="They moved in then.")] = None,
    until: Annotated[str | None, typer.Option(help="They moved out then; as since: never.")] = None,
    stays: Annotated[
        bool, typer.Option("--stays", help="They have not moved out: it was a mistake.")
    ] = False,
    reference: Reference = None,
    id: Id = None,  # noqa: A002
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Record that somebody lived there at other times than was said."""
    words = {"place": dwelling, "since": since, "until": until, "reference": reference, "id": id}
    answer = ask(config, state, "occupancy.correct", named=as_, stays=stays, **words)
    if json:
        as_json(answer)
        return
    _show(answer["occupancies"])
    if stays:
        typer.echo("read from now on by their consents; what was destroyed meanwhile is gone")


@app.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(help="CSV or .xlsx with the columns dwelling;reference;since;until."),
    ],
    preview: Preview = False,
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Take over your list of leases, known ones brought up to date: the whole file or nothing."""
    words = {"text": text_of(file), "name": str(file), "preview": preview}
    answer = ask(config, state, "occupancy.import", named=as_, **words)
    if json:
        as_json(answer)
        return
    if answer["occupancies"]:
        _show(answer["occupancies"])
    done = "would be recorded" if preview else "recorded; all others stand as they were"
    typer.echo(f"{plural(len(answer['occupancies']), 'change')} {done}")
    not_read(answer)


@app.command("list")
def list_(
    dwelling: Annotated[str, typer.Argument(help="Only this one.", show_default=False)] = "",
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """List who lives and lived where."""
    answer = ask(config, state, "occupancy.list", place=dwelling)
    as_json(answer) if json else _show(answer["occupancies"])

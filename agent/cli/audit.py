"""`gardien audit`: the chain of what was decided here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.cli.terminal import DEFAULT_CONFIG, Config, Json, State, as_json, plural, state_of, when

app = typer.Typer(no_args_is_help=True, help="The chain of what was decided here.")


@app.callback()
def _group() -> None:
    """Keep `verify` a word of its own though it stands alone."""


@app.command()
def verify(
    place: Annotated[
        Path | None,
        typer.Argument(help="A copy of the folder `audit` or a file of it; default: this state's."),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option("--hash", help="What a batch says in `audit`: must be in the chain."),
    ] = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Follow the chain from record to record: nothing was changed or taken out. Works offline."""
    from agent.authority import audit
    from agent.errors import Refused

    found = audit.verify(place or state_of(config, state) / audit.FOLDER)
    if batch is not None and batch not in found.hashes:
        raise Refused(f"no record at hand has the hash {batch}: the chain is another, or was cut")
    if json:
        as_json(
            {"first": found.first, "last": found.last, "begun": found.begun, "hash": found.hash,
             "torn": found.torn}
        )  # fmt: skip
        return
    count = found.last - found.first + 1 if found.last else 0
    span = f"{found.first} to {found.last}, since {when(found.begun)}"
    typer.echo(f"{plural(count, 'record')}, {span}")
    typer.echo(f"each follows from the one before; hash of the last: {found.hash}")
    if found.torn:
        typer.echo(f"{found.torn} bytes of an unfinished record follow: a power cut left them")

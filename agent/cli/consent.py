"""`gardien consent`: what the people of a dwelling let whom have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.terminal import (
    DEFAULT_CONFIG,
    Config,
    Json,
    State,
    as_json,
    ask,
    plural,
    table,
    text_of,
    when,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    no_args_is_help=True, help="What the people of a dwelling let whom have. Without it: nothing."
)


def _show(consents: Sequence[dict[str, Any]]) -> None:
    rows = [
        (c["label"], c["recipient"], ", ".join(c["channels"]), f"{c['step']} s",
         when(c["until"]) if c["in_force"] else "not in force")
        for c in consents
    ]  # fmt: skip
    table(("place", "recipient", "channels", "finest", "until"), rows)


@app.command()
def give(
    places: Annotated[
        list[str] | None, typer.Argument(help="Labels or ids of dwellings.", show_default=False)
    ] = None,
    recipient: Annotated[str, typer.Option(help="Who may have it, by its DNS name.")] = ...,  # type: ignore[assignment]
    channel: Annotated[list[str], typer.Option(help="A quantity; may be repeated.")] = ...,  # type: ignore[assignment]
    purpose: Annotated[str, typer.Option(help="For what, one purpose.")] = ...,  # type: ignore[assignment]
    step: Annotated[str, typer.Option(help="Nothing finer than this.")] = "30min",
    file: Annotated[
        Path | None, typer.Option(help="CSV with a column place or label, UTF-8.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="From when on; default: now.")] = None,
    until: Annotated[
        str | None, typer.Option(help="Until when; default and most: 36 months.")
    ] = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Record what the people living in one or more dwellings have agreed to."""
    answer = ask(
        config, state, "consent.give",
        places=places or [], recipient=recipient, channels=channel, purpose=purpose, step=step,
        text=text_of(file) if file else None, name=str(file or ""), since=since, until=until,
    )  # fmt: skip
    if json:
        as_json(answer)
    else:
        _show(answer["consents"])
        typer.echo(f"{plural(len(answer['consents']), 'consent')} recorded")


@app.command("list")
def list_(config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False) -> None:
    """List all consents, those in force and those that are not."""
    answer = ask(config, state, "consent.list")
    as_json(answer) if json else _show(answer["consents"])

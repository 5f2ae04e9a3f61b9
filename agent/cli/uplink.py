"""`gardien uplink`: where readings go, and how a way there is closed."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from agent.cli.terminal import (
    DEFAULT_CONFIG,
    As,
    Config,
    Json,
    State,
    as_json,
    ask,
    plural,
    table,
    when,
)

app = typer.Typer(
    no_args_is_help=True,
    help="Where readings go, how refused batches are sent again, and how an uplink is closed.",
)

LOOK = 2.0
"""seconds between two looks at what still waits"""


@app.command("list")
def listed(config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False) -> None:
    """List the uplinks, what waits for each, and what waits for recipients without one."""
    answer = ask(config, state, "uplink.list")
    if json:
        as_json(answer)
        return
    for name, one in answer["uplinks"].items():
        typer.echo(f"{name} delivers to {one['recipient']}")
    if answer["uplinks"]:
        table(
            ("uplink", "over", "connected", "last receipt", "waiting"),
            [_row(name, one) for name, one in answer["uplinks"].items()],
        )
    for name, one in answer["uplinks"].items():
        if one["closing"]:
            typer.echo(f"{name} is being closed: nothing more is kept for {one['recipient']}")
        if one["moved"]:
            typer.echo(_way(name, one["moved"]))
        if one["receipt"] == "broker":
            typer.echo(f"{name} goes by its broker's word alone, which is weaker")
    for recipient, waits in answer["left"].items():
        typer.echo(
            f"! {plural(waits, 'value')} for {recipient}, which no uplink names: put it back, or"
            f" gardien uplink close {recipient} --drop"
        )


@app.command()
def close(
    name: Annotated[str, typer.Argument(help="The uplink, or a recipient that has none any more.")],
    drain: Annotated[bool, typer.Option("--drain", help="Deliver what waits, and wait.")] = False,
    drop: Annotated[bool, typer.Option("--drop", help="Destroy what waits.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether it is meant.")] = False,
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Keep nothing more for a recipient, so that its uplink can be taken out of the file.

    Nothing is kept for it from now on, also after a restart, until its uplink is gone.
    """
    if drain == drop:
        raise typer.BadParameter("say --drain (deliver what waits) or --drop (destroy it)")
    if drop and not yes:
        typer.confirm(f"Destroy all that waits for {name}? It cannot be brought back", abort=True)
    how = "drop" if drop else "drain"
    answer = ask(config, state, "uplink.close", named=named, name=name, how=how)
    if drain:
        _until_empty(config, state, name, answer["waits"])
        answer["waits"] = 0
    if json:
        as_json(answer)
        return
    if answer["dropped"]:
        typer.echo(f"{plural(answer['dropped'], 'value')} destroyed")
    typer.echo(f"nothing waits; take uplinks.{name} out of the configuration, then gardien reload")


@app.command()
def retry(
    name: Annotated[str, typer.Argument(help="The uplink.")],
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Send batches that were refused once more, at once.

    New batches are made as large as configured again. Use it when what refused them is put right:
    the size that a proxy lets through, or the platform.
    """
    answer = ask(config, state, "uplink.retry", named=named, name=name)
    if json:
        as_json(answer)
        return
    if not answer["batches"]:
        typer.echo(f"no batch of {name} is refused; new ones are made as large as configured")
        return
    when_sent = "now" if answer["connected"] else f"once {name} is connected"
    number = answer["batches"]
    typer.echo(
        f"{number} {'batch' if number == 1 else 'batches'} sent again {when_sent};"
        " gardien status shows what is still refused"
    )


def _way(name: str, moved: dict[str, Any]) -> str:
    if moved["proved"]:
        return f"{name} has moved to {moved['to']}: write it as its url"
    return f"{name} is to move to {moved['to']}, which has not proved itself yet"


def _until_empty(config: Config, state: State, name: str, waits: int) -> None:
    told = -1
    while waits:
        if waits != told:
            typer.echo(f"{plural(waits, 'value')} still to be delivered", err=True)
            told = waits
        time.sleep(LOOK)
        waits = int(ask(config, state, "uplink.list")["uplinks"][name]["waits"])


def _row(name: str, one: dict[str, Any]) -> tuple[str, ...]:
    if "waits" not in one:
        return name, one["transport"], "not running", "–", "–"
    connected = "yes" if one["connected_since"] else "no"
    return (
        name, one["transport"], connected, when(one["last_receipt"]),
        plural(one["waits"], "value"),
    )  # fmt: skip

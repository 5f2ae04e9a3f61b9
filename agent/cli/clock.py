"""`gardien clock`: the gateway's clock, what confirms it, and the reset after a wrong time."""

from __future__ import annotations

import sys
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
    moment,
    table,
    when,
)
from agent.core.errors import Refused

app = typer.Typer(
    invoke_without_command=True,
    help="Show the clock and what confirms it; have readings with wrong dates erased.",
)


@app.callback()
def clock(
    context: typer.Context,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Show the clock: what confirms it, its earliest time, closed slots, its last jumps."""
    if context.invoked_subcommand is not None:
        return
    answer = ask(config, state, "clock.show")
    as_json(answer) if json else _show(answer)


@app.command()
def reset(
    wrong_since: Annotated[
        str,
        typer.Option(help="When the clock became wrong, in the true time: 2026-07-12T09:30."),
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Skip confirmation.")] = False,
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Declare that the clock is correct at present, and was wrong from --wrong-since until now.

    Platforms are asked to erase the readings of that time, and its slots are reported as missing
    (`clock`). Reading continues from now. The declaration is recorded in the audit chain.
    """
    if not yes:
        # without a terminal the prompt would take a script's next line for a person's answer
        if not sys.stdin.isatty():
            raise Refused("this erases readings: confirm it at a terminal, or add --yes")
        _show(ask(config, state, "clock.show"))
        question = f"Is the clock correct at present, and was it wrong since {wrong_since}?"
        typer.confirm(question, abort=True)
    args = {"wrong_since": wrong_since, "named": named}
    answer = ask(config, state, "clock.reset", **args)
    if json:
        as_json(answer)
        return
    for recipient in answer["done"]:
        ahead = f"; slots were closed {_distance(recipient['ahead'])}" if recipient["ahead"] else ""
        typer.echo(f"{recipient['recipient']}: {recipient['series']} series retracted{ahead}")


def _show(answer: dict[str, Any]) -> None:
    source, steps = answer["vouched"], answer["steps"]
    by = f"{source['by']}, {when(source['at'])}" if source else "nothing yet"
    typer.echo(f"clock {moment(answer['now'])}, {answer['trust']}; confirmed by {by}")
    typer.echo(f"times before {when(answer['floor'])} are never trusted")
    if answer["marks"]:
        rows = [
            (name, entry["recipient"], when(entry["last"]), _distance(entry["ahead"]))
            for name, entry in answer["marks"].items()
        ]
        table(("uplink", "recipient", "slots closed until", "distance"), rows)
    for entry in steps:
        typer.echo(f"jump of {entry['seconds']:+,d} s at {when(entry['at'])}")
    if answer["said"]:
        typer.echo(f"! readings wait without a date: {answer['said']}")
    if any(entry["ahead"] > 0 for entry in answer["marks"].values()):
        typer.echo(
            "! Slots are closed beyond the current time, so new readings wait. If the clock is"
            " wrong, repair the time service. If it is correct, do nothing in two cases: a time"
            " service and the platform's signed time agree with it, or it was moved and moved back"
            " without a reboot. In all other cases: gardien clock reset --wrong-since WHEN"
        )


def _distance(seconds: int) -> str:
    from agent.core.clock import span_of

    return f"{span_of(seconds)} ahead" if seconds > 0 else f"{span_of(-seconds)} ago"

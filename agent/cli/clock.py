"""`gardien clock`: what time it is here, who vouches for it, and what to do after a wrong one."""

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
from agent.errors import Refused

app = typer.Typer(
    invoke_without_command=True, help="What time it is here, who vouches for it, and a reset."
)


@app.callback()
def clock(
    context: typer.Context,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Show the clock: how far slots are closed by it, its floor, who vouched, its last steps."""
    if context.invoked_subcommand is not None:
        return
    answer = ask(config, state, "clock.show")
    as_json(answer) if json else _show(answer)


@app.command()
def reset(
    wrong_since: Annotated[
        str,
        typer.Option(
            help="From when on the clock was wrong, in the building's true time: 2026-07-12T09:30."
        ),
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether it is meant.")] = False,
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Say that the clock is right now and was wrong since then.

    What was read since then is taken back from the platforms, its slots are marked missing (clock),
    and readings go on from now. It is written into the audit chain.
    """
    if not yes:
        if not sys.stdin.isatty():
            raise Refused("this takes readings back: say it at a terminal, or add --yes")
        _show(ask(config, state, "clock.show"))
        words = f"Is the clock right now, and all that was read since {wrong_since} misdated?"
        typer.confirm(words, abort=True)
    args = {"wrong_since": wrong_since, "named": named}
    answer = ask(config, state, "clock.reset", **args)
    if json:
        as_json(answer)
        return
    for one in answer["done"]:
        lay = f"; marks lay {_far(one['ahead'])}" if one["ahead"] else ""
        typer.echo(f"{one['recipient']}: {one['series']} series taken back{lay}")


def _show(answer: dict[str, Any]) -> None:
    vouched, steps = answer["vouched"], answer["steps"]
    by = f"{vouched['by']}, {when(vouched['at'])}" if vouched else "nobody yet"
    typer.echo(f"clock {moment(answer['now'])}, {answer['trust']}; vouched for by {by}")
    typer.echo(f"no time is believed before {when(answer['floor'])}")
    if answer["marks"]:
        rows = [
            (name, one["recipient"], when(one["last"]), _far(one["ahead"]))
            for name, one in answer["marks"].items()
        ]
        table(("uplink", "recipient", "slots closed to", "that is"), rows)
    for one in steps:
        typer.echo(f"step of {one['seconds']:+,d} s at {when(one['at'])}")
    if answer["said"]:
        typer.echo(f"! readings wait to be dated: {answer['said']}")
    if any(one["ahead"] > 0 for one in answer["marks"].values()):
        typer.echo(
            "! If the clock is right now, nothing need be done where a time service and the"
            " platform's signed time agree, or where the clock was moved and moved back without a"
            " reboot. Else: gardien clock reset --wrong-since WHEN. If it is wrong now, put the"
            " time service right: the readings wait."
        )


def _far(seconds: int) -> str:
    from agent.clock import span_of

    return f"{span_of(seconds)} ahead" if seconds > 0 else f"{span_of(-seconds)} ago"

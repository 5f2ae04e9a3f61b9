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
    confirmed,
    moment,
    table,
    when,
    wrapped,
)
from agent.core.errors import Refused
from agent.core.i18n import N_, _

app = typer.Typer(
    invoke_without_command=True,
    help="Show the clock and what confirms it; have readings with wrong dates erased.",
)

TRUST = {
    "trusted": N_("trusted"),
    "holdover": N_("in holdover: no time service has confirmed it lately"),
    "untrusted": N_("untrusted"),
    "person": N_("by a person's word: readings are dated, orders and signed permissions wait"),
}
"""how far the clock can be trusted"""


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


@app.command(name="set")
def set_(
    time: Annotated[
        str, typer.Argument(help="The time now: 2026-07-12T09:30, or what `date -Is` prints.")
    ],
    yes: Annotated[
        bool, typer.Option("--yes", help="Accept a time long after the last that was proved.")
    ] = False,
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Give the time where no time service can be reached; as root, set the clock to it.

    Read it from a telephone: type the coming minute, and press Enter when the telephone shows it.
    From a laptop: ssh root@GATEWAY gardien clock set "$(date -Is)" --as NAME. Readings are then
    dated for seven days. Orders and signed permissions still wait for a time service or for the
    platform's signed time, which replace this time as soon as they arrive. It is recorded in the
    audit chain.
    """
    import os
    from time import CLOCK_REALTIME, clock_settime

    args = {"at": time, "named": named, "yes": yes}
    answer = ask(config, state, "clock.set", **args)
    before = None if answer["taken"] else answer["off"]
    if before is not None:
        if os.geteuid() != 0:
            raise Refused(
                "nothing was changed: the clock is off by {off:+,d} s, and only root may set it:"
                " sudo gardien clock set {time}",
                off=before,
                time=time,
            )
        try:
            clock_settime(CLOCK_REALTIME, answer["at"])
        except PermissionError:
            raise Refused(
                "nothing was changed: the clock is off by {off:+,d} s, and this machine (a"
                " container?) does not let it be set. Set it where its kernel runs, then repeat the"
                " command",
                off=before,
            ) from None
        answer = ask(config, state, "clock.set", **args)
        if not answer["taken"]:
            raise Refused(
                "the clock was set, but something moved it again at once: switch that off, and"
                " repeat the command"
            )
    answer["before"] = before
    if json:
        as_json(answer)
        return
    if before is not None:
        typer.echo(_("the clock was off by {off:+,d} s and is set", off=before))
    recorded = _(
        "recorded: a person states that it is {now}. Readings are dated for seven days; orders"
        " and signed permissions wait for a time service",
        now=moment(answer["now"]),
    )
    typer.echo(wrapped(recorded))


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
        question = _(
            "Is the clock correct at present, and was it wrong since {wrong_since}?",
            wrong_since=wrong_since,
        )
        if not confirmed(question):
            raise typer.Abort
    args = {"wrong_since": wrong_since, "named": named}
    answer = ask(config, state, "clock.reset", **args)
    if json:
        as_json(answer)
        return
    for recipient in answer["done"]:
        ahead = (
            _("; slots were closed {distance}", distance=_distance(recipient["ahead"]))
            if recipient["ahead"]
            else ""
        )
        typer.echo(
            _(
                "{recipient}: {series} series retracted{ahead}",
                recipient=recipient["recipient"],
                series=recipient["series"],
                ahead=ahead,
            )
        )


def _show(answer: dict[str, Any]) -> None:
    source, steps = answer["vouched"], answer["steps"]
    by = f"{_(source['by'])}, {when(source['at'])}" if source else _("nothing yet")
    typer.echo(
        _(
            "clock {now}, {trust}; confirmed by {by}",
            now=moment(answer["now"]),
            trust=_(TRUST["person" if answer["person"] else answer["trust"]]),
            by=by,
        )
    )
    typer.echo(_("times before {floor} are never trusted", floor=when(answer["floor"])))
    if answer["marks"]:
        rows = [
            (name, entry["recipient"], when(entry["last"]), _distance(entry["ahead"]))
            for name, entry in answer["marks"].items()
        ]
        table((_("uplink"), _("recipient"), _("slots closed until"), _("distance")), rows)
    for entry in steps:
        typer.echo(
            _("jump of {seconds:+,d} s at {at}", seconds=entry["seconds"], at=when(entry["at"]))
        )
    if answer["said"]:
        typer.echo(_("! readings wait without a date: {said}", said=answer["said"]))
    if any(entry["ahead"] > 0 for entry in answer["marks"].values()):
        typer.echo(
            _(
                "! Slots are closed beyond the current time, so new readings wait. If the clock is"
                " wrong, repair the time service. If it is correct, do nothing in two cases: a time"
                " service and the platform's signed time agree with it, or it was moved and moved"
                " back without a reboot. In all other cases: gardien clock reset --wrong-since WHEN"
            )
        )


def _distance(seconds: int) -> str:
    from agent.core.clock import span_of

    if abs(seconds) < 1:
        return _("now")
    return (
        _("{span_of} ahead", span_of=span_of(seconds))
        if seconds > 0
        else _("{span_of} ago", span_of=span_of(-seconds))
    )

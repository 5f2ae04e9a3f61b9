"""`gardien object`: signed objects brought by hand, as any transport brings them."""

from __future__ import annotations

from pathlib import Path
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
from agent.cli.trust import signed_text

app = typer.Typer(
    no_args_is_help=True, help="Signed objects brought by hand: consents, moves, grants, orders."
)


@app.command()
def accept(
    files: Annotated[list[Path], typer.Argument(help="Signed objects, such as from a USB stick.")],
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Take signed objects, one after the other: each counts once, whoever brings it.

    Exit status 1 where one was refused or waits, an order also where one control refused it.
    """
    from agent.errors import Refused

    answers = []
    for file in files:
        try:
            answer = ask(config, state, "object.accept", text=signed_text(file), named=named)
        except Refused as error:
            answer = {"accepted": False, "refused": str(error).removeprefix(f"{file}: ")}
        answers.append({"file": str(file)} | answer)
        if not json:
            refused = answer.get("refused")
            words = f"not accepted: {refused}" if refused else _said(answer)
            typer.echo(f"{file}: {words}", err=bool(refused))
            _fit(answer.get("report"))
    if json:
        as_json(answers)
    raise typer.Exit(0 if all(answer["accepted"] for answer in answers) else 1)


def _fit(report: dict[str, Any] | None) -> None:
    """How places and meters fit, after a place map."""
    if report is None:
        return
    typer.echo(f"places with a meter: {report['mapped']}")
    for name, key in (
        ("dwellings without a meter", "places_without_meter"),
        ("meters without a place", "meters_without_place"),
    ):
        if found := report[key]:
            typer.echo(f"{name}: {len(found)}")
            typer.echo("\n".join(f"  {one}" for one in found))
    if report["more"]:
        typer.echo(f"and {report['more']} more")


def _said(answer: dict[str, Any]) -> str:
    orders = [f"\n    {name}: {_done(one)}" for name, one in answer.get("targets", {}).items()]
    unknown = [f"\n    no grant here has the number {one}" for one in answer.get("unknown", ())]
    return f"{answer['typ']}: {_outcome(answer)}{''.join([*orders, *unknown])}"


def _outcome(answer: dict[str, Any]) -> str:
    """Whether an object was accepted, in words; of one that came before what became of it then."""
    outcome = str(answer["outcome"])
    targets = answer.get("targets", {}).values()
    if answer["accepted"]:
        words = outcome
    elif targets:
        refused = sum("code" in target for target in targets)
        words = f"not accepted by {refused} of {plural(len(targets), 'control')}"
    elif answer.get("revoked") is True:
        words = "not accepted: it was revoked before it came"
    elif outcome.startswith("waits"):
        words = f"not accepted yet: it {outcome}; gardien object list shows what waits"
    else:
        words = f"not accepted: {outcome}"
    return f"came before, nothing was done now; then: {words}" if answer.get("again") else words


def _done(one: dict[str, Any]) -> str:
    """What became of an order at one control."""
    if "code" in one:
        return f"refused, {one['code']}" + (f": {one['words']}" if "words" in one else "")
    if "begin" in one:
        return f"from {when(one['begin'])} to {when(one['end'])}"
    return str(one["state"]).lower()


@app.command("all-came")
def all_came(
    named: As = None, config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False
) -> None:
    """Say, after a restore, that all that was withdrawn, revoked or moved since has been told here.

    Nothing is sent before it is known, by the platforms' own word or by yours.
    """
    answer = ask(config, state, "object.all_came", named=named)
    if json:
        as_json(answer)
    else:
        typer.echo(f"noted: what was said since {answer['made'] or 'the building file'} is here")


@app.command("list")
def list_(config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False) -> None:
    """List signed objects that wait for a fact or the time, or that could not be evaluated."""
    answer = ask(config, state, "object.list")
    if json:
        as_json(answer)
        return
    if not answer["waiting"]:
        typer.echo("nothing waits")
    else:
        rows = [
            (one["typ"], one["jti"], when(one["since"]), one["why"]) for one in answer["waiting"]
        ]
        table(("kind", "number", "since", "waits because"), rows)
    # a daemon of an earlier version does not say it
    if failed := answer.get("set_aside"):
        typer.echo(
            "Set aside because of an error in gardien, and not tried again. Report it with these"
            " lines; once a new version mends it: gardien object accept FILE"
        )
        rows = [(one["sha256"], when(one["since"]), one["via"], one["error"]) for one in failed]
        table(("sha256", "since", "came by", "error"), rows)

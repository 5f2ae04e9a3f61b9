"""`gardien object`: signed objects brought by hand, as any transport brings them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from agent.cli.terminal import DEFAULT_CONFIG, As, Config, Json, State, as_json, ask, table, when
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

    Exit status 1 where one was refused, an order also by one of its controls.
    """
    from agent.errors import Refused

    answers, refused = [], 0
    for file in files:
        try:
            answer = ask(config, state, "object.accept", text=signed_text(file), named=named)
        except Refused as error:
            answer = {"refused": str(error).removeprefix(f"{file}: ")}
            refused += 1
        answers.append({"file": str(file)} | answer)
        refused += any("code" in one for one in answer.get("targets", {}).values())
        if not json:
            said = answer.get("refused") or _said(answer)
            typer.echo(f"{file}: {said}", err="refused" in answer)
            _fit(answer.get("report"))
    if json:
        as_json(answers)
    raise typer.Exit(1 if refused else 0)


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
    before = " (came before)" if answer.get("again") else ""
    orders = [f"\n    {name}: {_done(one)}" for name, one in answer.get("targets", {}).items()]
    unknown = [f"\n    no grant here has the number {one}" for one in answer.get("unknown", ())]
    return f"{answer['typ']}: {answer['outcome']}{before}{''.join([*orders, *unknown])}"


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

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
    stands,
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
    preview: Annotated[
        bool, typer.Option("--preview", help="Of a place map: show what it would change; no more.")
    ] = False,
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Take signed objects, one after the other: each counts once, whoever brings it.

    Exit status 1 where one was refused or waits, an order also where one control refused it. With
    --preview nothing is taken, and it is 1 where one would be refused.
    """
    from agent.errors import Refused

    call, more = ("object.preview", {}) if preview else ("object.accept", {"named": named})
    answers: list[dict[str, Any]] = []
    for file in files:
        try:
            answer = ask(config, state, call, text=signed_text(file), **more)
        except Refused as error:
            answer = {"accepted": False, "refused": str(error).removeprefix(f"{file}: ")}
        answers.append({"file": str(file)} | answer)
        if not json:
            _show(file, answer, preview=preview)
    if json:
        as_json(answers)
    raise typer.Exit(1 if any(not answer.get("accepted", preview) for answer in answers) else 0)


def _show(file: Path, answer: dict[str, Any], *, preview: bool) -> None:
    if refused := answer.get("refused"):
        typer.echo(f"{file}: {'would not be' if preview else 'not'} accepted: {refused}", err=True)
    elif preview:
        typer.echo(f"{file}: {_changes(answer)}")
        for what, names in (("places", ("label", "id", "type")), ("names", NAMES)):
            if rows := [tuple(one[name] for name in names) for one in answer[what]]:
                table(names, rows)
    else:
        typer.echo(f"{file}: {_said(answer)}")
        _fit(answer.get("report"))


NAMES = ("place", "scheme", "value")


def _changes(answer: dict[str, Any]) -> str:
    """What a place map would bring, in a line."""
    if answer.get("again"):
        return "it came before: nothing would change"
    places, names = plural(len(answer["places"]), "place"), plural(len(answer["names"]), "name")
    return f"{places} and {names} would be recorded{stands(answer)}; nothing was changed"


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

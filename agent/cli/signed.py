"""`gardien object`: accepts signed objects by hand, as if a transport had delivered them."""

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
    unchanged,
    when,
)
from agent.cli.trust import signed_text

app = typer.Typer(
    no_args_is_help=True,
    help="Submit signed objects by hand: consents, moves in and out, grants, orders.",
)


@app.command()
def accept(
    files: Annotated[list[Path], typer.Argument(help="Signed objects, such as from a USB stick.")],
    preview: Annotated[
        bool, typer.Option("--preview", help="For a place map: only show what it would change.")
    ] = False,
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Submit signed objects, one after the other. A copy of an object has no further effect.

    Exit status 1 if an object was refused or waits, or if a control refused an order. With
    --preview nothing is accepted, and the exit status is 1 if an object would be refused.
    """
    from agent.core.errors import Refused

    call, more = ("object.preview", {}) if preview else ("object.accept", {"named": named})
    answers: list[dict[str, Any]] = []
    for file in files:
        # one refused object must not keep back the others
        try:
            answer = ask(config, state, call, text=signed_text(file), **more)
        except Refused as error:
            # `signed_text` names the file, and so does the line that is printed
            answer = {"accepted": False, "refused": str(error).removeprefix(f"{file}: ")}
        answers.append({"file": str(file)} | answer)
        if not json:
            _show(file, answer, preview=preview)
    if json:
        as_json(answers)
    # a preview that finds no fault has no member `accepted`
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
        typer.echo(f"{file}: {_answer_text(answer)}")
        _show_matching(answer.get("report"))


NAMES = ("place", "scheme", "value")


def _changes(answer: dict[str, Any]) -> str:
    """Return what a place map would change, in one line."""
    if answer.get("again"):
        return "accepted before: nothing would change"
    places, names = plural(len(answer["places"]), "place"), plural(len(answer["names"]), "name")
    return f"{places} and {names} would be recorded{unchanged(answer)}; nothing was changed"


def _show_matching(report: dict[str, Any] | None) -> None:
    """Print how places and meters match, after a place map."""
    if report is None:
        return
    typer.echo(f"places with a meter: {report['mapped']}")
    for name, key in (
        ("dwellings without a meter", "places_without_meter"),
        ("meters without a place", "meters_without_place"),
    ):
        if entries := report[key]:
            typer.echo(f"{name}: {len(entries)}")
            typer.echo("\n".join(f"  {one}" for one in entries))
    if report["more"]:
        typer.echo(f"and {report['more']} more")


def _answer_text(answer: dict[str, Any]) -> str:
    orders = [
        f"\n    {name}: {_target_outcome(one)}" for name, one in answer.get("targets", {}).items()
    ]
    unknown = [f"\n    this gateway has no grant {one}" for one in answer.get("unknown", ())]
    return f"{answer['typ']}: {_outcome(answer)}{''.join([*orders, *unknown])}"


def _outcome(answer: dict[str, Any]) -> str:
    """Return whether an object was accepted, in words; for a repeated object, the first outcome."""
    outcome = str(answer["outcome"])
    targets = answer.get("targets", {}).values()
    if answer["accepted"]:
        text = outcome
    elif targets:
        refused = sum("code" in target for target in targets)
        text = f"not accepted by {refused} of {plural(len(targets), 'control')}"
    elif answer.get("revoked") is True:
        text = "not accepted: it was revoked before it arrived"
    elif outcome.startswith("waits"):
        text = f"not accepted yet: it {outcome}. Show what waits: gardien object list"
    else:
        text = f"not accepted: {outcome}"
    return f"arrived before, nothing was changed; then: {text}" if answer.get("again") else text


def _target_outcome(target: dict[str, Any]) -> str:
    """Return the outcome of an order at one control."""
    if "code" in target:
        return f"refused, {target['code']}" + (f": {target['words']}" if "words" in target else "")
    if "begin" in target:
        return f"from {when(target['begin'])} to {when(target['end'])}"
    return str(target["state"]).lower()


@app.command("all-came")
def all_came(
    named: As = None, config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False
) -> None:
    """Confirm after a restore that you have entered all later withdrawals, revocations, moves out.

    Until then, nothing is sent before each platform has stated that it has sent everything, or has
    been connected for ten minutes.
    """
    answer = ask(config, state, "object.all_came", named=named)
    if json:
        as_json(answer)
    else:
        since = answer["made"] or "the backup"
        typer.echo(f"recorded: everything since {since} has been entered")


@app.command("list")
def list_(config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False) -> None:
    """List signed objects that wait, and those that failed because of an error in gardien.

    An object waits for a move in, a withdrawal or a trusted clock.
    """
    answer = ask(config, state, "object.list")
    if json:
        as_json(answer)
        return
    if not answer["waiting"]:
        typer.echo("no signed object waits")
    else:
        rows = [
            (one["typ"], one["jti"], when(one["since"]), one["why"]) for one in answer["waiting"]
        ]
        table(("kind", "id (jti)", "since", "reason"), rows)
    # a daemon of an earlier version does not send this member
    if failed := answer.get("set_aside"):
        typer.echo(
            "These objects were set aside because of an error in gardien, and are not tried again."
            " Report the error with these lines. Once a new version fixes it: gardien object accept"
            " FILE"
        )
        rows = [(one["sha256"], when(one["since"]), one["via"], one["error"]) for one in failed]
        table(("sha256", "since", "arrived by", "error"), rows)

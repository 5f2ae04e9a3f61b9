"""`gardien audit`: the chain of what was decided here."""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.cli.terminal import (
    DEFAULT_CONFIG,
    Config,
    Json,
    State,
    as_json,
    ask,
    plural,
    state_of,
    table,
    when,
)
from agent.i18n import N_, _

app = typer.Typer(no_args_is_help=True, help="The chain of what was decided here.")

NOT_YOURS = N_(
    "{folder} is not for this account. Where the agent runs, it follows the chain for whoever has a"
    " role, but it does not run: sudo gardien audit verify"
)


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
    """Follow the chain from record to record: nothing was changed or taken out. Works offline.

    Where the files are not for this account, the running agent follows them.
    """
    found = _of(place, batch) if place else _here(state_of(config, state), batch)
    if json:
        as_json(found)
        return
    count = found["last"] - found["first"] + 1 if found["last"] else 0
    span = f"{found['first']} to {found['last']}, since {when(found['begun'])}"
    typer.echo(f"{plural(count, 'record')}, {span}")
    typer.echo(f"each follows from the one before; hash of the last: {found['hash']}")
    if found["torn"]:
        typer.echo(f"{found['torn']} bytes of an unfinished record follow: a power cut left them")


def _here(state: Path, batch: str | None) -> dict[str, Any]:
    from agent.errors import Refused
    from agent.local import ask_daemon
    from agent.trust.audit import FOLDER, verification_report

    try:
        return verification_report(state / FOLDER, batch)
    except PermissionError:
        answer = ask_daemon(state, "audit.verify", {"hash": batch}, lambda _: None)
    if answer is None:
        raise Refused(NOT_YOURS, folder=str(state / FOLDER))
    return answer


def _of(place: Path, batch: str | None) -> dict[str, Any]:
    from agent.errors import Refused
    from agent.trust.audit import verification_report

    try:
        return verification_report(place, batch)
    except OSError as error:
        raise Refused(f"{place}: {error.strerror}") from error


@app.command("list")
def list_(
    kind: Annotated[
        str, typer.Option(help="Only these, such as consent or consent.given.", show_default=False)
    ] = "",
    since: Annotated[
        str | None, typer.Option(help="From when on: 2026-07-12 (00:00) or with a time.")
    ] = None,
    last: Annotated[int, typer.Option(help="How many at most, the newest ones.")] = 50,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """List the last records of the chain: what was decided when, by whom, about which ids."""
    answer = ask(config, state, "audit.list", kind=kind, since=since, last=last)
    if json:
        as_json(answer)
        return
    rows = [
        (str(one["n"]), when(one["t"]), one["type"], _body(one["body"]))
        for one in answer["records"]
    ]
    table((_("number"), _("when"), _("what"), _("said")), rows)


def _body(body: dict[str, Any]) -> str:
    """What a record says: `place: D…, by: marie`."""
    words = (
        f"{name}: {said if isinstance(said, str) else json_text.dumps(said, ensure_ascii=False)}"
        for name, said in body.items()
    )
    return ", ".join(words)

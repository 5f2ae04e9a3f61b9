"""`gardien audit`: the audit chain, the record of all decisions of this gateway."""

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
from agent.core.i18n import N_, _

app = typer.Typer(
    no_args_is_help=True, help="Verify and list the audit chain, the record of all decisions."
)

NOT_YOURS = N_(
    "this account may not read {folder}, and the agent, which could verify the chain, is not"
    " running: sudo gardien audit verify"
)


@app.command()
def verify(
    place: Annotated[
        Path | None,
        typer.Argument(
            metavar="[PATH]",
            help="A copy of the folder `audit`, or of a file in it; default: this gateway's.",
        ),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(
            "--hash", help="The hash in a batch's member `audit`; it must be in the chain."
        ),
    ] = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Verify that no record of the chain was changed or removed. Works without a network.

    If this account may not read the files, the running agent verifies them.
    """
    report = _verify_copy(place, batch) if place else _verify_state(state_of(config, state), batch)
    if json:
        as_json(report)
        return
    count = report["last"] - report["first"] + 1 if report["last"] else 0
    span = f"{report['first']} to {report['last']}, since {when(report['begun'])}"
    typer.echo(f"{plural(count, 'record')}, {span}")
    typer.echo(f"the chain is intact; hash of the last record: {report['hash']}")
    if report["torn"]:
        typer.echo(f"{report['torn']} bytes of an unfinished record follow, left by a power cut")


def _verify_state(state: Path, batch: str | None) -> dict[str, Any]:
    from agent.core.errors import Refused
    from agent.local import ask_daemon
    from agent.trust.audit import FOLDER, verification_report

    try:
        # in this process if it may read the files: it needs no agent, and works while none runs
        return verification_report(state / FOLDER, batch)
    except PermissionError:
        answer = ask_daemon(state, "audit.verify", {"hash": batch}, lambda _: None)
    if answer is None:
        raise Refused(NOT_YOURS, folder=str(state / FOLDER))
    return answer


def _verify_copy(path: Path, batch: str | None) -> dict[str, Any]:
    from agent.core.errors import Refused
    from agent.trust.audit import verification_report

    try:
        return verification_report(path, batch)
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from error


@app.command("list")
def list_(
    kind: Annotated[
        str,
        typer.Option(
            help="Only this kind of record, such as consent or consent.given.", show_default=False
        ),
    ] = "",
    since: Annotated[
        str | None, typer.Option(help="Start: 2026-07-12 (at 00:00), or with a time.")
    ] = None,
    last: Annotated[int, typer.Option(help="How many records.")] = 50,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """List the newest records of the chain: what was decided, when, by whom, concerning what."""
    answer = ask(config, state, "audit.list", kind=kind, since=since, last=last)
    if json:
        as_json(answer)
        return
    rows = [
        (str(one["n"]), when(one["t"]), one["type"], _body(one["body"]))
        for one in answer["records"]
    ]
    table((_("number"), _("when"), _("what"), _("details")), rows)


def _body(body: dict[str, Any]) -> str:
    """Return the members of a record in one line: `place: D…, by: marie`."""
    members = (
        f"{name}: {value if isinstance(value, str) else json_text.dumps(value, ensure_ascii=False)}"
        for name, value in body.items()
    )
    return ", ".join(members)

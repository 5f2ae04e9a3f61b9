"""`gardien finding`: what is wrong, and who works on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.terminal import (
    DEFAULT_CONFIG,
    As,
    Config,
    Json,
    State,
    as_json,
    ask,
    read_here,
    when,
    wrapped,
)
from agent.core.finding import Finding, worst_first
from agent.core.i18n import _

if TYPE_CHECKING:
    from collections.abc import Iterator

app = typer.Typer(no_args_is_help=True, help="What is wrong, and who works on it.")


@app.command("list")
def list_(config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False) -> None:
    """List the findings of `gardien status` with their ids, and who has acknowledged them."""
    answer = ask(config, state, "status")
    if json:
        as_json({"findings": answer["events"]})
        return
    findings = worst_first(map(Finding.of, read_here(answer)["events"]))
    if not findings:
        typer.echo(_("nothing to report"))
    for finding in findings:
        typer.echo(finding.id)
        typer.echo(wrapped(f"    {finding.what.in_language()}"))
        if text := acknowledged(finding):
            typer.echo(wrapped(f"    {text}"))


def acknowledged(finding: Finding) -> str:
    """Return who works on a finding, until when it does not count, and the note; or nothing."""
    return " ".join(_parts(finding))


def _parts(finding: Finding) -> Iterator[str]:
    if known := finding.acknowledged:
        yield _("{who} works on it, acknowledged until {time}", who=known.who,
                time=when(known.until)) + (":" if known.note else "")  # fmt: skip
        yield known.note


@app.command()
def acknowledge(
    finding: Annotated[
        str, typer.Argument(help="The finding's id, as `gardien finding list` shows it.")
    ],
    note: Annotated[str, typer.Argument(help="What is done about it, and by whom.")],
    days: Annotated[
        float, typer.Option(help="For how many days, at most 30; 0: it counts again.")
    ] = 7.0,
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
) -> None:
    """State that somebody works on a finding: it stays listed, and does not count meanwhile.

    It counts again when it becomes worse, when it comes back, and when the days are over. Findings
    about lost readings and about equipment always count.
    """
    answer = read_here(
        ask(config, state, "finding.acknowledge", finding=finding, note=note, days=days,
            named=named)
    )  # fmt: skip
    if answer["until"] is None:
        typer.echo(_("it counts again"))
        return
    typer.echo(_("acknowledged until {time}", time=when(answer["until"])))
    if answer["counts"]:
        typer.echo(_("It still counts: readings are lost, or equipment is concerned."))

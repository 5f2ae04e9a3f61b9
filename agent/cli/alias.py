"""`gardien place alias`: the names that other systems use for places."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from agent.cli.facts import Answer, command
from agent.cli.terminal import day, plural, show_ignored_columns, table, unchanged
from agent.registry.facts import alias

if TYPE_CHECKING:
    pass

app = typer.Typer(
    no_args_is_help=True,
    help="Record aliases: the names that other systems use for places (PRM, lot, …).",
)


def _show(answer: Answer, _args: Answer | None = None) -> None:
    rows = [
        (a["label"], a["said"], a["value"], a["note"], day(a["since"]), day(a["until"]))
        for a in answer["aliases"]
    ]
    table(("place", "scheme", "value", "", "since", "until"), rows)


command(app, alias.ADD)(_show)
command(app, alias.END)(_show)


@command(app, alias.IMPORT)
def _show_import(answer: Answer, args: Answer) -> None:
    if answer["aliases"]:
        _show(answer)
    done = "would be recorded" if args["preview"] else "recorded"
    typer.echo(f"{plural(len(answer['aliases']), 'name')} {done}{unchanged(answer)}")
    show_ignored_columns(answer)


command(app, alias.LIST)(_show)

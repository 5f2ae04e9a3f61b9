"""`gardien place alias`: the names that other systems use for places."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from agent.cli.facts import Answer, command
from agent.cli.terminal import day, plural, show_ignored_columns, table, unchanged
from agent.registry.facts import alias

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    no_args_is_help=True,
    help="Record aliases: the names that other systems use for places (PRM, lot, …).",
)


def _show(aliases: Sequence[dict[str, Any]]) -> None:
    rows = [
        (a["label"], a["said"], a["value"], a["note"], day(a["since"]), day(a["until"]))
        for a in aliases
    ]
    table(("place", "scheme", "value", "", "since", "until"), rows)


@command(app, alias.ADD)
def add(answer: Answer, _args: Answer) -> None:
    """Record an alias: the name that another system uses for a place."""
    _show(answer["aliases"])


@command(app, alias.END)
def end(answer: Answer, _args: Answer) -> None:
    """Record that an alias of a place is no longer valid."""
    _show(answer["aliases"])


@command(app, alias.IMPORT, "import")
def import_(answer: Answer, args: Answer) -> None:
    """Record the aliases in a spreadsheet: all rows or none."""
    if answer["aliases"]:
        _show(answer["aliases"])
    done = "would be recorded" if args["preview"] else "recorded"
    typer.echo(f"{plural(len(answer['aliases']), 'name')} {done}{unchanged(answer)}")
    show_ignored_columns(answer)


@command(app, alias.LIST, "list")
def list_(answer: Answer, _args: Answer) -> None:
    """List all aliases of places, including those that are no longer valid."""
    _show(answer["aliases"])

"""`gardien control grants`: who has allowed what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from agent.cli.terminal import DEFAULT_CONFIG, Config, Json, State, as_json, ask, when, wrapped
from agent.units import spoken

if TYPE_CHECKING:
    from collections.abc import Iterator


def grants(config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False) -> None:
    """Show who has allowed whom to adjust what, on which vote or contract; whether it stands."""
    found = ask(config, state, "control.grants")["grants"]
    if json:
        as_json(found)
        return
    for one in found:
        for line in _lines(one):
            typer.echo(wrapped(line))
    if not found:
        typer.echo("nobody has allowed anything yet")


def _lines(one: dict[str, Any]) -> Iterator[str]:
    how = f"stands until {when(one['until'])}" if one["stands"] else one["why"]
    yield f"{one['by']} ({one['role'].replace('_', ' ')}): {how}"
    span = " to ".join(value for value in (one["min"], one["max"]) if value is not None)
    within = f", {span} {spoken(one['unit'] or '')}".rstrip() if span else ""
    yield f"    {one['to']} may {', '.join(one['acts'])} {', '.join(one['assets'])}{within}"
    yield f"    on the {one['evidence']}"
    yield f"    number {one['jti']}"
    if one["stands"] and not one["listed"]:
        yield "    its key is in the trust list no more: it stands all the same, until revoked"


def say_left_out(keys: list[dict[str, Any]]) -> None:
    """Name the keys that are in a trust list no more, and what of theirs counts all the same."""
    for key in keys:
        count = key["grants"]
        whose = f"{key['name']} ({key['role'].replace('_', ' ')})"
        stand = f"{count} grants that it has signed stand" if count > 1 else "its one grant stands"
        typer.echo(
            f"a key of {whose} is not in it; {stand}, see gardien control grants; to end that:"
            f" gardien sign revoke --kid {key['kid']}"
        )

"""`gardien control grants`: the grants, and which of them are valid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from agent.cli.terminal import DEFAULT_CONFIG, Config, Json, State, as_json, ask, when, wrapped
from agent.core.quantities import spoken

if TYPE_CHECKING:
    from collections.abc import Iterator


def grants(config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False) -> None:
    """Show the grants: who authorized whom to adjust what, by which vote or contract.

    Each line says whether the grant is valid.
    """
    entries = ask(config, state, "control.grants")["grants"]
    if json:
        as_json(entries)
        return
    for grant_ in entries:
        for line in _lines(grant_):
            typer.echo(wrapped(line))
    if not entries:
        typer.echo("no grant has arrived yet, so no order is accepted")


def _lines(grant_: dict[str, Any]) -> Iterator[str]:
    how = f"valid until {when(grant_['until'])}" if grant_["stands"] else grant_["why"]
    yield f"{grant_['by']} ({grant_['role'].replace('_', ' ')}): {how}"
    span = " to ".join(value for value in (grant_["min"], grant_["max"]) if value is not None)
    within = f", {span} {spoken(grant_['unit'] or '')}".rstrip() if span else ""
    acts, assets = ", ".join(grant_["acts"]), ", ".join(grant_["assets"])
    yield f"    {grant_['to']} may {acts} {assets}{within}"
    yield f"    authorized by the {grant_['evidence']}"
    yield f"    id (jti) {grant_['jti']}"
    # a trust list without the key does not end the grant: only a revocation does
    if grant_["stands"] and not grant_["listed"]:
        yield "    its key is no longer in the trust list; the grant is valid until it is revoked"


def show_left_out(keys: list[dict[str, Any]]) -> None:
    """Print the keys that a trust list no longer has, and how many of their grants stay valid."""
    for key in keys:
        count = key["grants"]
        whose = f"{key['name']} ({key['role'].replace('_', ' ')})"
        valid = f"its {count} grants stay valid" if count > 1 else "its one grant stays valid"
        typer.echo(
            f"a key of {whose} is not in the list, but {valid}. Show them: gardien control grants."
            f" End them: gardien sign revoke --kid {key['kid']}"
        )

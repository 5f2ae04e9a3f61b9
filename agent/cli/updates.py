"""`gardien updates`: whether an upgrade may happen now. What gardien-upgrade asks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from agent.cli.terminal import DEFAULT_CONFIG, Config, State, ask
from agent.errors import AgentError, Refused


def updates(
    published: Annotated[
        str | None,
        typer.Option(help="When the version appeared, 2026-11-24T21:00Z.", show_default=False),
    ] = None,
    by_hand: Annotated[
        bool, typer.Option("--by-hand", help="A person asks: only a command forbids it.")
    ] = False,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
) -> None:
    """Say whether gardien may be upgraded now: window, ring, and nothing commanded.

    Nothing is upgraded within two hours before a command and during it. Exit status 1 if it may
    not.
    """
    from agent.config import load
    from agent.config.updates import early, held

    now = datetime.now(UTC)
    try:
        controls = ask(config, state, "control.list")["controls"]
        why = held(controls, now)
    except AgentError as error:
        # a gateway that cannot say is the one that a person must be able to upgrade
        why = "" if by_hand else f"nobody knows what is commanded: {error}"
    if not why and not by_hand:
        loaded = load(config)
        why = early(loaded.updates, _moment(published), now, loaded.zone)
    typer.echo(why or "an upgrade may happen now")
    raise typer.Exit(1 if why else 0)


def _moment(text: str | None) -> datetime | None:
    """Of a day alone nobody knows the hour: it counts from its end."""
    if not text:
        return None
    try:
        if len(text) == len("2026-11-24"):
            return datetime.fromisoformat(text).replace(tzinfo=UTC) + timedelta(days=1)
        found = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(f"expected a moment such as 2026-11-24T21:00Z, found {text}") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)

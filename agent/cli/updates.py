"""`gardien updates`: whether gardien may be upgraded now; gardien-upgrade runs it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from agent.cli.terminal import DEFAULT_CONFIG, Config, State, ask
from agent.core.errors import AgentError, Refused
from agent.core.i18n import _


def updates(
    published: Annotated[
        str | None,
        typer.Option(help="When the version was published: 2026-11-24T21:00Z.", show_default=False),
    ] = None,
    by_hand: Annotated[
        bool,
        typer.Option("--by-hand", help="Check for an upgrade by hand: ignore window and ring."),
    ] = False,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
) -> None:
    """Check whether gardien may be upgraded now: by update window, ring, and orders.

    gardien is not upgraded during an order or in the two hours before one. Exit status 1 if it may
    not be upgraded now.
    """
    from agent.config import load
    from agent.config.config import early, held

    now = datetime.now(UTC)
    try:
        controls = ask(config, state, "control.list")["controls"]
        why = held(controls, now)
    except AgentError as error:
        # a person must be able to upgrade a gateway that does not answer
        why = "" if by_hand else _("it is unknown which orders are in force: {error}", error=error)
    # window and ring are for the timer; a person has chosen the moment
    if not why and not by_hand:
        loaded = load(config)
        why = early(loaded.updates, _moment(published), now, loaded.zone)
    typer.echo(why or "gardien may be upgraded now")
    raise typer.Exit(1 if why else 0)


def _moment(text: str | None) -> datetime | None:
    """Parse a time in UTC; a day without a time counts from its end. Raises Refused."""
    if not text:
        return None
    try:
        if len(text) == len("2026-11-24"):
            # a ring must not begin before the version was published: the day counts from its end
            return datetime.fromisoformat(text).replace(tzinfo=UTC) + timedelta(days=1)
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(
            "expected a time such as 2026-11-24T21:00Z, found {text}", text=text
        ) from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)

"""`gardien reload`: the running agent takes the configuration anew."""

from __future__ import annotations

from pathlib import Path

import typer

from agent.cli.terminal import DEFAULT_CONFIG, As, Config, Json, State, as_json, state_of
from agent.errors import ConfigError, Refused
from agent.i18n import _


def reload(
    named: As = None, config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False
) -> None:
    """Let the running agent take the configuration anew; only what changed is reopened.

    A file with mistakes is refused with all of them, and the agent goes on with the old one.
    """
    from agent.local import ask_daemon

    if state is None:  # what is no configuration does not say on what state the agent runs, either
        _must_be_right(config)
    folder = state_of(config, state)
    answer = ask_daemon(folder, "reload", {"named": named}, lambda _: None)
    if answer is None:
        raise Refused(f"gardien is not running on {folder}: its next start takes the file")
    if json:
        as_json(answer)
        return
    done = [f"{what} {name}" for what, names in answer["changed"].items() for name in names]
    typer.echo("\n".join(done) or "nothing had changed")


def _must_be_right(config: Path) -> None:
    from agent.config import load

    try:
        load(config, whole=True)
    except ConfigError as error:
        if isinstance(error.__cause__, PermissionError):
            return  # the agent's account may read it
        raise Refused(
            f"{error}\n{_('nothing was changed: the agent goes on as before')}"
        ) from error

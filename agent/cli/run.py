"""`gardien run` is the daemon; `gardien reload` makes it read the configuration again."""

from __future__ import annotations

from pathlib import Path

import typer

from agent.cli.terminal import DEFAULT_CONFIG, As, Config, Json, State, as_json, state_of
from agent.core.errors import ConfigError, Refused
from agent.core.i18n import _


def run(config: Config = DEFAULT_CONFIG) -> None:
    """Run the agent until SIGTERM or Ctrl-C."""
    from agent.daemon import serve

    serve(config)


def reload(
    named: As = None, config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False
) -> None:
    """Make the running agent use the changed configuration; only changed parts are reopened.

    A file with mistakes is refused: they are all shown, and the agent keeps the old configuration.
    """
    from agent.local import ask_daemon

    # a file that does not load does not tell the state directory of the agent, either
    if state is None:
        _must_be_right(config)
    folder = state_of(config, state)
    answer = ask_daemon(folder, "reload", {"named": named}, lambda _: None)
    if answer is None:
        raise Refused(
            "gardien is not running on {folder}; it will read the file when it starts",
            folder=folder,
        )
    if json:
        as_json(answer)
        return
    done = [f"{_(what)} {name}" for what, names in answer["changed"].items() for name in names]
    typer.echo("\n".join(done) or _("nothing has changed"))


def _must_be_right(config: Path) -> None:
    from agent.config import load

    try:
        load(config, whole=True)
    except ConfigError as error:
        if isinstance(error.__cause__, PermissionError):
            return  # this account may not read the file; the agent's account may
        raise Refused(
            "{error}\n{value}",
            error=error,
            value=_(
                "Nothing was changed: the agent keeps the old configuration. Correct the file,"
                " then: sudo gardien reload"
            ),
        ) from error

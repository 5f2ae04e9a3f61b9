"""`gardien reload`: the running agent takes the configuration anew."""

from __future__ import annotations

import typer

from agent.cli.terminal import DEFAULT_CONFIG, Config, Json, State, as_json, state_of
from agent.errors import Refused


def reload(config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False) -> None:
    """Let the running agent take the configuration anew; only what changed is reopened.

    A file with mistakes is refused with all of them, and the agent goes on with the old one.
    """
    from agent.local import ask_daemon

    folder = state_of(config, state)
    answer = ask_daemon(folder, "reload", {}, lambda _: None)
    if answer is None:
        raise Refused(f"gardien is not running on {folder}: its next start takes the file")
    if json:
        as_json(answer)
        return
    done = [f"{what} {name}" for what, names in answer["changed"].items() for name in names]
    typer.echo("\n".join(done) or "nothing had changed")

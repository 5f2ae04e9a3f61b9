"""`gardien factory-reset`: as after the installation, with nothing of this building left."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from agent.cli.terminal import DEFAULT_CONFIG, Config, State, state_of

SAMPLE = Path("/usr/share/gardien/config.example.yaml")
WITHIN = 60.0
"""seconds for the daemon to end"""


def factory_reset(
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Destroy keys, registry and readings, secrets and configuration; the gateway gets a new id.

    What the platform has not received is lost. What is adjusted is given back first. The package
    stays installed.
    """
    from agent.cli.terminal import plural
    from agent.errors import Refused

    folder = state_of(config, state)
    if not folder.is_dir():
        raise Refused(f"{folder} does not exist: there is nothing to reset")
    if not os.access(folder, os.W_OK):
        raise Refused(f"{folder} is not for this account: sudo gardien factory-reset")
    if not yes:
        waits = _waits(folder)
        lost = f"; {plural(waits, 'value')} not yet received will be lost" if waits else ""
        typer.confirm(f"destroy everything in {folder}{lost}?", abort=True)
    if config == DEFAULT_CONFIG:
        _stop()
    _give_back(folder)
    who = _wipe(folder)
    if config == DEFAULT_CONFIG:
        _forget_building(config)
        typer.echo(f"{config} is the sample again, and what lay beside it is gone")
    else:
        typer.echo(f"{config} was left as it is")
    typer.echo(f"{folder} is empty; this gateway is {who} from now on")


def _waits(state: Path) -> int:
    from agent.errors import AgentError
    from agent.local import ask_daemon

    try:
        status = ask_daemon(state, "status", {}, lambda _: None) or {}
    except AgentError:
        return 0
    backlogs = [uplink["backlog"] for uplink in status.get("uplinks", {}).values()]
    return sum(int(one["slots"]) + int(one["batch_rows"]) for one in backlogs)


def _stop() -> None:
    command = ("systemctl", "disable", "--now", "gardien.service")
    if shutil.which(command[0]):
        subprocess.run(command, check=False, capture_output=True, timeout=WITHIN)  # noqa: S603


def _give_back(state: Path) -> None:
    """Nobody will know afterwards what stood in the equipment, limits too. Raises Refused."""
    from agent.cli.control import given_back
    from agent.errors import Refused

    late = [one for one in given_back(state, limits=True) if not one.done]
    if late:
        told = "\n".join(f"{one.control}: {one.words}" for one in late)
        raise Refused(
            f"{told}\nnothing was destroyed; once the equipment answers, ask again, or close it by"
            f' hand: gardien control release {late[0].control} --abandon "why"'
        )


def _wipe(state: Path) -> str:
    """Empty the state directory, keys first, and mint a new identity in it.

    Raises Refused while a daemon owns it. Flash keeps old pages until it needs them: who must be
    sure destroys the card.
    """
    from agent.registry import identity
    from agent.registry.place import shown
    from agent.state import owned

    with owned(state, "gardien factory-reset"):
        shutil.rmtree(state / identity.KEYS, ignore_errors=True)
        for path in state.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != "lock":
                path.unlink()
        return shown(identity.mint(state).gateway)


def _forget_building(config: Path) -> None:
    """Whatever lies there may be of it: what is included, lists, keys that a path names."""
    for path in config.parent.rglob("*"):
        if path != config and not path.is_dir():
            path.unlink()
    if SAMPLE.exists() and config.exists():
        config.write_bytes(SAMPLE.read_bytes())  # in place: owner and mode stay

"""`gardien factory-reset`: removes all data of the building, as after the installation."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from agent.cli.terminal import DEFAULT_CONFIG, Config, State, state_of

SAMPLE = Path("/usr/share/gardien/config.example.yaml")
STOP_TIMEOUT = 60.0
"""seconds for the daemon to end"""


def factory_reset(
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    yes: Annotated[bool, typer.Option("--yes", help="Skip confirmation.")] = False,
) -> None:
    """Destroy keys, registry, readings, secrets and configuration; the gateway gets a new id.

    Controls are released first. Readings that no recipient has confirmed yet are
    lost. The package
    stays installed.
    """
    from agent.cli.terminal import plural
    from agent.core.errors import Refused

    folder = state_of(config, state)
    if not folder.is_dir():
        raise Refused(f"{folder} does not exist, so there is nothing to reset")
    if not os.access(folder, os.W_OK):
        raise Refused(f"this account may not write {folder}: sudo gardien factory-reset")
    if not yes:
        waits = _waits(folder)
        lost = f"; {plural(waits, 'value')} without a receipt will be lost" if waits else ""
        typer.confirm(f"Destroy everything in {folder}{lost}?", abort=True)
    # the agent must not run: it would own the journal, and write to devices again
    if config == DEFAULT_CONFIG:
        _stop()
    _release_all(folder)
    who = _wipe(folder)
    if config == DEFAULT_CONFIG:
        _clear_configuration(config)
        typer.echo(f"{config} is the sample again; all files beside it are deleted")
    else:
        typer.echo(f"{config} was not changed")
    typer.echo(f"{folder} is empty; the new id of this gateway is {who}")


def _waits(state: Path) -> int:
    from agent.core.errors import AgentError
    from agent.local import ask_daemon

    try:
        status = ask_daemon(state, "status", {}, lambda _: None) or {}
    except AgentError:
        return 0  # the question is asked without the number
    backlogs = [uplink["backlog"] for uplink in status.get("uplinks", {}).values()]
    return sum(int(one["slots"]) + int(one["batch_rows"]) for one in backlogs)


def _stop() -> None:
    command = ("systemctl", "disable", "--now", "gardien.service")
    if shutil.which(command[0]):
        subprocess.run(command, check=False, capture_output=True, timeout=STOP_TIMEOUT)  # noqa: S603


def _release_all(state: Path) -> None:
    """Release all controls, limits too. Raises Refused if a release is not confirmed."""
    # afterwards the journal is gone, and nothing could release what is left at a device
    from agent.cli.control import given_back
    from agent.core.errors import Refused

    unconfirmed = [release for release in given_back(state, limits=True) if not release.done]
    if unconfirmed:
        failures = "\n".join(f"{release.control}: {release.words}" for release in unconfirmed)
        raise Refused(
            f"{failures}\nNothing was destroyed. Repeat this command once the equipment answers, or"
            " give up the release: gardien control release"
            f' {unconfirmed[0].control} --abandon "why"'
        )


def _wipe(state: Path) -> str:
    """Empty the state directory, keys first, and create a new identity; return its id.

    Raises Refused while a daemon owns it. Flash memory may keep deleted data: to be sure, destroy
    the card.
    """
    from agent.core.state import owned
    from agent.registry import identity
    from agent.registry.place import shown

    with owned(state, "gardien factory-reset"):
        # without its keys, a state that is erased only in part cannot be read
        shutil.rmtree(state / identity.KEYS, ignore_errors=True)
        for path in state.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != "lock":  # held by `owned`
                path.unlink()
        return shown(identity.mint(state).gateway)


def _clear_configuration(config: Path) -> None:
    """Delete all files beside the configuration, and restore the sample."""
    # included files, lists and keys that a path names may lie in any folder there
    for path in config.parent.rglob("*"):
        if path != config and not path.is_dir():
            path.unlink()
    if SAMPLE.exists() and config.exists():
        config.write_bytes(SAMPLE.read_bytes())  # in place: owner and mode stay

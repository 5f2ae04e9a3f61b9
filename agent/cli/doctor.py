"""`gardien doctor`: checks all that an installer would look at, with a remedy for each problem."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from agent.cli.terminal import DEFAULT_CONFIG, Config, Json, State, as_json, plural, state_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.cli.examine import Finding
    from agent.config import Config as Loaded
    from agent.config.files import Files

SIGNS = {True: "fine", False: "LOOK", None: "?"}
"""by `Finding.fine`"""


def doctor(config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False) -> None:
    """Check versions, configuration, keys, secrets, disk, ports, clock and network.

    Each problem is shown with what to do. Nothing is changed. Exit status 1 if there is a problem.
    """
    # printed one by one: the checks of the network take seconds each
    done = []
    for finding in findings(config, state_of(config, state)):
        done.append(finding)
        if not json:
            typer.echo(f"{SIGNS[finding.fine]:5} {finding.what}: {finding.text}")
    if json:
        as_json([finding.members() for finding in done])
    bad = sum(finding.fine is False for finding in done)
    if not json:
        typer.echo(plural(bad, "problem") if bad else "all fine")
    raise typer.Exit(1 if bad else 0)


def findings(config: Path, state: Path) -> Iterator[Finding]:
    """Yield the findings one by one, as each check ends."""
    from agent.cli import examine
    from agent.config.files import Files

    yield from examine.versions()
    files = Files(config)
    loaded, finding = _configuration(files)
    yield finding
    if loaded is not None:
        yield from examine.permissions(files, loaded)
        yield from examine.roles(loaded.building)
    yield from examine.groups()
    yield from examine.keys(state)
    yield from examine.breaches(state)
    yield from examine.secrets(config)
    yield from examine.certificate(state)
    yield from examine.disk(state, loaded)
    yield from examine.wear(state)
    status, finding = _daemon(state)
    yield finding
    yield from examine.components(status)
    for event in (status or {}).get("events", ()):
        if event["code"] == "storage":
            yield examine.Finding("storage", False, event["text"])
    yield from examine.clock(loaded, status)
    yield from examine.disturbers(status)
    if loaded is not None:
        yield from examine.passwords(loaded, config.parent / "credentials")
        yield from examine.ports(loaded)
        # lines that the agent has open are not contacted
        held = {name for name, one in (status or {}).get("links", {}).items() if one["open"]}
        yield from examine.lines(loaded, held)
        yield from examine.uplinks(loaded, state)


def _configuration(files: Files) -> tuple[Loaded | None, Finding]:
    from agent.cli.examine import Finding, no_access
    from agent.config.load import checked
    from agent.core.errors import ConfigError

    loaded = None
    try:
        # first without `strict`: the other checks need the configuration, even if the strict check
        # refuses it
        loaded = checked(files)
        checked(files, strict=True)
    except ConfigError as error:
        if isinstance(error.__cause__, PermissionError):
            return loaded, no_access("configuration", files.path)
        first, *more = str(error).splitlines()
        rest = f" (and {len(more)} more: gardien check)" if more else ""
        return loaded, Finding("configuration", False, first + rest)
    counts = f"{plural(len(loaded.devices), 'device')}, {plural(len(loaded.uplinks), 'uplink')}"
    return loaded, Finding("configuration", True, f"{files.path}: {counts}")


def _daemon(state: Path) -> tuple[dict[str, Any] | None, Finding]:
    from agent.cli.examine import Finding
    from agent.core.errors import AgentError
    from agent.local import ask_daemon

    try:
        status = ask_daemon(state, "status", {}, lambda _: None)
    except AgentError as error:
        # an agent that answers with an error must not end the other checks
        return None, Finding("agent", False, str(error))
    if status is None:
        remedy = "not running: sudo systemctl enable --now gardien"
        return None, Finding("agent", False, remedy)
    return status, Finding("agent", True, f"running since {status['started']}")

"""`gardien doctor`: checks all that an installer would look at, with a remedy for each problem."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from agent.cli.terminal import (
    DEFAULT_CONFIG,
    Config,
    Json,
    State,
    as_json,
    read_here,
    state_of,
    when,
    wrapped,
)
from agent.core.finding import Actor, Finding, Severity, as_text, exit_status, worst_first
from agent.core.i18n import N_, Plural, Text, _, n_

if TYPE_CHECKING:
    import pwd
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from agent.config import Config as Loaded
    from agent.config.files import Files

SIGNS = {Severity.FINE: N_("fine"), Severity.NOTE: N_("note"), Severity.UNKNOWN: "?"}
LOOK = N_("LOOK")
"""the sign of everything else"""


def doctor(config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False) -> None:
    """Check versions, configuration, keys, secrets, disk, ports, clock and network.

    With sudo, the checks are made as the account that runs the agent. Problems are shown last, the
    worst first, with what to do. The only change is a file that is written to the disk and removed
    again. Exit status 1 if there is a problem.
    """
    # what is fine is printed at once: the checks of the network take seconds each
    done = []
    for finding in findings(config, state_of(config, state)):
        done.append(finding)
        if not json and finding.fine is not False:
            _print(finding)
    problems = [finding for finding in worst_first(done) if finding.fine is False]
    if json:
        as_json([members(finding) for finding in done])
    else:
        for finding in problems:
            _print(finding)
        typer.echo(_outcome(len(problems), sum(finding.fine is None for finding in done)))
    raise typer.Exit(exit_status(done))


def _outcome(problems: int, unknown: int) -> str:
    """Return the last line. A check without a result is neither a problem nor fine."""
    number = n_("{number} problem", "{number} problems", problems)
    if not unknown:
        return number if problems else _("all fine")
    left = n_("{number} check has no result (?)", "{number} checks have no result (?)", unknown)
    return f"{number if problems else _('no problem found')}, {left}"


def _print(finding: Finding) -> None:
    text = finding.sentence(when)
    if not text.startswith(finding.subject):
        text = Text("{name}: {text}", name=finding.subject, text=text)
    typer.echo(wrapped(f"{_(SIGNS.get(finding.severity, LOOK)):5} {text.in_language()}"))
    for other in finding.also:
        typer.echo(wrapped(f"      {other.in_language()}"))


def members(finding: Finding) -> dict[str, Any]:
    """Return a finding as `gardien doctor --json` prints it."""
    short = {"what": str(finding.subject), "fine": finding.fine, "said": str(finding.text)}
    names = ("code", "severity", "since", "until", "actor", "command", "count")
    return short | {name: getattr(finding, name) for name in names}


def findings(config: Path, state: Path) -> Iterator[Finding]:
    """Yield the findings one by one, as each check ends."""
    from agent.api.diagnosis import machine, network
    from agent.config.check import daemon_account
    from agent.config.files import Files

    account = daemon_account(config, state)

    def as_daemon(check: Callable[..., Iterable[Finding]], *args: Any) -> Iterator[Finding]:
        """Make a check as the account that runs the agent."""
        yield from _acting(account, check, *args)

    yield from machine.versions()
    yield from machine.updates()
    files = Files(config)
    loaded, finding = _configuration(files)
    yield finding
    if loaded is not None:
        yield from machine.permissions(files, loaded)
        yield from machine.roles(loaded.building)
    yield from machine.groups()
    yield from as_daemon(machine.keys, state)
    yield from as_daemon(machine.breaches, state)
    yield from machine.secrets(config)
    yield from as_daemon(machine.certificate, state)
    yield from as_daemon(machine.disk, state, loaded)
    yield from as_daemon(machine.wear, state)
    status, made = _daemon(state)
    yield from made
    yield from network.clock(loaded)
    if loaded is not None:
        # lines that the agent has open are not contacted
        held = {name for name, line in (status or {}).get("links", {}).items() if line["open"]}
        yield from machine.passwords(loaded, config.parent / "credentials")
        yield from as_daemon(machine.ports, loaded, held)
        yield from network.lines(loaded, held)
        yield from as_daemon(network.uplinks, loaded, state)
        if status is None:
            yield from _without_agent(loaded, account)


def _acting(
    account: pwd.struct_passwd | None, check: Callable[..., Iterable[Finding]], *args: Any
) -> list[Finding]:
    from agent.core.state import acting_as

    with acting_as(account):
        return list(check(*args))


def _without_agent(config: Loaded, account: pwd.struct_passwd | None) -> Iterator[Finding]:
    """Yield what a running agent finds by itself."""
    from agent.api.diagnosis import machine
    from agent.core.clock import seconds

    yield from machine.sample(config)
    yield from _acting(account, machine.named_certificates, config, seconds())
    yield from _acting(account, machine.leftover_spools, config)


def _configuration(files: Files) -> tuple[Loaded | None, Finding]:
    from agent.api.diagnosis.machine import fine, no_access
    from agent.config.load import checked
    from agent.core.errors import ConfigError

    loaded, subject = None, Text("configuration")
    try:
        # first without `strict`: the other checks need the configuration, even if the strict check
        # refuses it
        loaded = checked(files)
        checked(files, strict=True)
    except ConfigError as error:
        if isinstance(error.__cause__, PermissionError):
            return loaded, no_access("configuration", subject, files.path)
        first, *more = str(error).splitlines()
        text = as_text(first)
        if more:
            text = Text("{problem} (and {number} more)", problem=first, number=len(more))
        return loaded, Finding(
            code="configuration",
            subject=subject,
            what=text,
            severity=Severity.LATER,
            cost=None if loaded else Text("The agent cannot start with it"),
            cause="configuration",
            actor=Actor.INSTALLER,
            command="sudo gardien check",
        )
    text = Text(
        "{path}: {devices}, {uplinks}",
        path=str(files.path),
        devices=Plural("{number} device", "{number} devices", len(loaded.devices)),
        uplinks=Plural("{number} uplink", "{number} uplinks", len(loaded.uplinks)),
    )
    return loaded, fine("configuration", subject, text)


def _daemon(state: Path) -> tuple[dict[str, Any] | None, list[Finding]]:
    """Return the status of the running agent, and its findings."""
    from agent.api.diagnosis.machine import fine
    from agent.core.errors import AgentError
    from agent.local import ask_daemon

    subject = Text("agent")
    try:
        status = ask_daemon(state, "status", {}, lambda _: None)
    except AgentError as error:
        # an agent that answers with an error must not end the other checks
        what = as_text(error)
        problem = Finding(code="agent", subject=subject, what=what, severity=Severity.LATER)
        return None, [problem]
    if status is None:
        return None, [not_running(state, "sudo systemctl enable --now gardien")]
    read_here(status)
    running = replace(fine("agent", subject, Text("running")), since=status["started"])
    return status, [running, *map(Finding.of, status["events"])]


def not_running(state: Path, command: str) -> Finding:
    """Return the finding for an agent that does not run."""
    cost = Text("Nothing is read, sent or controlled. If it does not start: sudo gardien check")
    return Finding(
        code="agent",
        subject=Text("agent"),
        what=Text("gardien is not running on {state}", state=str(state)),
        severity=Severity.LOST,
        cost=cost,
        actor=Actor.INSTALLER,
        command=command,
    )

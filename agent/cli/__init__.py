"""The command line `gardien`: one file for each command group.

A command imports what it needs when it runs, so that `gardien --help` starts fast.
"""

from __future__ import annotations

from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import typer

from agent.cli import (
    building,
    bundle,
    clock,
    commission,
    configuration,
    consent,
    control,
    decode,
    doctor,
    finding,
    history,
    hotline,
    key,
    meter,
    occupancy,
    place,
    policy,
    privacy,
    profile,
    report,
    run,
    scan,
    sign,
    status,
    trust,
    updates,
    uplink,
    watch,
    web,
)
from agent.core.i18n import N_, _

app = typer.Typer(
    name="gardien",
    help="The agent on a building's gateway. It reads the meters, records which dwelling and which "
    "occupants each reading belongs to, and delivers it to each recipient that may "
    "receive it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
DAEMON, LINES, REGISTRY = "Agent", "Lines and devices", "Places, meters and consents"
CONTROL, DELIVERY, SERVICE = "Control and signed objects", "Delivery and keys", "Service"

COMMANDS: dict[str, dict[str, Any]] = {
    DAEMON: {
        "run": run.run,
        "check": configuration.check,
        "config": configuration.app,
        "reload": run.reload,
        "status": status.status,
        "watch": watch.watch,
        "web": web.app,
        "finding": finding.app,
        "clock": clock.app,
        "updates": updates.updates,
    },
    LINES: {
        "commission": commission.commission,
        "scan": scan.scan,
        "read": scan.read,
        "decode": decode.app,
        "ede": scan.ede,
        "profile": profile.app,
        "history": history.app,
    },
    REGISTRY: {
        "place": place.app,
        "meter": meter.app,
        "occupancy": occupancy.app,
        "consent": consent.app,
        "duty": consent.duties,
        "privacy": privacy.app,
        "hotline": hotline.app,
        "policy": policy.app,
    },
    CONTROL: {
        "control": control.app,
        "trust": trust.app,
        "object": trust.objects,
        "sign": sign.app,
        "audit": trust.audit,
    },
    DELIVERY: {"uplink": uplink.app, "key": key.app, "batch": uplink.batches},
    SERVICE: {
        "report": report.app,
        "doctor": doctor.doctor,
        "support-bundle": bundle.support_bundle,
        "backup": building.backup,
        "restore": building.restore,
        "factory-reset": building.factory_reset,
    },
}
"""the commands, by their heading in the help"""
VALUES = {
    "text": N_("TEXT"),
    "path": N_("PATH"),
    "file": N_("FILE"),
    "integer": N_("INTEGER"),
    "float": N_("NUMBER"),
}
"""what an option takes, by the name of its type in click"""
KINDS = {str: "text", Path: "path", int: "integer", float: "float"}
"""the names of types that an option declares"""

for panel, commands in COMMANDS.items():
    for name, command in commands.items():
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, rich_help_panel=panel)
        else:
            app.command(name, rich_help_panel=panel)(command)


@app.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Show the version."),
) -> None:
    if version:
        from agent.core.version import version as installed

        typer.echo(f"gardien {installed()}")
        raise typer.Exit


def command_line() -> Any:
    """Return all commands as one callable, which parses `sys.argv` and runs the command."""
    root = typer.main.get_command(app)
    _prepare(root)
    return root


def _prepare(command: Any) -> None:
    """Translate the help, and hide defaults that are None: typer 0.15 would show them."""
    # no isinstance: later versions of typer have their own copies of click's classes
    _translate(command, "help", "short_help", "rich_help_panel")
    for param in command.params:
        if param.param_type_name == "argument":
            _name_argument(param)
        _translate(param, "help", "metavar", "prompt")
        _name_value(param)
        if param.default is None and hasattr(param, "show_default"):
            param.show_default = False
    if hasattr(command, "commands"):
        command.resolve_command = partial(_resolved, command.resolve_command)
        for subcommand in command.commands.values():
            _prepare(subcommand)


def _resolved(resolve: Any, context: Any, typed: list[str]) -> Any:
    """Find the command that a person typed; if there is none, name the one that may be meant."""
    known = context.command.commands
    if typed[0] not in known and not typed[0].startswith("-"):
        from agent.config.problem import did_you_mean

        near = did_you_mean(typed[0], known)
        context.fail(_("there is no command `{command}`{near}", command=typed[0], near=near))
    return resolve(context, typed)


def _name_argument(param: Any) -> None:
    """Give an argument one name, in the reader's language: in the usage line and below it."""
    name = (param.metavar or param.name.upper()).strip("[].")
    param.metavar = f"{_(name) if param.required else f'[{_(name)}]'}{'...' * (param.nargs != 1)}"
    if hasattr(
        param, "type"
    ):  # else, in later versions of typer, it is the only name that is shown
        param.opts = []  # typer shows them as a second, English name
    else:
        param.opts = [_(name)]


def _name_value(param: Any) -> None:
    """Say in the reader's language what an option takes: `TEXTE`."""
    if hasattr(param, "type"):
        if param.type.name in VALUES:
            param.type = copy(param.type)  # the types are shared
            param.type.name = _(VALUES[param.type.name])
    elif not getattr(param, "is_flag", True) and param.metavar is None:  # later versions of typer
        kind = KINDS.get(param.type_descriptor.annotation)
        param.metavar = _(VALUES[kind]) if kind else None


def _translate(part: Any, *names: str) -> None:
    for name in names:
        if isinstance(text := getattr(part, name, None), str):
            setattr(part, name, _(text))

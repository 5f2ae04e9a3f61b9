"""The command line: `gardien`. One file per command group; each imports its work where it runs."""

from __future__ import annotations

from typing import Any

import typer

from agent.cli import (
    audit,
    batch,
    building,
    bundle,
    check,
    clock,
    configuration,
    consent,
    control,
    decode,
    doctor,
    duty,
    ede,
    key,
    meter,
    occupancy,
    place,
    policy,
    privacy,
    profile,
    read,
    reload,
    reset,
    run,
    scan,
    sign,
    signed,
    status,
    trust,
    updates,
    uplink,
)

app = typer.Typer(
    name="gardien",
    help="The agent on a building's gateway: reads its meters, knows whose each reading is, "
    "and delivers it exactly once to those who may have it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
RUNNING, BUILDING, WHOSE = "The agent", "Lines and devices", "Dwellings and their people"
ORDERS, FAR, TROUBLE = "Orders, and whose word counts", "The far side", "In the field"

COMMANDS: dict[str, dict[str, Any]] = {
    RUNNING: {
        "run": run.run,
        "check": check.check,
        "config": configuration.app,
        "reload": reload.reload,
        "status": status.status,
        "clock": clock.app,
        "updates": updates.updates,
    },
    BUILDING: {
        "scan": scan.scan,
        "read": read.read,
        "decode": decode.app,
        "ede": ede.ede,
        "profile": profile.app,
    },
    WHOSE: {
        "place": place.app,
        "meter": meter.app,
        "occupancy": occupancy.app,
        "consent": consent.app,
        "duty": duty.app,
        "privacy": privacy.app,
        "policy": policy.app,
    },
    ORDERS: {
        "control": control.app,
        "trust": trust.app,
        "object": signed.app,
        "sign": sign.app,
        "audit": audit.app,
    },
    FAR: {"uplink": uplink.app, "key": key.app, "batch": batch.app},
    TROUBLE: {
        "doctor": doctor.doctor,
        "support-bundle": bundle.support_bundle,
        "backup": building.backup,
        "restore": building.restore,
        "factory-reset": reset.factory_reset,
    },
}
"""by the heading that they stand under in the help"""

for panel, commands in COMMANDS.items():
    for word, work in commands.items():
        if isinstance(work, typer.Typer):
            app.add_typer(work, name=word, rich_help_panel=panel)
        else:
            app.command(word, rich_help_panel=panel)(work)


@app.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Say which version this is."),
) -> None:
    if version:
        from agent.version import version as installed

        typer.echo(f"gardien {installed()}")
        raise typer.Exit


def command_line() -> Any:
    """All commands; called, it does what the words of the command line say."""
    root = typer.main.get_command(app)
    _without_none(root)
    return root


def _without_none(command: Any) -> None:
    """What has no default says none; typer 0.15 would say `[default: None]`.

    The classes are click's, which later versions of typer have within themselves.
    """
    for param in command.params:
        if param.default is None and hasattr(param, "show_default"):
            param.show_default = False
    for one in getattr(command, "commands", {}).values():
        _without_none(one)

"""The command line: `gardien`. One file per command group; each imports its work where it runs."""

from __future__ import annotations

import sys

import typer

from agent.cli import (
    bundle,
    check,
    consent,
    decode,
    doctor,
    ede,
    key,
    meter,
    place,
    policy,
    read,
    reload,
    reset,
    run,
    scan,
    status,
)
from agent.errors import AgentError

app = typer.Typer(
    name="gardien",
    help="The agent on a building's gateway: reads its meters, knows whose each reading is, "
    "and delivers it exactly once to those who may have it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("check")(check.check)
app.command("read")(read.read)
app.command("reload")(reload.reload)
app.command("scan")(scan.scan)
app.command("status")(status.status)
app.command("ede")(ede.ede)
app.add_typer(place.app, name="place")
app.add_typer(meter.app, name="meter")
app.add_typer(consent.app, name="consent")
app.add_typer(key.app, name="key")
app.add_typer(decode.app, name="decode")
app.add_typer(policy.app, name="policy")
app.command("doctor")(doctor.doctor)
app.command("support-bundle")(bundle.support_bundle)
app.command("factory-reset")(reset.factory_reset)


@app.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Say which version this is."),
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"gardien {installed('gardien')}")
        raise typer.Exit


def main() -> None:
    """Run one command. Exit status 0: fine; 1: what was asked about is not; 2: used wrongly."""
    try:
        app()
    except AgentError as error:
        for line in str(error).splitlines():
            typer.echo(line if ": " in line[:200] else f"gardien: {line}", err=True)
        sys.exit(1)
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(1)

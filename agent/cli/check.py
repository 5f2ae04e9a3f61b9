"""`gardien check`: everything short of opening a connection."""

from __future__ import annotations

import typer

from agent.cli.terminal import DEFAULT_CONFIG, Config


def check(config: Config = DEFAULT_CONFIG) -> None:
    """Say whether the configuration can be used: every mistake with its line and a remedy."""
    from agent.config.check import check as examine

    status, text = examine(config)
    typer.echo(text, err=status != 0)
    raise typer.Exit(status)

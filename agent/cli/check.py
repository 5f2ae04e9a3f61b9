"""`gardien check`: checks the configuration without opening a connection."""

from __future__ import annotations

import typer

from agent.cli.terminal import DEFAULT_CONFIG, Config


def check(config: Config = DEFAULT_CONFIG) -> None:
    """Check the configuration; show each mistake with its line and a remedy.

    No connection is opened. Exit status 1 if there is a mistake.
    """
    from agent.config.check import check as examine

    status, text = examine(config)
    typer.echo(text, err=status != 0)
    raise typer.Exit(status)

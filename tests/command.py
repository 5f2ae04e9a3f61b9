"""The command line `gardien`, run in this process."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from typer.testing import CliRunner

from agent.cli import command_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typer.testing import Result

command = cache(command_line)
"""building it takes a tenth of a second, and typer's own runner does it at each call"""


def gardien(
    *args: object, typed: str | None = None, env: Mapping[str, str] | None = None
) -> Result:
    """Run `gardien` with these arguments and with `typed` on its standard input."""
    runner = super(CliRunner, CliRunner(env=env))
    return runner.invoke(command(), [str(arg) for arg in args], input=typed)

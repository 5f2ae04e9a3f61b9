"""The command line `gardien`, run in this process."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from typer import testing

from agent.cli import app

if TYPE_CHECKING:
    from collections.abc import Mapping

# building the command line takes a tenth of a second, and the runner would do it at each call
testing._get_command = cache(testing._get_command)


def gardien(
    *args: object, typed: str | None = None, env: Mapping[str, str] | None = None
) -> testing.Result:
    """Run `gardien` with these arguments and with `typed` on its standard input."""
    runner = testing.CliRunner(env=env)
    return runner.invoke(app, [str(arg) for arg in args], input=typed)

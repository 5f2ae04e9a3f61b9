"""The program `gardien`. The daemon starts without the command line, which would cost 9 MB."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from agent.core.errors import AgentError
from agent.core.i18n import lend_to_gettext
from agent.core.state import DEFAULT_CONFIG

if TYPE_CHECKING:
    from collections.abc import Sequence


def main() -> None:
    """Run one command. Exit status 0: success; 1: refused or not found; 2: wrong usage."""
    config = daemon_alone(sys.argv[1:])
    try:
        if config is not None:
            from agent.daemon import serve  # noqa: PLC0415 -- see the module

            serve(config)
            return
        lend_to_gettext()
        from agent.cli import command_line  # noqa: PLC0415 -- after the line above

        command_line()()
    except AgentError as error:
        for line in error.text.in_language().splitlines():
            message = line if ": " in line[:200] else f"gardien: {line}"
            sys.stderr.write(f"{message}\n")
        sys.exit(1)
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(1)


def daemon_alone(arguments: Sequence[str]) -> Path | None:
    """Return the configuration of a plain `run [--config FILE]`; None for any other command line.

    The full command line accepts `run` too, and starts the same daemon.
    """
    match list(arguments):
        case ["run"]:
            return Path(os.environ.get("GARDIEN_CONFIG") or DEFAULT_CONFIG)
        case ["run", "--config" | "-c", file] if not file.startswith("-"):
            return Path(file)
        case ["run", option] if option.startswith("--config="):
            return Path(option.removeprefix("--config="))
    return None


if __name__ == "__main__":
    main()

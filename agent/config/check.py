"""`gardien check`: the whole answer, short of opening a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.config.load import load
from agent.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def check(path: Path) -> tuple[int, str]:
    """Return exit status and text: 0 and what the configuration comes to, or 1 and its problems."""
    try:
        config = load(path)
    except ConfigError as error:
        problems = str(error).splitlines()
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        return 1, f"{error}\n{count}; nothing was changed"
    return 0, f"{path} is fine\n\n{config.summary()}"

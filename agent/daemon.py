"""The daemon from its first word to its last: logging, and the agent with its door."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from agent import app, local
from agent.systemd import FORMAT, log_handler, stderr_is_journal

if TYPE_CHECKING:
    from pathlib import Path


def serve(config: Path) -> None:
    """Run the agent until it is told to end (SIGTERM, Ctrl-C). Raises Refused."""
    # a journal has its own clock; a terminal does not
    date = "" if stderr_is_journal() else "%(asctime)s "
    logging.basicConfig(
        level=logging.INFO,
        handlers=[log_handler()],
        format=date + FORMAT,
        datefmt="%Y-%m-%dT%H:%M:%S%z",
    )
    asyncio.run(app.run(config, local.open_door))

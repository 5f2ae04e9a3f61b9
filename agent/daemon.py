"""The daemon: set up logging, then run the agent with its local socket."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from agent import app, local
from agent.core.systemd import FORMAT, log_handler, stderr_is_journal

if TYPE_CHECKING:
    from pathlib import Path


def serve(config: Path) -> None:
    """Run the agent until SIGTERM or Ctrl-C. Raises Refused."""
    # The journal dates each line itself; a terminal does not.
    date = "" if stderr_is_journal() else "%(asctime)s "
    logging.basicConfig(
        level=logging.INFO,
        handlers=[log_handler()],
        format=date + FORMAT,
        datefmt="%Y-%m-%dT%H:%M:%S%z",
    )
    asyncio.run(app.run(config, local.open_door))

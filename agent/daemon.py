"""The daemon: set up logging, then run the agent with its local socket."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING

from agent import app, local
from agent.core.i18n import ENGLISH
from agent.core.systemd import FORMAT, log_handler, stderr_is_journal

if TYPE_CHECKING:
    from pathlib import Path

    from agent.gateway.gateway import Gateway


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
    asyncio.run(app.run(config, _open_door))


async def _open_door(gateway: Gateway, state: Path) -> None:
    # The file was read in the language of whoever started the agent. From here on, each caller gets
    # texts, and translates them (agent/core/i18n.py).
    os.environ["LANGUAGE"] = ENGLISH
    await local.open_door(gateway, state)

"""The daemon from its first word to its last: logging, and the agent with its door."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING

from agent import app, local

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = "%(levelname)s %(message)s"


def serve(config: Path) -> None:
    """Run the agent until it is told to end (SIGTERM, Ctrl-C). Raises Refused."""
    # a journal has its own clock; a terminal does not
    date = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    logging.basicConfig(level=logging.INFO, format=date + FORMAT, datefmt="%Y-%m-%dT%H:%M:%S%z")
    asyncio.run(app.run(config, local.open_door))

"""`gardien run`: the daemon."""

from __future__ import annotations

import logging
import os

from agent.cli.terminal import DEFAULT_CONFIG, Config

FORMAT = "%(levelname)s %(message)s"


def run(config: Config = DEFAULT_CONFIG) -> None:
    """Run the agent until it is told to end (SIGTERM, Ctrl-C)."""
    import asyncio

    from agent import app, local

    # a journal has its own clock; a terminal does not
    date = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    logging.basicConfig(level=logging.INFO, format=date + FORMAT, datefmt="%Y-%m-%dT%H:%M:%S%z")
    asyncio.run(app.run(config, local.open_door))

"""The agent running: what opens in what order, and what ends in the opposite one."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from agent import pulse
from agent.clock import Clock, monotonic
from agent.config import load
from agent.errors import Refused
from agent.house import House, lines_of
from agent.lifetime import end, together
from agent.registry import identity
from agent.registry.registry import Registry
from agent.running import Running, running
from agent.sdnotify import notify, watchdog_period
from agent.state import owned

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path
    from typing import Any

    from agent.config import Config

log = logging.getLogger(__name__)

LONGEST_REST = 3600.0
"""seconds between two looks of the watchdog where nobody asks for more"""


@asynccontextmanager
async def visited(config_path: Path) -> AsyncIterator[House]:
    """The house without a daemon, for one call: registry open, lines open, nothing polled."""
    house = _house(load(config_path))
    lines = [asyncio.ensure_future(line.link.serve()) for line in house.lines.values()]
    try:
        yield house
    finally:
        await end(lines)


async def run(config_path: Path, door: Callable[[House, Path], Coroutine[Any, Any, None]]) -> None:
    """Run the agent until SIGTERM or SIGINT; what waits is committed before the end.

    READY is said once the stores are open: no device, broker or clock is needed for it. SIGHUP
    reads the configuration again. Raises Refused where the configuration is wrong or another
    daemon owns the state.
    """
    config = load(config_path)
    told, again = _listen(signal.SIGTERM, signal.SIGINT), _listen(signal.SIGHUP)
    with owned(config.state):
        async with running(_house(config), config_path) as here:
            jobs = [here.jobs.serve(), door(here.house, config.state), _reloads(here, again)]
            notify("READY=1")
            await together(
                *jobs, here.house.clock.serve(), _watchdog(here.house), _told_to_end(told)
            )
            notify("STOPPING=1")
            here.house.clock.remember()


def _house(config: Config) -> House:
    who = identity.load(config.state) if (config.state / identity.KEYS).exists() else None
    clock = Clock(config.clock.source, config.state / "clock.json")
    registry = Registry.open(config.state / "registry.json")
    return House(config, who, registry, clock, lines_of(config), {}, clock.now())


async def _reloads(here: Running, again: asyncio.Event) -> None:
    """Reload at each SIGHUP; a file that cannot be taken is told in the log, and the old stays."""
    while True:
        await again.wait()
        again.clear()
        try:
            await here.reload()
        except Refused as error:
            for line in str(error).splitlines():
                log.error("not reloaded: %s", line)  # noqa: TRY400 -- no bug


async def _watchdog(house: House) -> None:
    """Tell systemd that all goes round, twice as often as it asks; say nothing once a part hangs.

    Then systemd ends us (SIGABRT) and starts us anew: the disk has all that was accepted.
    """
    period, hung = watchdog_period(), False
    while True:
        await asyncio.sleep(period or LONGEST_REST)
        late = pulse.late(house, monotonic())
        if late and not hung:
            log.error("hangs, and is started anew if it stays so: %s", ", ".join(late))
        hung = bool(late)
        if period and not hung:
            notify("WATCHDOG=1")


def _listen(*words: signal.Signals) -> asyncio.Event:
    """Note signals from now on: one may come the moment after READY is said."""
    told, loop = asyncio.Event(), asyncio.get_running_loop()
    for word in words:
        loop.add_signal_handler(word, told.set)
    return told


async def _told_to_end(told: asyncio.Event) -> None:
    await told.wait()
    log.info("told to end: committing what waits")

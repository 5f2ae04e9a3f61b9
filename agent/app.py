"""The agent running: what opens in what order, and what ends in the opposite one."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from agent import pulse
from agent.clock import Clock, monotonic
from agent.config import load
from agent.errors import UplinkLost
from agent.house import House, Outlet, directory_of, lines_of, open_outlet, resume, start_polling
from agent.lifetime import end, keep_open, together
from agent.registry import identity
from agent.registry.registry import Registry
from agent.sdnotify import notify, watchdog_period
from agent.state import owned
from agent.uplink import pacing, transport
from agent.uplink.forward import forward
from agent.uplink.outbox import SpoolOutbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
    from pathlib import Path
    from typing import Any

    from agent.config import Config
    from agent.uplink.base import Uplink

log = logging.getLogger(__name__)

FORGET_EVERY = 3600.0
"""seconds between two looks for receipted batches that were kept long enough"""
LONGEST_WAIT = 300.0
"""seconds between two attempts at an uplink: a fleet must not come back all at once"""


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

    READY is said once the stores are open: no device, broker or clock is needed for it. Raises
    Refused where the configuration is wrong or another daemon owns the state.
    """
    config = load(config_path)
    told = _listen_for_the_end()
    with owned(config.state):
        async with AsyncExitStack() as stack:
            house = _house(config)
            for name in config.uplinks:
                outlet = await stack.enter_async_context(open_outlet(house, name))
                house.outlets[name] = outlet
                if house.clock.dates:
                    await resume(outlet, house.clock.now())
            start_polling(house)
            jobs = [*_reading(house), *_delivering(house), door(house, config.state)]
            notify("READY=1")
            await together(*jobs, house.clock.serve(), _watchdog(house), _told_to_end(told))
            notify("STOPPING=1")
            house.clock.remember()


def _house(config: Config) -> House:
    who = identity.load(config.state) if (config.state / identity.KEYS).exists() else None
    clock = Clock(config.clock.source, config.state / "clock.json")
    registry = Registry.open(config.state / "registry.json")
    return House(config, who, registry, clock, lines_of(config), {}, clock.now())


def _reading(house: House) -> list[Coroutine[Any, Any, None]]:
    jobs = [line.link.serve() for line in house.lines.values()]
    jobs += [line.poller.run() for line in house.lines.values() if line.poller]
    return jobs + [outlet.intake.serve() for outlet in house.outlets.values()]


def _delivering(house: House) -> list[Coroutine[Any, Any, None]]:
    outlets = house.outlets.values()
    return [_deliver(house, outlet) for outlet in outlets] + [_forget(house)]


async def _deliver(house: House, outlet: Outlet) -> None:
    gateway = house.identity.gateway if house.identity else ""
    opening = partial(transport(outlet.transport).open, outlet.settings, gateway)
    about = partial(directory_of, house, outlet)
    outbox = SpoolOutbox(outlet.spool, outlet.thread, house.clock, about)

    seal, delivery = outlet.settings.seal, outlet.delivery
    rhythm = pacing.Rhythm(seal=seal, phase=pacing.phase(gateway, seal))

    def serve(uplink: Uplink) -> Awaitable[None]:
        return forward(outbox, uplink, rhythm, delivery, house.clock, random.Random())

    name = f"uplink {outlet.name}"
    await keep_open(name, opening, serve, UplinkLost, LONGEST_WAIT, delivery.good)


async def _forget(house: House) -> None:
    """Delete receipted batches once they have been kept as long as configured."""
    while True:
        for outlet in house.outlets.values():
            before = house.clock.now() - house.config.spool.keep
            await outlet.thread.run(outlet.spool.forget, before)
        await asyncio.sleep(FORGET_EVERY)


async def _watchdog(house: House) -> None:
    """Tell systemd that all goes round, twice as often as it asks; say nothing once a part hangs.

    Then systemd ends us (SIGABRT) and starts us anew: the disk has all that was accepted.
    """
    period, hung = watchdog_period(), False
    while True:
        await asyncio.sleep(period or FORGET_EVERY)
        late = pulse.late(house, monotonic())
        if late and not hung:
            log.error("hangs, and is started anew if it stays so: %s", ", ".join(late))
        hung = bool(late)
        if period and not hung:
            notify("WATCHDOG=1")


def _listen_for_the_end() -> asyncio.Event:
    """Note SIGTERM and SIGINT from now on: one may come the moment after READY is said."""
    told, loop = asyncio.Event(), asyncio.get_running_loop()
    for word in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(word, told.set)
    return told


async def _told_to_end(told: asyncio.Event) -> None:
    await told.wait()
    log.info("told to end: committing what waits")

"""The agent's own parts at work inside a test: spools, uplinks, calls; rows are put in by hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from agent import app
from agent.config import load
from agent.core.clock import Clock
from agent.core.model import Reading, Series
from agent.gateway.gateway import Gateway, Waits
from agent.gateway.supervisor import running
from agent.local import ask_daemon, open_door
from agent.registry import identity
from tests.waiting import until

RECIPIENT = "r.example"
DEFAULT_WAITS = Waits()
CONFIG = """\
building: {{name: Les Alpins}}
uplinks:
  centre: {{recipient: r.example, transport: mqtt, url: "{url}", seal: {seal}{more}}}
privacy: {{policy: DEMO-1, common: {{basis: AG du 12 mai, from: 2020-01-01}}}}
clock: {{source: system}}
state: {state}
spool: {{max: 50MB, flush: 200ms}}
"""


def configured(folder: Path, url: str, more: str = "", seal: str = "200ms") -> Path:
    path = folder / "config.yaml"
    text = CONFIG.format(url=url, state=folder / "state", more=more and f", {more}", seal=seal)
    path.write_text(text, encoding="utf-8")
    if not (folder / "state").exists():
        (folder / "state").mkdir(mode=0o700)
        identity.mint(folder / "state")
    return path


@asynccontextmanager
async def at_work(
    config: Path, clock: Clock | None = None, waits: Waits = DEFAULT_WAITS
) -> AsyncIterator[Gateway]:
    with app.opened(load(config), clock) as house:
        house.waits = waits
        async with _at_work(house, config):
            yield house


@asynccontextmanager
async def _at_work(house: Gateway, config: Path) -> AsyncIterator[None]:
    async with running(house, config):
        yield
        assert not house.jobs.faults.all(), "a test that wants faults looks at them itself"


@asynccontextmanager
async def at_the_door(config: Path) -> AsyncIterator[tuple[Gateway, Callable[..., Any]]]:
    """A gateway at work behind its door, and a function that makes a call there."""
    state = config.with_name("state")

    async def call(name: str, **args: Any) -> dict[str, Any] | None:
        return await asyncio.to_thread(ask_daemon, state, name, args, lambda _: None)

    async with at_work(config) as house:
        serving = asyncio.ensure_future(open_door(house, state))
        try:
            await until((state / "gardien.sock").exists)
            yield house, call
        finally:
            serving.cancel()


async def put(house: Gateway, slots: int, first: int = 0) -> None:
    """So many readings of common plant, in the spool."""
    series = Series("CZS2YFSTBQQ5WDC", "elec.imp", "REG", "kWh", 1, "m1", None, "common")
    start = first or int(time.time())
    rows = [Reading(series, start + n, Decimal(start + n), "V") for n in range(slots)]
    recipient = house.recipients["centre"]
    await recipient.thread.run(recipient.spool.append, rows, {})
    recipient.delivery.stored()


async def owed(house: Gateway) -> int:
    recipient = house.recipients["centre"]
    backlog = await recipient.thread.run(recipient.spool.backlog)
    return backlog.rows + backlog.batch_rows


async def settled(house: Gateway) -> None:
    async def nothing_owed() -> bool:
        return await owed(house) == 0

    await until(nothing_owed)

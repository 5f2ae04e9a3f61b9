"""Batches larger than the far side takes: their rows come in smaller ones, whole and once, through
real HTTPS, a proxy that errs, real brokers and restarts. Guards rules G1, G2, T18."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agent.core.model import Lane, Reading
from agent.uplink import transport
from agent.uplink.base import GatewayFacts
from hil.broker import broker
from hil.ca import CA
from hil.platform.child import Keeper, Platform, Serving
from hil.process import free_port
from hil.proxy import Proxy, proxy
from tests.contract.uplink.house import GATEWAY, House, delivering, house, series, serving
from tests.contract.uplink.sides import settings_of
from tests.depth import LONG

HOUR, DAY = 3_600.0, 86_400.0
LARGEST = 4_000
"""bytes that the way to the platform takes"""


@dataclass
class Way:
    """A platform behind a proxy."""

    platform: Keeper
    proxy: Proxy
    settings: Any


@asynccontextmanager
async def way(folder: Path) -> AsyncIterator[Way]:
    ours, port = CA("Platform CA"), free_port()
    own = ours.server(folder)
    async with Serving(port, folder / "platform.db") as platform:
        with proxy(port, own) as front:
            url = f"https://127.0.0.1:{front.port}"
            yield Way(platform, front, settings_of("https", url=url, ca=ours.file(folder)))


@asynccontextmanager
async def sending(at: House, far: Way) -> AsyncIterator[None]:
    async with serving(at, transport("https"), far.settings, GatewayFacts(GATEWAY)):
        yield


async def noise(at: House, slots: int, start: int | None = None) -> None:
    """Readings of ten dwellings that no compression makes small."""
    draw = random.Random(slots)
    begin = int(time.time()) - 7_200 if start is None else start
    for t in range(begin, begin + slots):
        rows = [Reading(series(n), t, Decimal(draw.randrange(10**9)) / 1000, "V")
                for n in range(10)]  # fmt: skip
        await at.thread.run(at.spool.append, rows, {})
        at.delivery.stored()
        at.rows += len(rows)


async def complete(rows: int, platform: Keeper) -> dict[str, Any]:
    """Every row is there once, and every number below the last is."""
    counted = await platform.report()
    assert counted["rows"] == counted["slots"] == rows
    for never in ("differing_batches", "alarms", "overlapping_slots", "seq_gaps", "unreadable"):
        assert counted[never] == 0, never
    return counted


def test_after_a_413_the_rows_come_in_smaller_batches_also_over_restarts(tmp_path: Path):
    async def scenario() -> None:
        read = 0
        async with way(tmp_path) as far:
            far.proxy.largest = LARGEST
            for stop in (lambda: len(far.proxy.refused) == 3, lambda: len(far.proxy.passed) > 1):
                async with house(tmp_path) as at:
                    if not read:
                        await noise(at, 120)
                        read = at.rows
                    async with sending(at, far):
                        await at.until(stop)
            async with house(tmp_path) as at:
                refused = len(far.proxy.refused)
                await noise(at, 60, int(time.time()) - 3_600)
                async with sending(at, far):
                    await at.settled()
                assert (await at.thread.run(at.spool.backlog)).quarantined == 0
                counted = await complete(read + at.rows, far.platform)
            assert counted["voids"] == 1
            assert len(far.proxy.refused) - refused <= 3, "what was learned is kept"
            assert max(far.proxy.passed) <= LARGEST

    asyncio.run(scenario())


@pytest.mark.parametrize("status", [400, *((413, 403, 503) if LONG else ())])
def test_what_a_proxy_refused_by_mistake_comes_through_once_it_is_put_right(
    tmp_path: Path, status: int
):
    """No row is lost, and no batch stays small for it."""

    async def scenario() -> None:
        async with way(tmp_path) as far, house(tmp_path) as at:
            await noise(at, 10)
            first = await at.outbox.seal(Lane.BACKFILL, 2**40, 5_000, 48_000)
            assert first is not None
            far.proxy.mistake = status
            async with sending(at, far):
                await at.until(lambda: len(far.proxy.refused) >= (4 if status == 413 else 3))
                if status == 400:
                    await until_quarantined(at, 1)
                assert "web page" in at.delivery.last_error
                far.proxy.mistake = 0
                at.wrong += HOUR / 2 + 1
                await at.outbox.tend(60 * DAY)
                await at.settled()
            backlog = await at.thread.run(at.spool.backlog)
            assert (backlog.quarantined, backlog.quarantined_since) == (0, None)
            assert at.outbox.most_bytes() is None
            counted = await complete(at.rows, far.platform)
            assert (counted["voids"] > 0) == (status == 413)

    asyncio.run(scenario())


async def until_quarantined(at: House, batches: int) -> None:
    async with asyncio.timeout(60):
        while (await at.thread.run(at.spool.backlog)).quarantined != batches:
            await asyncio.sleep(0.02)


@pytest.mark.skipif(not LONG, reason="buffer/test_refused.py has it without a network")
def test_a_row_that_is_too_large_alone_stays_and_is_told_and_the_others_pass(tmp_path: Path):
    async def scenario() -> None:
        async with way(tmp_path) as far, house(tmp_path) as at:
            far.proxy.largest = 350
            long = random.Random(7).randbytes(100).hex()
            large = Reading(series(1)._replace(meter=long), int(time.time()) - 60, Decimal(1), "V")
            await at.thread.run(at.spool.append, [large], {})
            at.delivery.stored()
            async with sending(at, far):
                await until_quarantined(at, 1)
                await at.read(1, int(time.time()) - 30)
                await at.settled()
                backlog = await at.thread.run(at.spool.backlog)
                assert backlog.quarantined_since is not None
                assert "too large" in backlog.quarantined_why
                await complete(1, far.platform)
                far.proxy.largest = 1_000_000
                assert await at.outbox.retry() == 1
                await until_quarantined(at, 0)
                await at.settled()
            assert (await complete(2, far.platform))["voids"] == 0

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("line", "version"),
    [
        (f"message_size_limit {LARGEST}", "5"),
        *([(f"max_packet_size {LARGEST}", word) for word in ("5", "3.1.1")] if LONG else ()),
    ],
)
def test_a_broker_with_small_messages_gets_small_batches(tmp_path: Path, line: str, version: str):
    async def scenario() -> None:
        async with (
            broker(more=(line,)) as server,
            Platform(server.port, tmp_path / "platform.db") as platform,
            house(tmp_path) as at,
        ):
            await noise(at, 120)
            async with delivering(at, server.port, version=version):
                await at.settled()
            await complete(at.rows, platform)

    asyncio.run(scenario())

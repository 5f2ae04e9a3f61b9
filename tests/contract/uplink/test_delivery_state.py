"""What only a broker does to a delivery; all else is in test_transports.py, for every transport."""

import asyncio
import time
from pathlib import Path
from typing import Any

from agent.buffer.receipts import Settled
from agent.core.model import Receipt
from hil.broker import broker
from hil.cut import cut
from hil.platform.child import Platform
from tests.contract.uplink.house import House, delivering, house


async def proved(at: House, platform: Platform) -> dict[str, Any]:
    """Every row is there once, none is there twice, and no id was ever used for two contents."""
    await at.settled()
    counted = await platform.report()
    assert counted["rows"] == counted["slots"] == at.rows
    for never in ("differing_batches", "alarms", "overlapping_slots", "seq_gaps", "unreadable"):
        assert counted[never] == 0, never
    return counted


def test_what_the_broker_took_and_lost_arrives_after_all(tmp_path: Path):
    """The broker's PUBACK is no delivery: an agent that believes it loses these rows. Rule T24."""

    async def scenario() -> None:
        async with (
            broker() as b,
            Platform(b.port, tmp_path / "platform.db") as platform,
            house(tmp_path) as at,
            delivering(at, b.port),
        ):
            await at.read()
            await at.settled()
            platform.freeze()
            before, ahead = at.delivery.sent, int(time.time()) + 60
            for slot in range(ahead, ahead + 5):
                await at.read(slot=slot)
                await asyncio.sleep(0.3)
            await at.until(lambda: at.delivery.sent >= before + 4)
            await b.kill()
            platform.thaw()
            await asyncio.sleep(0.5)
            held = (await platform.report())["rows"]
            assert held <= 20, "all but one batch died with the broker"
            await b.start()
            await proved(at, platform)
            assert at.delivery.resent >= 4

    asyncio.run(scenario())


def test_a_batch_whose_receipt_was_lost_is_resent_byte_for_byte_and_counted_once(tmp_path: Path):
    async def scenario() -> None:
        async with (
            broker() as b,
            Platform(b.port, tmp_path / "platform.db") as platform,
            house(tmp_path) as at,
        ):
            deaf = DeafOnce(at)
            async with delivering(at, b.port, deaf):
                await at.read()
                await platform.holds(10)
                await at.until(lambda: deaf.missed > 0)
            assert await at.unsettled() == 10
            async with delivering(at, b.port):
                counted = await proved(at, platform)
            assert counted["resent_batches"] >= 1
            assert counted["batches"] == 1

    asyncio.run(scenario())


def test_a_backlog_drains_behind_the_live_rows_after_the_line_was_cut(tmp_path: Path):
    async def scenario() -> None:
        async with (
            broker() as b,
            cut(b.port) as line,
            Platform(b.port, tmp_path / "platform.db") as platform,
            house(tmp_path) as at,
            delivering(at, line.port),
        ):
            await at.read()
            await at.settled()
            await line.set("cut")
            await at.until(lambda: at.delivery.connected_since is None)
            await at.backlog(300, dwellings=25)
            await line.set("pass")
            await at.until(lambda: at.delivery.connected_since is not None)
            began = time.monotonic()
            await at.read()
            await platform.holds(20)
            live = time.monotonic() - began
            await proved(at, platform)
            assert live < 15
            assert time.monotonic() - began < 60

    asyncio.run(scenario())


LIMITS = {
    "aws": ("max_packet_size 149504", "max_inflight_messages 100", "max_keepalive 1200"),
    "azure-event-grid": ("retain_available false", "max_keepalive 1160"),
    "hivemq": ("max_inflight_messages 10", "max_queued_messages 1000"),
    "emqx": ("max_packet_size 1048576", "max_inflight_messages 32"),
}
"""what their documents say, as far as mosquitto can be told to keep to it"""


def test_each_preset_delivers_through_a_broker_with_its_limits(tmp_path: Path):
    """Not the providers' own brokers: those were never tried."""

    async def through(preset: str) -> None:
        folder = tmp_path / preset
        folder.mkdir()
        async with (
            broker(more=LIMITS[preset]) as b,
            Platform(b.port, folder / "platform.db") as platform,
            house(folder) as at,
            delivering(at, b.port, keepalive=30.0, preset=preset),
        ):
            await at.backlog(5, dwellings=100)
            await at.read()
            await proved(at, platform)
            assert at.delivery.lost == "", preset

    async def scenario() -> None:
        await asyncio.gather(*map(through, LIMITS))

    asyncio.run(scenario())


class DeafOnce:
    """The spool's sending side, but no receipt reaches it."""

    def __init__(self, at: House) -> None:
        self.missed = 0
        inner = at.outbox
        self.seal, self.unreceipted = inner.seal, inner.unreceipted
        self.quarantined = inner.quarantined
        self.quarantine, self.waiting = inner.quarantine, inner.waiting
        self.split, self.forget_limit = inner.split, inner.forget_limit
        self.most_bytes = inner.most_bytes
        self.behind, self.catch_up, self.on_void = False, inner.catch_up, None

    async def settle(self, receipt: Receipt) -> Settled:
        assert receipt
        self.missed += 1
        return Settled()

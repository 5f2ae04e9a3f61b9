"""Spool, forward, MQTT, a real broker and a platform in a process of its own: delivered once."""

import asyncio
import hashlib
import json
import time
from pathlib import Path
from typing import Any

from agent.buffer.verdict import Settled
from agent.model import Receipt
from hil.broker import broker
from hil.cut import cut
from hil.platform.child import Platform
from hil.platform.unpack import unpack
from tests.contract.uplink.house import GATEWAY, RECIPIENT, House, delivering, house


async def proved(at: House, platform: Platform) -> dict[str, Any]:
    """Every row is there once, none is there twice, and no id was ever used for two contents."""
    await at.settled()
    counted = await platform.report()
    assert counted["rows"] == counted["slots"] == at.rows
    for never in ("differing_batches", "alarms", "overlapping_slots", "seq_gaps", "unreadable"):
        assert counted[never] == 0, never
    return counted


def test_readings_arrive_and_are_settled_by_the_platforms_receipts(tmp_path: Path):
    async def scenario() -> None:
        async with (
            broker() as b,
            Platform(b.port, tmp_path / "platform.db") as platform,
            house(tmp_path) as at,
            delivering(at, b.port),
        ):
            for _ in range(3):
                await at.read()
                await asyncio.sleep(1)
            counted = await proved(at, platform)
            assert counted["batches"] >= 3
            assert at.delivery.resent == counted["resent_batches"] == 0
            assert at.delivery.good()

    asyncio.run(scenario())


def test_what_the_broker_took_and_lost_arrives_after_all(tmp_path: Path):
    """The broker's PUBACK is no delivery: an agent that believes it loses these rows."""

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


def test_nothing_is_lost_or_doubled_while_broker_and_platform_die_in_turn(tmp_path: Path):
    async def scenario() -> None:
        async with (
            broker() as b,
            Platform(b.port, tmp_path / "platform.db") as platform,
            house(tmp_path) as at,
            delivering(at, b.port),
        ):
            start = int(time.time())
            for turn in range(16):
                await at.read(slot=start + turn)
                await asyncio.sleep(0.2)
                if turn % 8 == 3:
                    await b.kill()
                    await b.start()
                if turn % 8 == 6:
                    await platform.kill()
                    await platform.start()
            await proved(at, platform)

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
            await at.backlog(1_200)
            await line.set("pass")
            await at.until(lambda: at.delivery.connected_since is not None)
            began = time.monotonic()
            await at.read()
            await platform.holds(20)
            live = time.monotonic() - began
            await proved(at, platform)
            assert live < 3
            assert time.monotonic() - began < 15

    asyncio.run(scenario())


def test_a_slow_line_carries_on(tmp_path: Path):
    async def scenario() -> None:
        async with (
            broker() as b,
            cut(b.port) as line,
            Platform(b.port, tmp_path / "platform.db") as platform,
            house(tmp_path) as at,
        ):
            await line.set("slow", 20_000)
            async with delivering(at, line.port, keepalive=2):
                await at.backlog(1_000)
                await at.read()
                await proved(at, platform)
                assert at.delivery.resent == 0, "the line was never taken for lost"

    asyncio.run(scenario())


def test_a_rejected_batch_is_put_aside_and_the_next_ones_get_through(tmp_path: Path):
    async def scenario() -> None:
        async with broker() as b, house(tmp_path) as at, delivering(at, b.port):
            refuse = asyncio.create_task(_answer_as(b.port, "rejected", "no"))
            await asyncio.sleep(0.3)
            await at.read()
            await refuse
            await at.until(lambda: at.delivery.rejected == 1)
            async with Platform(b.port, tmp_path / "platform.db") as platform:
                await at.read(slot=int(time.time()) + 1)
                counted = await platform.holds(10)
                await at.settled()
            assert counted["batches"] == 1
            backlog = await at.thread.run(at.spool.backlog)
            assert (backlog.quarantined, backlog.batches) == (1, 0)

    asyncio.run(scenario())


def test_receipts_for_what_was_never_sent_or_is_anothers_change_nothing(tmp_path: Path):
    async def scenario() -> None:
        async with (
            broker() as b,
            Platform(b.port, tmp_path / "platform.db") as platform,
            house(tmp_path) as at,
            delivering(at, b.port),
        ):
            epoch = await at.epoch()
            strangers = [
                {"epoch": "000000000000", "stored": [[1, "0" * 64]]},
                {"epoch": epoch, "gateway": "GOTHER", "stored": [[1, "0" * 64]]},
                {"epoch": epoch, "recipient": "other.example", "stored": [[1, "0" * 64]]},
            ]
            await at.until(lambda: at.delivery.connected_since is not None)
            for members in strangers:
                await _tell(b.port, members)
            await at.read()
            counted = await proved(at, platform)
            assert await at.epoch() == epoch
            assert at.delivery.conflicts == 0
            assert counted["duplicate_rows"] == 0

    asyncio.run(scenario())


class DeafOnce:
    """The spool's sending side, but no receipt reaches it."""

    def __init__(self, at: House) -> None:
        self.missed = 0
        inner = at.outbox
        self.seal, self.unreceipted = inner.seal, inner.unreceipted
        self.quarantine, self.waiting = inner.quarantine, inner.waiting

    async def settle(self, receipt: Receipt) -> Settled:
        assert receipt
        self.missed += 1
        return Settled()


async def _tell(port: int, members: dict[str, Any]) -> None:
    document = {"schema": "gardien/receipt/1", "gateway": GATEWAY, "recipient": RECIPIENT}
    topic = f"gardien/{GATEWAY}/{RECIPIENT}/down/receipts"
    tell = ("mosquitto_pub", "-p", str(port), "-q", "1", "-t", topic, "-s")
    client = await asyncio.create_subprocess_exec(*tell, stdin=asyncio.subprocess.PIPE)
    await client.communicate(json.dumps(document | members).encode())


async def _answer_as(port: int, word: str, *more: str) -> None:
    """Wait for one batch and say something of it."""
    listen = ("mosquitto_sub", "-p", str(port), "-t", "gardien/+/+/up/+", "-C", "1", "-F", "%x")
    client = await asyncio.create_subprocess_exec(*listen, stdout=asyncio.subprocess.PIPE)
    printed, _ = await client.communicate()
    payload = bytes.fromhex(printed.decode().strip())
    id_ = unpack(payload).id
    entry = [id_.seq, hashlib.sha256(payload).hexdigest(), *more]
    await _tell(port, {"epoch": id_.epoch, word: [entry]})

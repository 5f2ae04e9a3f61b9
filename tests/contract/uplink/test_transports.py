"""One suite for all transports: whatever happens to link, far side and receipts, nothing is lost,
nothing is counted twice, and the order of each series is kept. Guards rules G1, G2, G7."""

import asyncio
import json
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, closing, suppress
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from agent.buffer.batch import Stamp, write
from agent.buffer.outbox import digest
from agent.buffer.receipts import parse
from agent.core.clock import ClockTrust
from agent.core.errors import NotStored, UplinkLost
from agent.core.model import Lane, Reading, Receipt, SealedBatch
from agent.trust.sign import Signer
from agent.trust.verify import Audience, Member, VerificationContext, receipt_signed_by
from hil.platform.answer import left_to_say, tell_to_say
from hil.platform.ledger import tell_to_reject
from tests.contract.uplink.house import GATEWAY, RECIPIENT, House, house, series, serving
from tests.contract.uplink.sides import OVER_A_LINE, TRANSPORTS, Side, listening, side, so
from tests.depth import depth

every_transport = pytest.mark.parametrize("word", TRANSPORTS)
over_a_line = pytest.mark.parametrize("word", OVER_A_LINE)
Fact = Callable[[], Awaitable[bool]]
YEAR = 365 * 86_400.0
CUTS = depth(6, 400)


async def proved(at: House, far: Side, folder: Path) -> dict[str, Any]:
    """Every row is there once, none is there twice, and no id was ever used for two contents."""
    await at.settled(60)
    counted = await far.platform.report()
    assert counted["rows"] == counted["slots"] == at.rows
    for never in ("differing_batches", "alarms", "overlapping_slots", "seq_gaps", "unreadable"):
        assert counted[never] == 0, never
    assert out_of_order(folder) == []
    return counted


def out_of_order(folder: Path) -> list[tuple[Any, ...]]:
    """Rows that stand in a later batch of their lane than a later row of their series."""
    with closing(sqlite3.connect(folder / "platform.db")) as db:
        return db.execute(
            "SELECT a.place, a.t, a.seq, b.t, b.seq FROM row a JOIN row b USING (place, channel,"
            " epoch) JOIN batch x ON (x.epoch, x.seq) = (a.epoch, a.seq)"
            " JOIN batch y ON (y.epoch, y.seq) = (b.epoch, b.seq)"
            " WHERE a.t < b.t AND a.seq > b.seq AND x.lane = y.lane AND NOT a.again"
        ).fetchall()


async def sealed(at: House) -> list[SealedBatch]:
    """Everything that waits, sealed."""
    while await at.outbox.seal(Lane.LIVE, 0, 5_000, 48_000):
        pass
    return await at.outbox.unreceipted()


async def once(at: House, far: Side, patience: float = 60.0) -> None:
    """One connection: send what has no receipt, and wait until all of it has one."""
    async with far.kind.open(far.settings, far.station) as uplink:
        for batch in await at.outbox.unreceipted():
            await uplink.send(batch)
        async with asyncio.timeout(patience), aclosing(uplink.receipts()) as receipts:
            while await at.unsettled():
                await at.outbox.settle(await anext(receipts))


async def packs(at: House, far: Side) -> None:
    await at.thread.run(at.spool.packs, far.kind.packing(far.settings, far.station))


@every_transport
def test_readings_arrive_and_are_settled_by_the_platforms_receipts(tmp_path: Path, word: str):
    async def scenario() -> None:
        async with (
            side(word, tmp_path) as far,
            house(tmp_path) as at,
            serving(at, far.kind, far.settings, far.station),
        ):
            for _ in range(3):
                await at.read()
                await at.settled()  # opening a line alone may take longer than three readings
            counted = await proved(at, far, tmp_path)
            assert counted["batches"] == 3
            assert at.delivery.good()

    asyncio.run(scenario())


@over_a_line
def test_a_link_cut_at_any_byte_loses_nothing_and_doubles_nothing(tmp_path: Path, word: str):
    async def scenario() -> None:
        async with side(word, tmp_path) as far, house(tmp_path) as at:
            assert far.line is not None
            await packs(at, far)
            await at.read()
            await sealed(at)
            far.line.break_after(10**9)
            await once(at, far)
            whole = 10**9 - (far.line._left or 0)
            begin = int(time.time()) + 100
            broke = 0
            for nth in range(CUTS):
                await at.read(slot=begin + nth)
                await sealed(at)
                far.line.break_after(whole * nth // CUTS)
                while await at.unsettled():
                    with suppress(UplinkLost, NotStored, TimeoutError, StopAsyncIteration):
                        await once(at, far)
                broke += far.line.broken.is_set()
            assert broke > CUTS * 0.7, "the cuts fell into what is said"
            await proved(at, far, tmp_path)

    asyncio.run(scenario())


@over_a_line
def test_a_slow_link_carries_on(tmp_path: Path, word: str):
    async def scenario() -> None:
        async with side(word, tmp_path) as far, house(tmp_path) as at:
            assert far.line is not None
            await far.line.set("slow", 20_000)
            async with serving(at, far.kind, far.settings, far.station):
                await at.backlog(300)
                await at.read()
                await proved(at, far, tmp_path)
                assert at.delivery.resent == 0, "the line was never taken for lost"

    asyncio.run(scenario())


@over_a_line
def test_a_frozen_link_is_noticed_and_what_was_under_way_arrives_after_all(
    tmp_path: Path, word: str
):
    async def scenario() -> None:
        async with side(word, tmp_path) as far, house(tmp_path) as at:
            assert far.line is not None
            quick = {"keepalive": 1.0} if word == "mqtt" else {"timeout": 1.0}
            settings = far.settings.model_copy(update=quick)
            async with serving(at, far.kind, settings, far.station):
                await at.read()
                await at.settled()
                await far.line.set("freeze")
                await at.read()
                await at.until(lambda: at.delivery.connected_since is None)
                await far.line.set("pass")
                await proved(at, far, tmp_path)

    asyncio.run(scenario())


@every_transport
def test_nothing_is_lost_or_doubled_while_server_and_platform_die_in_turn(
    tmp_path: Path, word: str
):
    async def scenario() -> None:
        async with (
            side(word, tmp_path) as far,
            house(tmp_path) as at,
            serving(at, far.kind, far.settings, far.station),
        ):
            start = int(time.time())
            for turn in range(6):
                await at.read(slot=start + turn)
                await asyncio.sleep(0.25)
                if turn % 6 == 2 and far.server:
                    await far.server.kill()
                    await far.server.start()
                if turn % 6 == 4:
                    await far.platform.kill()
                    await far.platform.start()
            await proved(at, far, tmp_path)

    asyncio.run(scenario())


@every_transport
def test_a_clock_that_is_years_off_on_either_side_loses_nothing_and_doubles_nothing(
    tmp_path: Path, word: str
):
    """Ours jumps while batches wait for their receipts, and the far side's dates are nonsense."""

    async def scenario() -> None:
        async with side(word, tmp_path) as far, house(tmp_path) as at:
            start = int(time.time())
            async with serving(at, far.kind, far.settings, far.station):
                for turn, years in enumerate((-30, 30, -50, 0)):
                    far.platform.freeze()
                    await at.read(slot=start + 2 * turn)
                    await asyncio.sleep(0.3)
                    at.wrong = years * YEAR
                    await at.read(slot=start + 2 * turn + 1)
                    await asyncio.sleep(0.3)
                    misdated(far, -years * YEAR)
                    far.platform.thaw()
                    await asyncio.sleep(0.3)
                    misdated(far, years * YEAR)
                await at.settled(60)
            copies = await sealed(at)
            assert copies == []
            counted = await proved(at, far, tmp_path)
            assert len(counted["epochs"]) == 1

    asyncio.run(scenario())


def reading(*keys: Signer) -> Callable[[bytes], Receipt | None]:
    """Reads receipts as a gateway does whose trust list names these keys of the recipient."""
    members = {key.kid: Member(key.key, RECIPIENT, "recipient") for key in keys}
    us = Audience(GATEWAY, "state", None)
    context = VerificationContext(members, us, time.time(), ClockTrust.TRUSTED)

    def read(body: bytes) -> Receipt | None:
        if not body.startswith(b"ey"):
            return parse(body)
        kid, signed = receipt_signed_by(body, RECIPIENT, context)
        return replace(parse(signed), kid=kid)

    return read


@every_transport
def test_a_platform_that_begins_to_sign_settles_what_its_unsigned_receipts_did_not(
    tmp_path: Path, word: str
):
    """Rules T35, T36."""
    key, file = Signer.new(RECIPIENT), tmp_path / "key.jwk"

    async def scenario() -> None:
        async with side(word, tmp_path, file) as far, house(tmp_path) as at:
            far.station = replace(far.station, receipt=reading(key), signed=lambda: True)
            at.outbox.signed = lambda: True
            await packs(at, far)
            await at.read()
            await sealed(at)
            async with far.kind.open(far.settings, far.station) as uplink:
                async with listening(uplink) as heard:
                    for batch in await at.outbox.unreceipted():
                        await uplink.send(batch)
                    await so(lambda: heard)
                for receipt in heard:
                    assert (await at.outbox.settle(receipt)).unsigned
            assert await at.unsettled()
            file.write_text(json.dumps(key.private_jwk()), encoding="utf-8")
            await once(at, far)
            assert (await far.platform.report())["rows"] == 10
            kids = await at.thread.run(partial(at.spool.distrust, [key.kid], time.time()))
            assert kids == 1, "the batch knows the key that has settled it"

    asyncio.run(scenario())


def misdated(far: Side, seconds: float) -> None:
    """The clock of a far side that keeps files was wrong by so much."""
    for file in far.root.glob("*/*.*") if far.root else ():
        with suppress(FileNotFoundError):
            os.utime(file, (time.time() + seconds,) * 2)


@every_transport
def test_a_rejected_batch_is_put_aside_and_the_next_ones_get_through(tmp_path: Path, word: str):
    async def scenario() -> None:
        async with side(word, tmp_path) as far, house(tmp_path) as at:
            await packs(at, far)
            tell_to_reject(tmp_path / "platform.db", 1)
            await at.read()
            await sealed(at)
            await once(at, far)
            await at.read(slot=int(time.time()) + 60)
            await sealed(at)
            await once(at, far)
            backlog = await at.thread.run(at.spool.backlog)
            assert (backlog.quarantined, backlog.batches) == (1, 0)
            assert (await far.platform.report())["rows"] == 10

    asyncio.run(scenario())


async def lied_to(
    at: House, far: Side, lie: dict[str, Any] | str, effect: Fact | None = None
) -> None:
    """Send what has no receipt, and believe what is answered as far as the spool does; until that
    has its effect, where one is to be waited for.
    """
    tell_to_say(far.platform.db, [lie])
    async with far.kind.open(far.settings, far.station) as uplink:
        for batch in await at.outbox.unreceipted():
            with suppress(NotStored):
                await uplink.send(batch)
        async with asyncio.timeout(20):
            while left_to_say(far.platform.db):
                await asyncio.sleep(0.02)
        with suppress(TimeoutError):
            patience = 60.0 if effect else 0.25
            async with asyncio.timeout(patience), aclosing(uplink.receipts()) as receipts:
                async for receipt in receipts:
                    await at.outbox.settle(receipt)
                    if effect and await effect():
                        return


async def another_epoch(at: House, before: str) -> bool:
    return await at.epoch() != before


@every_transport
def test_receipts_that_are_foreign_replayed_or_broken_settle_nothing(tmp_path: Path, word: str):
    async def scenario() -> None:
        async with side(word, tmp_path) as far, house(tmp_path) as at:
            await packs(at, far)
            begin, epoch = int(time.time()), await at.epoch()
            await at.read(slot=begin)
            (before,) = await sealed(at)
            await once(at, far)
            await at.read(slot=begin + 1)
            await sealed(at)
            for lie in (
                {"gateway": "GOTHER"}, {"recipient": "other.example"}, {"epoch": "0" * 12},
                {"stored": [[before.id.seq, before.sha256]]}, {"stored": None},
                "{", "x" * 1_500_000,
            ):  # fmt: skip
                await lied_to(at, far, lie)
                assert await at.unsettled() == 10, lie
            assert await at.epoch() == epoch
            await once(at, far)
            assert (await proved(at, far, tmp_path))["batches"] == 2

    asyncio.run(scenario())


@every_transport
def test_receipts_of_other_bytes_or_of_more_than_was_sent_cost_an_epoch_and_no_row(
    tmp_path: Path, word: str
):
    """A conflict (rule T8) and a state older than the platform's (rule T9): no row goes for it."""

    async def scenario() -> None:
        async with side(word, tmp_path) as far, house(tmp_path) as at:
            await packs(at, far)
            begin, epochs = int(time.time()), [await at.epoch()]
            for nth in range(2):
                await at.read(slot=begin + nth)
                (batch,) = await sealed(at)
                ours, other = [batch.id.seq, batch.sha256], "0" * 64
                claims = [[batch.id.seq, other]] if nth == 0 else [ours, [ours[0] + 50, other]]
                await lied_to(at, far, {"stored": claims}, partial(another_epoch, at, epochs[-1]))
                assert await at.unsettled() == (10 if nth == 0 else 0)
                epochs.append(await at.epoch())
                await sealed(at)
                await once(at, far)
            assert len(set(epochs)) == 3
            counted = await proved(at, far, tmp_path)
            assert counted["duplicate_rows"] == 10, "sealed anew, sent again, and counted once"

    asyncio.run(scenario())


@pytest.mark.parametrize("word", ["https", "folder", "sftp"])
def test_how_the_gateway_is_arrives_and_the_latest_counts(tmp_path: Path, word: str):
    """Over MQTT it is a retained message: test_tls.py."""
    schema = json.loads(Path("docs/status.schema.json").read_text(encoding="utf-8"))

    async def scenario() -> None:
        async with side(word, tmp_path) as far:
            kept = (far.root or tmp_path) / "status" / f"{GATEWAY}.json"
            async with far.kind.open(far.settings, far.station) as uplink:
                for nth in range(3):
                    await uplink.tell({"version": f"1.{nth}"})  # type: ignore[attr-defined]
            async with asyncio.timeout(10):
                while not kept.exists() or "1.2" not in kept.read_text():
                    await asyncio.sleep(0.05)
            document = json.loads(kept.read_text())
            jsonschema.validate(document, schema)
            assert (document["gateway"], document["recipient"]) == (GATEWAY, RECIPIENT)
            assert (await far.platform.report())["unreadable"] == 0

    asyncio.run(scenario())


@every_transport
def test_copies_held_back_change_nothing_after_all_is_settled_nor_after_an_epoch_change(
    tmp_path: Path, word: str
):
    async def scenario() -> None:
        async with side(word, tmp_path) as far, house(tmp_path) as at:
            await packs(at, far)
            begin = int(time.time())
            copies: list[SealedBatch] = []
            for nth in range(3):
                await at.read(slot=begin + nth)
                copies = await sealed(at)
            await once(at, far)
            await deliver(far, copies)
            before = await at.epoch()
            await contradicted(at, far, begin + 100)
            assert await at.epoch() != before
            await deliver(far, copies)
            await at.settled()
            async with asyncio.timeout(60):
                while (await far.platform.report())["resent_batches"] < len(copies):
                    await asyncio.sleep(0.05)
            counted = await settled_down(far)
            assert counted["rows"] == counted["slots"] == at.rows
            assert counted["alarms"] == 0
            assert len(counted["epochs"]) == 2

    asyncio.run(scenario())


async def deliver(far: Side, copies: list[SealedBatch]) -> None:
    """Hand over copies that were under way all the time."""
    async with far.kind.open(far.settings, far.station) as uplink:
        for copy in copies:
            await uplink.send(copy)


async def settled_down(far: Side) -> dict[str, Any]:
    """What the platform counts once nothing comes any more."""
    last: dict[str, Any] = {}
    while (counted := await far.platform.report()) != last:
        last = counted
        await asyncio.sleep(0.7)
    return counted


async def contradicted(at: House, far: Side, slot: int) -> None:
    """The platform holds other bytes under the next id (a restored image would do that)."""
    await at.read(slot=slot)
    (ours,) = await sealed(at)
    stranger = Reading(series(99), slot, Decimal(7), "V")
    payload = write(Stamp(ours.id, Lane.LIVE, time.time(), "trusted", "DEMO-1"), [stranger])
    other = SealedBatch(ours.id, Lane.LIVE, payload, digest(payload), 1)
    if packing := far.kind.packing(far.settings, far.station):
        form, packed = packing(other)
        other = replace(other, form=form, payload=packed, sha256=digest(packed))
    before = (await far.platform.report())["batches"]
    await deliver(far, [other])
    await far.platform.holds((await far.platform.report())["rows"])
    async with asyncio.timeout(20):
        while (await far.platform.report())["batches"] == before:
            await asyncio.sleep(0.05)
    at.rows += 1
    epoch = await at.epoch()
    async with far.kind.open(far.settings, far.station) as uplink:
        await uplink.send(ours)
        async with asyncio.timeout(20), aclosing(uplink.receipts()) as receipts:
            while await at.epoch() == epoch:
                await at.outbox.settle(await anext(receipts))
    await sealed(at)
    await once(at, far)


@over_a_line
def test_a_stuck_uplink_costs_the_others_nothing(tmp_path: Path, word: str):
    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            parts = []
            for name, kind in (("stuck", word), ("well", "folder")):
                folder = tmp_path / name
                folder.mkdir()
                far = await stack.enter_async_context(side(kind, folder))
                at = await stack.enter_async_context(house(folder))
                await stack.enter_async_context(serving(at, far.kind, far.settings, far.station))
                parts.append((at, far))
            (stuck, frozen), (well, far) = parts
            assert frozen.line is not None
            await stuck.read()
            await stuck.settled()
            await frozen.line.set("freeze")
            begin = int(time.time()) + 100
            for nth in range(3):
                await stuck.read(slot=begin + nth)
                await well.read(slot=begin + nth)
                began = time.monotonic()
                await well.settled()
                assert time.monotonic() - began < 15
            assert await stuck.unsettled() > 0
            await proved(well, far, tmp_path / "well")
            await frozen.line.set("cut")
            await frozen.line.set("pass")
            await proved(stuck, frozen, tmp_path / "stuck")

    asyncio.run(scenario())

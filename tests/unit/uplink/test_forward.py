"""The loop around the decisions, with a spool and a far side in memory and real (short) times."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import suppress
from dataclasses import replace

import pytest

from agent.buffer.receipts import Settled
from agent.core.clock import Clock
from agent.core.errors import BatchRejected, NotStored, SpoolFull, TooLarge, UplinkLost
from agent.core.log_fields import LogEvent
from agent.core.model import BatchId, Lane, Receipt, SealedBatch, Void
from agent.core.tasks import end
from agent.uplink.base import NobodyThere
from agent.uplink.forward import BREAKS, forward
from agent.uplink.pacing import Delivery, Rhythm
from tests.virtual_time import clocks_at


def batch(seq: int, lane: Lane = Lane.LIVE) -> SealedBatch:
    return SealedBatch(BatchId("G", "r", "e", seq), lane, f"batch {seq}".encode(), f"sha {seq}", 1)


class Outbox:
    """Keeps what the real one keeps on disk."""

    def __init__(self, *standing: SealedBatch, live: int = 0, backfill: int = 0) -> None:
        self.standing = {one.id: one for one in standing}
        self.rows = {Lane.LIVE: live, Lane.BACKFILL: backfill}
        self.sealed = len(standing)
        self.quarantined: dict[BatchId, str] = {}
        self.full = False
        self.limit: int | None = None
        self.divisible = 0
        self.behind = False
        self.on_void: Callable[[Collection[BatchId]], None] | None = None

    async def catch_up(self) -> None:
        self.behind = False

    async def seal(
        self,
        lane: Lane,
        live_after: int,  # noqa: ARG002 -- the contract's
        most_rows: int,  # noqa: ARG002
        most_bytes: int,  # noqa: ARG002
    ) -> SealedBatch | None:
        if self.full:
            raise SpoolFull("no room")
        if not self.rows[lane]:
            return None
        self.rows[lane] -= 1
        self.sealed += 1
        one = batch(self.sealed, lane)
        self.standing[one.id] = one
        return one

    async def unreceipted(self) -> list[SealedBatch]:
        return list(self.standing.values())

    async def settle(self, receipt: Receipt) -> Settled:
        named = [BatchId(receipt.gateway, receipt.recipient, receipt.epoch, seq)
                 for seq, sha in receipt.stored if sha == f"sha {seq}"]  # fmt: skip
        ours = tuple(id_ for id_ in named if self.standing.pop(id_, None))
        wrong = [seq for seq, sha in receipt.stored if sha != f"sha {seq}"]
        for seq in wrong:
            del self.standing[BatchId("G", "r", "e", seq)]
        return Settled(settled=ours, conflict=f"conflict {wrong}" if wrong else None)

    async def quarantine(self, id: BatchId, reason: str) -> None:  # noqa: A002
        del self.standing[id]
        self.quarantined[id] = reason

    async def split(self, batch: SealedBatch, reason: str) -> bool:
        """One row or more than one: told apart by the size."""
        if len(batch.payload) < self.divisible:
            await self.quarantine(batch.id, reason)
            return False
        self.standing[batch.id] = replace(batch, payload=b"void", rows=0, void=Void.REJECTED)
        self.limit = len(batch.payload) // 2
        return True

    async def forget_limit(self) -> None:
        self.limit = None

    def most_bytes(self) -> int | None:
        return self.limit

    async def waiting(self, live_after: int) -> tuple[int, int]:  # noqa: ARG002
        return self.rows[Lane.LIVE], self.rows[Lane.BACKFILL]


class Uplink:
    """A far side that answers as it is told; by default it takes all and stores all at once."""

    most_bytes = 60_000

    def __init__(
        self, answer: Callable[[SealedBatch, int], Exception | None] | None = None
    ) -> None:
        self.sent: list[SealedBatch] = []
        self.mail: asyncio.Queue[Receipt | None] = asyncio.Queue()
        self.stores = True
        self._answer = answer or (lambda _batch, _nth: None)

    async def send(self, batch: SealedBatch) -> None:
        self.sent.append(batch)
        await asyncio.sleep(0)
        if error := self._answer(batch, len(self.sent)):
            raise error
        if self.stores:
            self.word(batch.id.seq)

    def word(self, seq: int, sha256: str = "", slow_down: int = 0) -> None:
        stored = ((seq, sha256 or f"sha {seq}"),)
        self.mail.put_nowait(Receipt("G", "r", "e", stored=stored, slow_down=slow_down))

    async def receipts(self) -> AsyncIterator[Receipt]:
        while receipt := await self.mail.get():
            yield receipt
        raise UplinkLost("told to")

    @property
    def seqs(self) -> list[int]:
        return [one.id.seq for one in self.sent]


def virtually(scenario):
    with clocks_at(1_800_000_000.0) as runs:
        return runs(scenario)


def run(outbox: Outbox, uplink: Uplink, until: Callable[[], bool], seal: float = 0.05) -> Delivery:
    """Forward until it is so, 5 s at most."""

    async def scenario() -> Delivery:
        delivery = Delivery()
        job = forward(outbox, uplink, Rhythm(seal=seal), delivery, Clock("system"),
                      random.Random(1))  # fmt: skip
        task = asyncio.ensure_future(job)
        try:
            async with asyncio.timeout(5):
                while not until() and not task.done():
                    await asyncio.sleep(0.01)
        finally:
            await end([task])
        with suppress(asyncio.CancelledError):
            task.result()
        return delivery

    return virtually(scenario())


def test_what_was_sealed_before_is_sent_first_byte_for_byte_and_in_order():
    outbox, uplink = Outbox(batch(1), batch(2, Lane.BACKFILL), batch(3), live=1), Uplink()
    run(outbox, uplink, lambda: not outbox.standing and not outbox.rows[Lane.LIVE])
    assert uplink.sent[:3] == [batch(1), batch(2, Lane.BACKFILL), batch(3)]
    assert uplink.seqs == [1, 2, 3, 4]


def test_only_a_receipt_ends_the_wait_for_a_batch():
    """Rule T16."""
    outbox, uplink = Outbox(batch(1)), Uplink()
    uplink.stores = False
    delivery = run(outbox, uplink, lambda: len(uplink.sent) == 1 and uplink.mail.empty())
    assert outbox.standing
    assert delivery.settled == 0


def test_live_goes_before_backfill_and_both_get_through():
    outbox, uplink = Outbox(live=2, backfill=2), Uplink()
    delivery = run(outbox, uplink, lambda: outbox.sealed == 4 and not outbox.standing)
    assert uplink.sent[0].lane is Lane.LIVE or uplink.sent[1].lane is Lane.LIVE
    assert (delivery.sent, delivery.resent, delivery.settled) == (4, 0, 4)


def test_what_nobody_took_is_sent_again_and_nothing_is_sealed_meanwhile():
    outbox = Outbox(live=9)
    uplink = Uplink(lambda _, nth: NobodyThere("nobody") if nth <= 2 else None)
    delivery = run(outbox, uplink, lambda: len(uplink.sent) > 3)
    assert uplink.seqs[:3] == [1, 1, 1]
    assert delivery.nobody_since is None
    assert delivery.last_error == "", "an error that has ended is not shown any more"


def test_why_nobody_takes_it_is_shown_while_it_lasts():
    uplink = Uplink(lambda _batch, _nth: NobodyThere("nobody"))
    delivery = run(Outbox(live=9), uplink, lambda: len(uplink.sent) == 2)
    assert (delivery.last_error, delivery.last_error_at is None) == ("nobody", False)


def test_a_conflict_is_shown_until_a_batch_has_gone_through_since():
    outbox, uplink = Outbox(batch(1), batch(2)), Uplink()
    uplink.stores = False
    uplink.word(1, "another hash")
    uplink.word(2)
    delivery = run(outbox, uplink, lambda: not outbox.standing)
    assert (delivery.conflicts, delivery.last_error) == (1, "")


def test_an_alarm_stands_while_the_broker_has_nobody_to_give_it_to():
    uplink = Uplink(lambda _batch, _nth: NobodyThere("nobody"))
    delivery = run(Outbox(batch(1)), uplink, lambda: len(uplink.sent) == 1)
    assert "not subscribed" in delivery.alarm(0)


def test_the_void_of_a_batch_that_is_too_large_is_sent_and_the_next_are_smaller():
    outbox = Outbox(batch(1), batch(2))
    uplink = Uplink(lambda b, _: TooLarge("413") if b == batch(1) else None)
    delivery = run(outbox, uplink, lambda: not outbox.standing)
    assert [one.void for one in uplink.sent if one.id.seq == 1] == [None, Void.REJECTED]
    assert outbox.quarantined == {}
    assert (delivery.rejected, delivery.settled) == (0, 2)


def test_what_is_too_large_and_cannot_be_divided_is_put_aside_and_the_next_goes_on():
    outbox = Outbox(batch(1), batch(2))
    outbox.divisible = 1_000
    uplink = Uplink(lambda b, _: TooLarge("413") if b.id.seq == 1 else None)
    run(outbox, uplink, lambda: not outbox.standing)
    assert outbox.quarantined == {batch(1).id: "413"}


def test_a_void_that_is_called_too_large_makes_no_batch_small_and_is_sent_again():
    void = replace(batch(1), void=Void.REJECTED, rows=0)
    outbox = Outbox(void)
    outbox.limit = 7
    uplink = Uplink(lambda _b, nth: TooLarge("413") if nth < 3 else None)
    run(outbox, uplink, lambda: not outbox.standing)
    assert uplink.sent == [void] * 3
    assert (outbox.limit, outbox.quarantined) == (None, {})


def test_with_no_room_to_divide_it_a_batch_is_sent_again():
    outbox = Outbox(batch(1))

    async def no_room(_batch: SealedBatch, _why: str) -> bool:
        raise SpoolFull("no room")

    outbox.split = no_room
    uplink = Uplink(lambda _b, nth: TooLarge("413") if nth < 3 else None)
    run(outbox, uplink, lambda: not outbox.standing)
    assert uplink.sent == [batch(1)] * 3


def test_a_batch_over_which_the_connection_breaks_off_again_and_again_is_too_large():
    """Rule T18."""
    large = replace(batch(1), payload=bytes(5_000))
    outbox, delivery = Outbox(large, batch(2)), Delivery()

    async def scenario() -> None:
        for broken in range(1, BREAKS + 1):
            uplink = Uplink(lambda b, _: UplinkLost("gone") if b == large else None)
            uplink.stores = False
            with pytest.raises(UplinkLost):
                await forward(outbox, uplink, Rhythm(seal=0.05), delivery, Clock("system"),
                              random.Random(1))  # fmt: skip
            assert (outbox.standing[large.id].void is not None) == (broken == BREAKS)

    virtually(scenario())
    assert outbox.limit == 2_500


def test_a_batch_that_is_rejected_goes_into_quarantine_and_the_next_goes_on(caplog):
    outbox = Outbox(batch(1), batch(2))
    uplink = Uplink(lambda b, _: BatchRejected("too large") if b.id.seq == 1 else None)
    delivery = run(outbox, uplink, lambda: not outbox.standing)
    assert outbox.quarantined == {batch(1).id: "too large"}
    assert (delivery.rejected, delivery.settled) == (1, 1)
    (record,) = [one for one in caplog.records if "quarantine" in one.message]
    assert record.MESSAGE_ID == LogEvent.BATCH_QUARANTINED
    assert f"{batch(1).id.epoch}/1" == record.BATCH


def test_a_loss_while_sending_ends_it():
    uplink = Uplink(lambda _batch, _nth: UplinkLost("gone"))
    with pytest.raises(UplinkLost, match="gone"):
        run(Outbox(batch(1)), uplink, lambda: False)


def test_a_loss_while_idle_ends_it():
    uplink = Uplink()
    uplink.mail.put_nowait(None)
    with pytest.raises(UplinkLost, match="told to"):
        run(Outbox(), uplink, lambda: False)


def test_a_conflict_is_counted_and_the_batch_is_sent_no_more():
    outbox, uplink = Outbox(batch(1), batch(2)), Uplink()
    uplink.stores = False
    uplink.word(1, "another hash")
    delivery = run(outbox, uplink, lambda: uplink.seqs == [1, 2])
    assert list(outbox.standing) == [batch(2).id]
    assert delivery.conflicts == 1
    assert delivery.last_error == "conflict [1]"


def test_a_receipt_for_nothing_of_ours_is_no_sign_of_life():
    outbox, uplink = Outbox(batch(1)), Uplink(lambda _batch, _nth: NotStored("no"))
    uplink.word(99)
    delivery = run(outbox, uplink, lambda: len(uplink.sent) == 1 and uplink.mail.empty())
    assert not delivery.good()
    assert delivery.last_receipt is None


def test_slow_down_is_obeyed():
    outbox, uplink = Outbox(batch(1), live=5), Uplink()
    uplink.stores = False

    def answered() -> bool:
        if uplink.seqs == [1] and uplink.mail.empty() and outbox.standing:
            uplink.word(1, slow_down=60)
        return not outbox.standing

    run(outbox, uplink, answered)
    assert uplink.seqs == [1]


def test_a_spool_without_room_to_seal_is_tried_again_not_a_crash():
    outbox, uplink = Outbox(live=1), Uplink()
    outbox.full = True

    def recovered() -> bool:
        outbox.full = False
        return outbox.sealed == 1 and not outbox.standing

    assert run(outbox, uplink, recovered).settled == 1


def test_a_connection_that_delivered_is_good_once_so_that_failing_attempts_still_back_off():
    outbox = Outbox(batch(1))
    delivery = run(outbox, Uplink(), lambda: not outbox.standing)
    assert [delivery.good(), delivery.good()] == [True, False]


def test_delivery_forgets_nothing_between_connections():
    delivery = Delivery(owed_since=1_000.0)
    assert delivery.alarm(1_200.0) == ""
    assert delivery.alarm(1_360.0) == "the platform is not consuming: no receipt for 6 min"


def test_a_far_side_that_takes_nothing_is_silent_since_it_was_first_asked():
    outbox, uplink, asked = Outbox(batch(1), batch(2)), Uplink(), asyncio.Event()

    async def hangs(batch: SealedBatch) -> None:
        uplink.sent.append(batch)
        await asked.wait()

    uplink.send = hangs

    async def scenario() -> None:
        clock, delivery = Clock("system"), Delivery()
        job = forward(outbox, uplink, Rhythm(), delivery, clock, random.Random(1))
        task = asyncio.ensure_future(job)
        began = clock.now()
        await asyncio.sleep(10)
        assert delivery.silent_since(clock.now()) is None
        await asyncio.sleep(10)
        assert delivery.silent_since(clock.now()) == pytest.approx(began, abs=1)
        asked.set()
        await asyncio.sleep(1)
        assert delivery.silent_since(clock.now() + 20) is None
        await end([task])
        assert delivery.asked_since is None

    virtually(scenario())


def test_receipts_that_take_much_longer_than_usual_are_a_silence_too():
    delivery = Delivery(owed_since=1_000.0)
    assert delivery.silent_since(1_200.0) is None, "nobody knows yet how long a receipt takes"
    delivery.receipt_seconds = 2.0
    assert [delivery.silent_since(at) for at in (1_020.0, 1_040.0)] == [None, 1_000.0]
    delivery.receipt_seconds = 60.0
    assert [delivery.silent_since(at) for at in (1_040.0, 1_200.0)] == [None, 1_000.0]


class Withdrawing(Outbox):
    """A registry in which something was withdrawn that the first batch holds."""

    def __init__(self) -> None:
        super().__init__(batch(1), batch(2))
        self.void = SealedBatch(batch(1).id, Lane.LIVE, b"void", "sha of the void", 0)

    async def catch_up(self) -> None:
        self.behind = False
        self.standing[self.void.id] = self.void
        assert self.on_void is not None
        self.on_void([self.void.id])


def test_a_change_of_the_registry_is_applied_before_anything_is_sent():
    """Rule T2: a void goes in the place of what was found before the change."""
    outbox, uplink = Withdrawing(), Uplink()
    outbox.behind = True
    run(outbox, uplink, lambda: not outbox.standing)
    assert sorted(one.payload for one in uplink.sent) == [b"batch 2", b"void"]


def test_what_was_taken_back_is_cut_on_its_way_and_its_void_follows():
    """Rule T2."""

    class Slow(Uplink):
        cut = 0

        async def send(self, batch: SealedBatch) -> None:
            if batch.payload != b"batch 1":
                assert self.cut or batch.payload != b"void"
                await super().send(batch)
                return
            outbox.behind = True
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cut += 1
                raise

    outbox, uplink = Withdrawing(), Slow()
    run(outbox, uplink, lambda: not outbox.standing)
    assert uplink.cut == 1
    assert sorted(one.payload for one in uplink.sent) == [b"batch 2", b"void"]
    assert not outbox.standing

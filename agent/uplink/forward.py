"""Sends the batches of one spool over one open uplink until the uplink is lost.

Only the recipient's receipt, which the spool evaluates, settles a batch. Until then the batch is
sent again after a while and after every reopening.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.core.clock import monotonic
from agent.core.errors import AgentError, BatchRejected, NotStored, SpoolFull, TooLarge, UplinkLost
from agent.core.model import Lane, Receipt
from agent.core.tasks import end, together
from agent.uplink import pacing
from agent.uplink.publish_codes import NobodyThere, NotNow
from agent.uplink.send_scheduler import Flight, SendScheduler

if TYPE_CHECKING:
    import random
    from collections.abc import Collection

    from agent.buffer.receipt_evaluation import Settled
    from agent.core.clock import Clock
    from agent.core.model import BatchId, SealedBatch
    from agent.uplink.base import Uplink
    from agent.uplink.delivery_state import Delivery
    from agent.uplink.sending import SendingSpool


BREAKS = 4
"""losses of the connection during one batch, without any receipt, until it counts as too large"""
SMALLEST_DOUBTED = 2_000
"""bytes; the loss of a connection during a smaller batch has another reason"""


async def forward(  # noqa: PLR0913, PLR0917 -- all it works with
    outbox: SendingSpool,
    uplink: Uplink,
    rhythm: pacing.Rhythm,
    delivery: Delivery,
    clock: Clock,
    rng: random.Random,
) -> None:
    """Serve one open uplink until it is lost; for `keep_open`. Raises UplinkLost."""
    now = monotonic()
    scheduler = SendScheduler(
        rhythm,
        now,
        now - delivery.heard,
        rng.random(),
        delivery.receipt_seconds,
        now + pacing.until_seal(clock.now(), rhythm),
    )
    delivery.connected_since, delivery.heard_here = clock.now(), False
    try:
        await _Forwarder(outbox, uplink, scheduler, delivery, clock, rng).serve()
    finally:
        delivery.connected_since = None


class _Forwarder:
    def __init__(  # noqa: PLR0913, PLR0917 -- see forward
        self,
        outbox: SendingSpool,
        uplink: Uplink,
        scheduler: SendScheduler,
        delivery: Delivery,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._outbox = outbox
        self._uplink = uplink
        self._scheduler = scheduler
        self._rhythm = scheduler.rhythm
        self._delivery = delivery
        self._clock = clock
        self._rng = rng
        self._wake = asyncio.Event()
        self._sending: dict[asyncio.Task[None], BatchId] = {}
        self._counted_at = 0.0
        self._refresh_due = False

    async def serve(self) -> None:
        """Send and listen until the uplink is lost."""
        self._outbox.on_void = self._cut
        try:
            await together(self._send(), self._listen())
        finally:
            self._outbox.on_void = None
            await end(self._sending)
            for task in self._sending:
                _ = (
                    task.cancelled() or task.exception()
                )  # retrieve the exception: one loss is reported, not all

    def _cut(self, voided: Collection[BatchId]) -> None:
        """After a retraction: stop sending the voided batches, and seal the retraction at once."""
        for task, id_ in self._sending.items():
            if id_ in voided:
                task.cancel()
        self._refresh_due = True
        self._scheduler.next_seal = monotonic()
        self._wake.set()

    async def _send(self) -> None:
        # files poll receipts by name, and batches in quarantine are not sent: their late receipts
        # would never be looked for
        if expect := getattr(self._uplink, "expect", None):
            expect(await self._outbox.quarantined())
        await self._refresh()
        while True:
            # clear before looking: an event that arrives during the round must not be lost
            self._wake.clear()
            self._delivery.turned = monotonic()
            self._raise_losses()
            if self._delivery.hurry:
                self._delivery.hurry, self._scheduler.next_seal, self._counted_at = False, 0.0, 0.0
            # before sending: a withdrawn row must not leave once its withdrawal is recorded
            if self._outbox.behind:
                await self._outbox.catch_up()
            if self._refresh_due:
                self._refresh_due = False
                await self._refresh()
                continue
            if flight := self._scheduler.due(monotonic()):
                self._launch(flight)
                continue
            await self._count_waiting()
            if lane := self._scheduler.lane_to_seal(monotonic()):
                await self._seal(lane)
                continue
            await self._rest()

    async def _listen(self) -> None:
        async for receipt in self._uplink.receipts():
            try:
                settled = await self._outbox.settle(receipt)
            except SpoolFull as error:
                self._complain(error)  # the batch is sent again, and so is its receipt
                continue
            await self._apply(settled)
            if settled.settled or settled.quarantined or settled.conflict:
                # a repeated receipt, or one for another gateway, is no sign of life
                self._scheduler.heard(receipt.slow_down)
                self._note_life()
            self._wake.set()

    async def _refresh(self) -> None:
        previous = tuple(self._scheduler.flights)
        self._scheduler.refresh(await self._outbox.unreceipted(), previous, monotonic())

    def _launch(self, flight: Flight) -> None:
        self._delivery.idle = False
        self._scheduler.sent(flight, monotonic())
        task = asyncio.create_task(self._hand_over(flight))
        # else a lost connection would be noticed only when the next batch is due
        task.add_done_callback(lambda _: self._wake.set())
        self._sending[task] = flight.batch.id

    async def _hand_over(self, flight: Flight) -> None:
        delivery, id_ = self._delivery, flight.batch.id
        try:
            await self._uplink.send(flight.batch)
        except NotStored as error:
            self._not_taken(flight, error)
        except BatchRejected as error:
            try:
                await self._refused(flight, error)
            except SpoolFull:
                self._not_taken(
                    flight, error
                )  # it is refused again, and split, once there is space
        except UplinkLost:
            await self._broke(flight)
            raise
        else:
            self._scheduler.taken(flight, monotonic())
            # the receipt may arrive before the transport's acknowledgement: then none is owed any
            # more
            resent, owed = flight.before or flight.times > 1, id_ in self._scheduler.flights
            delivery.count(self._clock.now(), resent=resent, owed=owed)
            # a batch that was voided meanwhile has another flight, and this acknowledgement is for
            # its former content
            if delivery.by_broker and self._scheduler.flights.get(id_) is flight:
                await self._settle_by_broker(flight.batch)

    def _not_taken(self, flight: Flight, error: AgentError) -> None:
        """Note that a batch was not accepted; it is sent again later."""
        self._scheduler.refused(flight, monotonic(), self._rng.random())
        if isinstance(error, NotNow):
            self._scheduler.hold(monotonic(), error.seconds)
        if isinstance(error, NobodyThere) and self._delivery.nobody_since is None:
            self._delivery.nobody_since = self._clock.now()
        self._complain(error)

    async def _refused(self, flight: Flight, error: BatchRejected) -> None:
        """Split a batch that is too large; put one with refused content in quarantine. Raises
        SpoolFull.
        """
        batch, why, smaller = flight.batch, str(error), False
        if isinstance(error, TooLarge):
            if batch.void is not None:  # nothing is smaller than a void: the size is not the cause
                await self._outbox.forget_limit()
                self._not_taken(flight, error)
                return
            smaller = await self._outbox.split(batch, why)
            if smaller:
                self._refresh_due = True  # send its void
                self._scheduler.answered()
        else:
            await self._outbox.quarantine(batch.id, why)
        self._scheduler.ended(batch.id, monotonic(), self._rng.random())
        if smaller:
            self._delivery.shrink(batch.id, why, self._outbox.most_bytes(), self._clock.now())
        else:
            self._delivery.refuse(batch.id, why, self._clock.now())

    async def _broke(self, flight: Flight) -> None:
        """Note that the connection was lost during this batch. Some recipients refuse a batch that
        is too large in no other way (a broker with MQTT 3.1.1, a proxy).
        """
        batch, size = flight.batch, len(flight.batch.payload)
        # only a batch that was not settled meanwhile can be too large
        if batch.form or self._scheduler.flights.get(batch.id) is not flight:
            return  # an upload of a file is resumed; or the receipt has arrived
        under_way = [len(f.batch.payload) for f in self._scheduler.flights.values() if f.under_way]
        # if a larger batch was sent at the same time, suspect that one
        if size < max(SMALLEST_DOUBTED, *under_way):
            return
        if self._delivery.broken(batch.id) >= BREAKS:
            why = f"the connection was lost {BREAKS} times while {size} B were sent"
            with suppress(SpoolFull):
                await self._refused(flight, TooLarge(why))

    async def _settle_by_broker(self, batch: SealedBatch) -> None:
        """Settle a batch by the broker's acknowledgement (rule T11), unless it was voided
        meanwhile.
        """
        gateway, recipient, epoch, seq = batch.id
        receipt = Receipt(gateway, recipient, epoch, ((seq, batch.sha256),), by_broker=True)
        try:
            await self._apply(await self._outbox.settle(receipt))
        except SpoolFull as error:
            self._complain(error)  # it is sent again, and settled by the next acknowledgement
        else:
            self._note_life()

    def _complain(self, error: AgentError) -> None:
        self._delivery.complain(str(error), self._clock.now())

    def _note_life(self) -> None:
        owed = any(flight.times for flight in self._scheduler.flights.values())
        self._delivery.lives(self._scheduler.smoothed, owed, self._clock.now())

    async def _apply(self, settled: Settled) -> None:
        for batch in (*settled.settled, *settled.quarantined):
            self._scheduler.ended(batch, monotonic(), self._rng.random())
        self._delivery.learn(settled, self._clock.now())
        if settled.conflict or settled.new_epoch or settled.again:
            await self._refresh()

    def _raise_losses(self) -> None:
        for task in [task for task in self._sending if task.done()]:
            del self._sending[task]
            if not task.cancelled():
                task.result()

    async def _count_waiting(self) -> None:
        now = monotonic()
        if now - self._counted_at >= pacing.look_every(self._scheduler.rhythm) / 2:
            self._counted_at = now
            live, backfill = await self._outbox.waiting(self._live_after())
            self._scheduler.waiting = {Lane.LIVE: live, Lane.BACKFILL: backfill}

    async def _seal(self, lane: Lane) -> None:
        rhythm = self._fit()
        most = rhythm.most_bytes
        try:
            batch = await self._outbox.seal(lane, self._live_after(), rhythm.most_rows, most)
        except SpoolFull as error:
            batch = None  # settled batches make space
            self._complain(error)
        now = monotonic()
        next_seal = now + pacing.until_seal(self._clock.now(), rhythm)
        self._scheduler.sealed(lane, batch, now, next_seal)
        self._counted_at = 0.0 if batch else now  # the number of waiting rows has just changed

    def _fit(self) -> pacing.Rhythm:
        """The limits of a batch now; they also decide when a batch is full."""
        learned = self._outbox.most_bytes()
        sizes = [self._rhythm.most_bytes, self._uplink.most_bytes]
        sizes += [] if learned is None else [learned]
        self._scheduler.rhythm = replace(self._rhythm, most_bytes=min(sizes))
        return self._scheduler.rhythm

    async def _rest(self) -> None:
        """Wait for a receipt, an answer, or the next time at which something may be due."""
        self._delivery.idle = (
            not self._scheduler.flights and not self._scheduler.waiting[Lane.BACKFILL]
        )
        with suppress(TimeoutError):
            async with asyncio.timeout(self._scheduler.sleep(monotonic())):
                await self._wake.wait()

    def _live_after(self) -> int:
        return pacing.live_after(self._clock.now(), self._scheduler.rhythm)

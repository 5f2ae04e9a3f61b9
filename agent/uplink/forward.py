"""Send one spool's batches over one open uplink until it is lost.

Nothing here lets a batch go: what the transport took is waited for, sent again after a while and
after every reopening, and only the recipient's receipt, which the spool judges, ends it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.clock import monotonic
from agent.errors import (
    AgentError,
    BatchRejected,
    NotStored,
    SpoolFull,
    TooLarge,
    UplinkLost,
)
from agent.model import Lane, Receipt
from agent.tasks import end, together
from agent.uplink import pacing
from agent.uplink.publish_codes import NobodyThere, NotNow
from agent.uplink.send_scheduler import Flight, SendScheduler

if TYPE_CHECKING:
    import random
    from collections.abc import Collection

    from agent.buffer.receipt_evaluation import Settled
    from agent.clock import Clock
    from agent.model import BatchId, SealedBatch
    from agent.uplink.base import Uplink
    from agent.uplink.delivery_state import Delivery
    from agent.uplink.sending import SendingSpool


BREAKS = 4
"""times that a connection breaks off over a batch, without any receipt, until it is too large"""
SMALLEST_DOUBTED = 2_000
"""bytes; what breaks off over less has other reasons"""


async def forward(  # noqa: PLR0913, PLR0917 -- what it works with, and what it must not make itself
    outbox: SendingSpool,
    uplink: Uplink,
    rhythm: pacing.Rhythm,
    delivery: Delivery,
    clock: Clock,
    rng: random.Random,
) -> None:
    """Serve one open uplink, for ever. Raises UplinkLost; for `keep_open`."""
    now = monotonic()
    course = SendScheduler(
        rhythm,
        now,
        now - delivery.heard,
        rng.random(),
        delivery.receipt_seconds,
        now + pacing.until_seal(clock.now(), rhythm),
    )
    delivery.connected_since, delivery.heard_here = clock.now(), False
    try:
        await _Forwarder(outbox, uplink, course, delivery, clock, rng).serve()
    finally:
        delivery.connected_since = None


class _Forwarder:
    def __init__(  # noqa: PLR0913, PLR0917 -- see forward
        self,
        outbox: SendingSpool,
        uplink: Uplink,
        course: SendScheduler,
        delivery: Delivery,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._outbox = outbox
        self._uplink = uplink
        self._course = course
        self._rhythm = course.rhythm
        self._delivery = delivery
        self._clock = clock
        self._rng = rng
        self._wake = asyncio.Event()
        self._sending: dict[asyncio.Task[None], BatchId] = {}
        self._looked = 0.0
        self._find_anew = False

    async def serve(self) -> None:
        """Send and listen until the uplink is lost."""
        self._outbox.told = self._cut
        try:
            await together(self._send(), self._listen())
        finally:
            self._outbox.told = None
            await end(self._sending)
            for task in self._sending:
                _ = task.cancelled() or task.exception()  # one loss is enough to be told of

    def _cut(self, voided: Collection[BatchId]) -> None:
        """Something was taken back: what is on its way of it stops, and the word of it leaves."""
        for task, id_ in self._sending.items():
            if id_ in voided:
                task.cancel()
        self._find_anew = True
        self._course.next_seal = monotonic()
        self._wake.set()

    async def _send(self) -> None:
        if expect := getattr(self._uplink, "expect", None):
            expect(await self._outbox.quarantined())
        await self._find()
        while True:
            self._wake.clear()
            self._delivery.turned = monotonic()
            self._raise_losses()
            if self._delivery.hurry:
                self._delivery.hurry, self._course.next_seal, self._looked = False, 0.0, 0.0
            if self._outbox.behind:
                await self._outbox.catch_up()
            if self._find_anew:
                self._find_anew = False
                await self._find()
                continue
            if flight := self._course.due(monotonic()):
                self._launch(flight)
                continue
            await self._look()
            if lane := self._course.lane_to_seal(monotonic()):
                await self._seal(lane)
                continue
            await self._rest()

    async def _listen(self) -> None:
        async for receipt in self._uplink.receipts():
            try:
                settled = await self._outbox.settle(receipt)
            except SpoolFull as error:
                self._complain(error)  # the receipt comes again for what is sent again
                continue
            await self._apply(settled)
            if settled.settled or settled.quarantined or settled.conflict:
                # a copy, or what is not about us, is no sign of life
                self._course.heard(receipt.slow_down)
                self._note_life()
            self._wake.set()

    async def _find(self) -> None:
        had = tuple(self._course.flights)
        self._course.found(await self._outbox.unreceipted(), had, monotonic())

    def _launch(self, flight: Flight) -> None:
        self._delivery.idle = False
        self._course.sent(flight, monotonic())
        task = asyncio.create_task(self._hand_over(flight))
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
                self._not_taken(flight, error)  # it is refused again when there is room
        except UplinkLost:
            await self._broke(flight)
            raise
        else:
            self._course.taken(flight, monotonic())
            resent, owed = flight.before or flight.times > 1, id_ in self._course.flights
            delivery.count(self._clock.now(), resent=resent, owed=owed)
            if delivery.by_broker and self._course.flights.get(id_) is flight:
                await self._believe(flight.batch)

    def _not_taken(self, flight: Flight, error: AgentError) -> None:
        """Nobody has the batch: the same again later."""
        self._course.refused(flight, monotonic(), self._rng.random())
        if isinstance(error, NotNow):
            self._course.hold(monotonic(), error.seconds)
        if isinstance(error, NobodyThere) and self._delivery.nobody_since is None:
            self._delivery.nobody_since = self._clock.now()
        self._complain(error)

    async def _refused(self, flight: Flight, error: BatchRejected) -> None:
        """The far side refuses the bytes, or so many of them. Raises SpoolFull."""
        batch, why, smaller = flight.batch, str(error), False
        if isinstance(error, TooLarge):
            if batch.void is not None:  # nothing is shorter: size is not what it is about
                await self._outbox.forget_limit()
                self._not_taken(flight, error)
                return
            smaller = await self._outbox.split(batch, why)
            if smaller:
                self._find_anew = True  # its void is to be sent
                self._course.answered()
        else:
            await self._outbox.quarantine(batch.id, why)
        self._course.ended(batch.id, monotonic(), self._rng.random())
        if smaller:
            self._delivery.shrink(batch.id, why, self._outbox.most_bytes(), self._clock.now())
        else:
            self._delivery.refuse(batch.id, why, self._clock.now())

    async def _broke(self, flight: Flight) -> None:
        """The connection went while this batch was sent: a far side that takes none so large may
        say nothing else (a broker of MQTT 3.1.1, a proxy that hangs up).
        """
        batch, size = flight.batch, len(flight.batch.payload)
        if batch.form or self._course.flights.get(batch.id) is not flight:
            return  # a file goes on where it broke off; or its receipt has come
        under_way = [len(f.batch.payload) for f in self._course.flights.values() if f.under_way]
        if size < max(SMALLEST_DOUBTED, *under_way):
            return
        if self._delivery.broken(batch.id) >= BREAKS:
            why = f"the connection broke off {BREAKS} times while {size} B were sent"
            with suppress(SpoolFull):
                await self._refused(flight, TooLarge(why))

    async def _believe(self, batch: SealedBatch) -> None:
        """Take the broker's word for the recipient's (rule T11), for what is still to be sent."""
        gateway, recipient, epoch, seq = batch.id
        word = Receipt(gateway, recipient, epoch, ((seq, batch.sha256),), by_broker=True)
        try:
            await self._apply(await self._outbox.settle(word))
        except SpoolFull as error:
            self._complain(error)  # it is sent again, and its next answer believed
        else:
            self._note_life()

    def _complain(self, error: AgentError) -> None:
        self._delivery.complain(str(error), self._clock.now())

    def _note_life(self) -> None:
        owed = any(flight.times for flight in self._course.flights.values())
        self._delivery.lives(self._course.smoothed, owed, self._clock.now())

    async def _apply(self, settled: Settled) -> None:
        for batch in (*settled.settled, *settled.quarantined):
            self._course.ended(batch, monotonic(), self._rng.random())
        self._delivery.learn(settled, self._clock.now())
        if settled.conflict or settled.new_epoch or settled.again:
            await self._find()

    def _raise_losses(self) -> None:
        for task in [task for task in self._sending if task.done()]:
            del self._sending[task]
            if not task.cancelled():
                task.result()

    async def _look(self) -> None:
        now = monotonic()
        if now - self._looked >= pacing.look_every(self._course.rhythm) / 2:
            self._looked = now
            live, backfill = await self._outbox.waiting(self._live_after())
            self._course.waiting = {Lane.LIVE: live, Lane.BACKFILL: backfill}

    async def _seal(self, lane: Lane) -> None:
        rhythm = self._fit()
        most = rhythm.most_bytes
        try:
            batch = await self._outbox.seal(lane, self._live_after(), rhythm.most_rows, most)
        except SpoolFull as error:
            batch = None  # what is receipted makes room
            self._complain(error)
        now = monotonic()
        next_seal = now + pacing.until_seal(self._clock.now(), rhythm)
        self._course.sealed(lane, batch, now, next_seal)
        self._looked = 0.0 if batch else now  # what waits has just changed

    def _fit(self) -> pacing.Rhythm:
        """How much a batch may have now, which also says when one is full."""
        learned = self._outbox.most_bytes()
        sizes = [self._rhythm.most_bytes, self._uplink.most_bytes]
        sizes += [] if learned is None else [learned]
        self._course.rhythm = replace(self._rhythm, most_bytes=min(sizes))
        return self._course.rhythm

    async def _rest(self) -> None:
        """Until a receipt, an answer, or the next moment at which something may be due."""
        self._delivery.idle = not self._course.flights and not self._course.waiting[Lane.BACKFILL]
        with suppress(TimeoutError):
            async with asyncio.timeout(self._course.sleep(monotonic())):
                await self._wake.wait()

    def _live_after(self) -> int:
        return pacing.live_after(self._clock.now(), self._course.rhythm)

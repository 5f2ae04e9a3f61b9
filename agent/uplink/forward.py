"""Sends the batches of one spool over one open uplink until the uplink is lost.

Only the recipient's receipt, which the spool evaluates, settles a batch. Until then the batch is
sent again after a while and after every reopening.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from agent.core.clock import monotonic
from agent.core.errors import AgentError, BatchRejected, NotStored, SpoolFull, TooLarge, UplinkLost
from agent.core.i18n import Text, text_of
from agent.core.model import Lane, Receipt
from agent.core.tasks import Change, Wakeup, end, together
from agent.uplink import pacing
from agent.uplink.base import NobodyThere, NotNow

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Collection, Iterable

    from agent.buffer.receipts import Settled
    from agent.core.clock import Clock
    from agent.core.model import BatchId, SealedBatch
    from agent.uplink.base import Uplink
    from agent.uplink.pacing import Delivery

BYTES_PER_ROW = 10.0
"""estimate until a batch has been sealed"""
BREAKS = 4
"""losses of the connection during one batch, without any receipt, until it counts as too large"""
SMALLEST_DOUBTED = 2_000
"""bytes; the loss of a connection during a smaller batch has another reason"""


class SendingSpool(Protocol):
    """The sending side of a spool."""

    async def seal(
        self, lane: Lane, live_after: int, most_rows: int, most_bytes: int
    ) -> SealedBatch | None:
        """Seal the next batch of a lane, durably; None if there is none."""
        ...

    async def unreceipted(self) -> list[SealedBatch]:
        """All sealed batches without a receipt, in the order of sealing."""
        ...

    async def quarantined(self) -> list[SealedBatch]:
        """Batches in quarantine; a receipt may still settle them."""
        ...

    async def settle(self, receipt: Receipt) -> Settled:
        """Apply a receipt, durably."""
        ...

    async def quarantine(self, id: BatchId, reason: str) -> None:  # noqa: A002 -- it is one
        """Put a batch that the transport rejects in quarantine; it is tried again after a while."""
        ...

    async def split(self, batch: SealedBatch, reason: str) -> bool:
        """Split a batch that is too large; False: it cannot be split, and is in quarantine."""
        ...

    async def forget_limit(self) -> None:
        """Remove the learned size limit: a refusal had another reason."""
        ...

    def most_bytes(self) -> int | None:
        """The size limit learned from refusals, in bytes; None: no limit."""
        ...

    async def waiting(self, live_after: int) -> tuple[int, int]:
        """Numbers of rows not sealed yet: live, backfill. Cheap."""
        ...

    @property
    def behind(self) -> bool:
        """Whether a change of the registry is not applied yet."""
        ...

    async def catch_up(self) -> None:
        """Apply the changes of the registry, durably."""
        ...

    on_void: Callable[[Collection[BatchId]], None] | None
    """called after a retraction, with the ids of batches that must not be sent any more"""


@dataclass(slots=True)
class Flight:
    """One sealed batch that waits for its receipt."""

    batch: SealedBatch
    due: float
    """when to send it (again)"""
    first_sent: float = 0.0
    """on this connection"""
    last_sent: float = 0.0
    times: int = 0
    under_way: bool = False
    before: bool = False
    """sealed before this connection, and perhaps sent before"""


class SendScheduler:
    """The state of one open connection."""

    def __init__(  # noqa: PLR0913, PLR0917 -- all are known at the opening
        self,
        rhythm: pacing.Rhythm,
        now: float,
        outage: float,
        draw: float,
        smoothed: float | None = None,
        next_seal: float = 0.0,
    ) -> None:
        self.rhythm = rhythm
        self.smoothed = smoothed
        self.flights: dict[BatchId, Flight] = {}
        self.waiting = {Lane.LIVE: 0, Lane.BACKFILL: 0}
        """rows not sealed yet, as counted last"""
        self.next_seal = next_seal or now + rhythm.seal
        self.refusals = 0
        self._refused_at = 0.0
        self._held_until = 0.0
        self._spacing = pacing.SPACING
        self._spaced_until = 0.0
        self._gap = pacing.first_gap(outage)
        self._backfill_from = now + pacing.settling(outage, draw)
        self._draining = True
        self._trickle_from = 0.0
        self._bytes_per_row = BYTES_PER_ROW

    def refresh(
        self, batches: Iterable[SealedBatch], previous: Iterable[BatchId], now: float
    ) -> None:
        """Take over the unreceipted batches of the spool, in order, to be sent (again).

        `previous`: the flights before the spool was read; those no longer unreceipted are dropped.
        """
        unreceipted = {batch.id: batch for batch in batches}
        # a batch that was sealed while the spool was read is not in `batches`: it must not be
        # dropped
        for gone in set(previous) - unreceipted.keys():
            self.flights.pop(gone, None)
        for id_, batch in unreceipted.items():
            flight = self.flights.get(id_)
            if flight is None or flight.batch.sha256 != batch.sha256:  # new, or replaced by a void
                self.flights[id_] = Flight(batch, due=now, before=True)

    def due(self, now: float) -> Flight | None:
        """The batch to send now, or None."""
        if now < max(self._spaced_until, self._held_until):
            return None
        if self.refusals and any(flight.under_way for flight in self.flights.values()):
            return None  # after a refusal one batch at a time tests the recipient
        ready = (f for f in self.flights.values() if not f.under_way and f.due <= now)
        return next(ready, None)

    def lane_to_seal(self, now: float) -> Lane | None:
        """The lane to seal now, live before backfill; None if a batch could not be sent at once."""
        if now < max(self._spaced_until, self._held_until) or (self.refusals and self.flights):
            return None
        if self._wants_live(now):
            return Lane.LIVE
        return Lane.BACKFILL if self._wants_backfill(now) else None

    def sealed(self, lane: Lane, batch: SealedBatch | None, now: float, next_seal: float) -> None:
        """Note the sealed batch, or None; `next_seal`: the next regular time to seal."""
        if batch is None:
            self.waiting[lane] = 0
        else:
            self.flights[batch.id] = Flight(batch, due=now)
            if not batch.rows:
                return  # a directory: the rows that wait are still to be sealed now
            self._bytes_per_row = max(1.0, len(batch.payload) / batch.rows)
        filled = batch is not None and (
            batch.rows >= self.rhythm.most_rows or len(batch.payload) > self.rhythm.most_bytes / 2
        )
        if lane is Lane.BACKFILL:
            self._draining = filled
            self._trickle_from = now + self.rhythm.seal
        elif not filled:
            self.next_seal = next_seal

    def sent(self, flight: Flight, now: float) -> None:
        """Note that a batch is being sent."""
        flight.first_sent = flight.first_sent or now
        flight.last_sent = now
        flight.times += 1
        flight.under_way = True
        self._spaced_until = now + self._spacing

    def taken(self, flight: Flight, now: float) -> None:
        """Note that the transport accepted a batch, which now waits for its receipt."""
        flight.under_way = False
        flight.due = now + pacing.patience(self.smoothed, flight.times - 1, self.rhythm)
        self._reset_refusals()

    def refused(self, flight: Flight, now: float, draw: float) -> None:
        """Note a refusal. Only batches sent after the last refusal count as a new one."""
        flight.under_way = False
        flight.due = now
        # several batches may be refused for one cause: only those sent after the last refusal count
        if flight.last_sent >= self._refused_at:
            self.refusals += 1
            self._refused_at = now
            self._held_until = now + pacing.backoff(self.refusals, draw)

    def hold(self, now: float, seconds: float) -> None:
        """Send nothing for so many seconds, as the recipient asks."""
        self._held_until = max(self._held_until, now + seconds)

    def ended(self, batch: BatchId, now: float, draw: float) -> None:
        """Note that a receipt or a rejection ended the wait for a batch."""
        flight = self.flights.pop(batch, None)
        if flight is None or not flight.times:
            return
        seconds = now - flight.first_sent
        if flight.times == 1:  # after a resend it is unknown which sending the receipt answers
            self.smoothed = pacing.smooth(self.smoothed, seconds)
        if flight.batch.lane is Lane.BACKFILL:
            self._gap = pacing.next_gap(self._gap, seconds, self.rhythm.quick)
            self._backfill_from = max(self._backfill_from, now + pacing.jittered(self._gap, draw))

    def heard(self, slow_down: int) -> None:
        """Note a receipt, which asks for `slow_down` seconds between two batches."""
        self._reset_refusals()
        spacing = pacing.spacing(slow_down)
        # the new spacing also applies to the pause that runs now
        self._spaced_until += spacing - self._spacing
        self._spacing = spacing

    def answered(self) -> None:
        """Note that the recipient answered, and that the refused batch is replaced."""
        self._reset_refusals()

    def sleep(self, now: float) -> float:
        """Seconds until something may be due, if no row and no receipt comes before."""
        moments = [flight.due for flight in self.flights.values() if not flight.under_way]
        moments += [self._spaced_until, self._held_until, self.next_seal]
        moments += [self._backfill_from, self._trickle_from]
        ahead = [moment - now for moment in moments if moment > now]
        return min([max(pacing.IDLE, self.rhythm.seal), *ahead])

    def _reset_refusals(self) -> None:
        self.refusals = 0
        self._held_until = 0.0

    def _wants_live(self, now: float) -> bool:
        standing = sum(f.batch.lane is Lane.LIVE for f in self.flights.values())
        ripe = now >= self.next_seal or self._fills(self.waiting[Lane.LIVE])
        return standing < self.rhythm.most_live and ripe

    def _wants_backfill(self, now: float) -> bool:
        rows = self.waiting[Lane.BACKFILL]
        if not rows or now < self._backfill_from:
            return False
        if any(f.batch.lane is Lane.BACKFILL for f in self.flights.values()):
            return False
        # late rows that arrive one by one are sent once an interval, not each in its own batch
        return self._draining or self._fills(rows) or now >= self._trickle_from

    def _fills(self, rows: int) -> bool:
        return pacing.full(rows, self._bytes_per_row, self.rhythm)


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
        delivery.connected_since, delivery.lost_since = None, clock.now()
        delivery.asked_since = None


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
        self._changed = Change()
        """something may be due on this connection"""
        self._sending: dict[asyncio.Task[None], BatchId] = {}
        self._counted = -1
        """how often rows had been stored when the waiting ones were counted last; -1: count them"""
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
        self._changed.tell()

    async def _send(self) -> None:
        # files poll receipts by name, and batches in quarantine are not sent: their late receipts
        # would never be looked for
        if expect := getattr(self._uplink, "expect", None):
            expect(await self._outbox.quarantined())
        await self._refresh()
        wakeup = Wakeup(self._changed, self._delivery.wanted)
        while True:
            wakeup.look()
            self._delivery.turned = monotonic()
            self._raise_losses()
            if self._delivery.hurry:
                self._delivery.hurry, self._scheduler.next_seal, self._counted = False, 0.0, -1
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
            await self._rest(wakeup)

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
            self._changed.tell()

    async def _refresh(self) -> None:
        previous = tuple(self._scheduler.flights)
        self._scheduler.refresh(await self._outbox.unreceipted(), previous, monotonic())

    def _launch(self, flight: Flight) -> None:
        self._delivery.rest(idle=False)
        self._scheduler.sent(flight, monotonic())
        self._delivery.asks(self._clock.now())
        task = asyncio.create_task(self._hand_over(flight))
        # else a lost connection would be noticed only when the next batch is due
        task.add_done_callback(lambda _: self._changed.tell())
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
        # not after a lost connection: the next one asks anew
        asking = any(one.under_way for one in self._scheduler.flights.values())
        delivery.answered(self._clock.now(), asking=asking)

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
        batch, why, smaller = flight.batch, text_of(error), False
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
            why = Text(
                "the connection was lost {breaks} times while {size} B were sent",
                breaks=BREAKS,
                size=size,
            )
            with suppress(SpoolFull):
                await self._refused(flight, TooLarge(why))

    async def _settle_by_broker(self, batch: SealedBatch) -> None:
        """Settle a batch by the broker's acknowledgement (rule T11), unless it was voided
        meanwhile.
        """
        gateway, recipient, epoch, seq = batch.id
        receipt = Receipt(gateway, recipient, epoch, ((seq, batch.sha256),), by_broker=True)
        try:
            settled = await self._outbox.settle(receipt)
        except SpoolFull as error:
            self._complain(error)  # it is sent again, and settled by the next acknowledgement
        else:
            await self._apply(settled)
            if not settled.unsigned:
                self._note_life()

    def _complain(self, error: AgentError) -> None:
        self._delivery.complain(text_of(error), self._clock.now())

    def _note_life(self) -> None:
        owed = any(flight.times for flight in self._scheduler.flights.values())
        self._delivery.lives(self._scheduler.smoothed, owed, self._clock.now())

    async def _apply(self, settled: Settled) -> None:
        for batch in (*settled.settled, *settled.quarantined):
            flight = self._scheduler.flights.get(batch)
            if flight is None or flight.batch.void is not None:
                self._counted = -1  # rows that a void leaves wait again; nothing stores them
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
        stored, scheduler, now = self._delivery.wanted.count, self._scheduler, monotonic()
        if self._counted != stored:  # the next regular seal, since it may have waited for longer
            regular = now + pacing.until_seal(self._clock.now(), scheduler.rhythm)
            scheduler.next_seal = min(scheduler.next_seal, regular)
        # live rows become backfill with time, so count at each seal too
        if self._counted != stored or now >= scheduler.next_seal:
            self._counted = stored
            live, backfill = await self._outbox.waiting(self._live_after())
            scheduler.waiting = {Lane.LIVE: live, Lane.BACKFILL: backfill}

    async def _seal(self, lane: Lane) -> None:
        rhythm = self._fit()
        most = rhythm.most_bytes
        try:
            batch = await self._outbox.seal(lane, self._live_after(), rhythm.most_rows, most)
        except SpoolFull as error:
            batch = None  # settled batches make space
            self._complain(error)
        now = monotonic()
        waited = batch or self._scheduler.waiting[lane]
        until_seal = pacing.until_seal if waited else pacing.until_idle_seal
        next_seal = now + until_seal(self._clock.now(), rhythm)
        self._scheduler.sealed(lane, batch, now, next_seal)
        if batch:
            self._counted = -1  # the number of waiting rows has just changed

    def _fit(self) -> pacing.Rhythm:
        """The limits of a batch now; they also decide when a batch is full."""
        learned = self._outbox.most_bytes()
        sizes = [self._rhythm.most_bytes, self._uplink.most_bytes]
        sizes += [] if learned is None else [learned]
        self._scheduler.rhythm = replace(self._rhythm, most_bytes=min(sizes))
        return self._scheduler.rhythm

    async def _rest(self, wakeup: Wakeup) -> None:
        """Wait for a receipt, an answer, or the next time at which something may be due."""
        scheduler, now = self._scheduler, monotonic()
        self._delivery.rest(idle=not scheduler.flights and not scheduler.waiting[Lane.BACKFILL])
        seconds = scheduler.sleep(now)
        self._delivery.turned = now + seconds
        await wakeup.wait(seconds)

    def _live_after(self) -> int:
        return pacing.live_after(self._clock.now(), self._scheduler.rhythm)

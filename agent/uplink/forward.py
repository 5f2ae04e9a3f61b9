"""Send one spool's batches over one open uplink until it is lost.

Nothing here lets a batch go: what the transport took is waited for, sent again after a while and
after every reopening, and only the recipient's receipt, which the spool judges, ends it.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from agent.clock import monotonic
from agent.errors import AgentError, BatchRejected, NotStored, SpoolFull
from agent.lifetime import end, together
from agent.model import Lane
from agent.uplink import pacing
from agent.uplink.course import Course, Flight
from agent.uplink.reasons import NobodyThere

if TYPE_CHECKING:
    import random

    from agent.buffer.verdict import Settled
    from agent.clock import Clock
    from agent.model import BatchId, Receipt, Sealed
    from agent.uplink.base import Uplink
    from agent.uplink.delivery import Delivery

log = logging.getLogger(__name__)


class Outbox(Protocol):
    """The sending side of a spool, as its one thread offers it to the loop."""

    async def seal(
        self, lane: Lane, live_after: int, most_rows: int, most_bytes: int
    ) -> Sealed | None:
        """Make the next batch of a lane, durably; None if the lane is empty."""
        ...

    async def unreceipted(self) -> list[Sealed]:
        """All that was sealed and waits for its receipt, in the order of sealing."""
        ...

    async def settle(self, receipt: Receipt) -> Settled:
        """Apply the recipient's word, durably."""
        ...

    async def quarantine(self, id: BatchId, reason: str) -> None:  # noqa: A002 -- it is one
        """Keep a batch that the far side will never take, and send it no more."""
        ...

    async def waiting(self, live_after: int) -> tuple[int, int]:
        """Rows that wait unsealed: live, backfill. Cheap."""
        ...


async def forward(  # noqa: PLR0913, PLR0917 -- what it works with, and what it must not make itself
    outbox: Outbox,
    uplink: Uplink,
    rhythm: pacing.Rhythm,
    delivery: Delivery,
    clock: Clock,
    rng: random.Random,
) -> None:
    """Serve one open uplink, for ever. Raises UplinkLost; for `keep_open`."""
    now = monotonic()
    course = Course(
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
        outbox: Outbox,
        uplink: Uplink,
        course: Course,
        delivery: Delivery,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._outbox = outbox
        self._uplink = uplink
        self._course = course
        self._delivery = delivery
        self._clock = clock
        self._rng = rng
        self._wake = asyncio.Event()
        self._sending: set[asyncio.Task[None]] = set()
        self._looked = 0.0

    async def serve(self) -> None:
        """Send and listen until the uplink is lost."""
        try:
            await together(self._send(), self._listen())
        finally:
            await end(self._sending)
            for task in self._sending:
                _ = task.cancelled() or task.exception()  # one loss is enough to be told of

    async def _send(self) -> None:
        await self._find()
        while True:
            self._wake.clear()
            self._delivery.turned = monotonic()
            self._raise_losses()
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
        self._course.sent(flight, monotonic())
        task = asyncio.create_task(self._hand_over(flight))
        task.add_done_callback(lambda _: self._wake.set())
        self._sending.add(task)

    async def _hand_over(self, flight: Flight) -> None:
        delivery, id_ = self._delivery, flight.batch.id
        try:
            await self._uplink.send(flight.batch)
        except NotStored as error:
            self._course.refused(flight, monotonic(), self._rng.random())
            if isinstance(error, NobodyThere) and delivery.nobody_since is None:
                delivery.nobody_since = self._clock.now()
            self._complain(error)
        except BatchRejected as error:
            await self._outbox.quarantine(id_, str(error))
            self._course.ended(id_, monotonic(), self._rng.random())
            delivery.rejected += 1
            self._remember(str(error))
            log.error(  # noqa: TRY400 -- no bug: a trace would say nothing more
                "batch %s/%d is in quarantine: %s", id_.epoch, id_.seq, error
            )
        else:
            self._course.taken(flight, monotonic())
            self._count(flight)

    def _complain(self, error: AgentError) -> None:
        if self._delivery.last_error != str(error):
            log.warning("trying again for as long as it takes: %s", error)
        self._remember(str(error))

    def _remember(self, error: str) -> None:
        self._delivery.last_error, self._delivery.last_error_at = error, self._clock.now()

    def _count(self, flight: Flight) -> None:
        delivery = self._delivery
        delivery.sent += 1
        delivery.resent += flight.before or flight.times > 1
        delivery.nobody_since = None
        if delivery.owed_since is None and flight.batch.id in self._course.flights:
            delivery.owed_since = self._clock.now()

    def _note_life(self) -> None:
        delivery, now = self._delivery, self._clock.now()
        delivery.last_receipt, delivery.heard, delivery.heard_here = now, monotonic(), True
        delivery.receipt_seconds = self._course.smoothed
        owed = any(flight.times for flight in self._course.flights.values())
        delivery.owed_since = now if owed else None

    async def _apply(self, settled: Settled) -> None:
        delivery, now = self._delivery, monotonic()
        for batch in (*settled.settled, *settled.quarantined):
            self._course.ended(batch, now, self._rng.random())
        for batch in settled.quarantined:
            log.error("batch %s/%d is in quarantine by the recipient", batch.epoch, batch.seq)
        delivery.settled += len(settled.settled)
        delivery.rejected += len(settled.quarantined)
        delivery.conflicts += settled.conflict is not None
        for event in filter(None, (settled.conflict, settled.ahead, settled.alarm)):
            self._remember(event)
            log.error("%s", event)
        if settled.conflict or settled.new_epoch:
            await self._find()

    def _raise_losses(self) -> None:
        for task in [task for task in self._sending if task.done()]:
            self._sending.discard(task)
            task.result()

    async def _look(self) -> None:
        now = monotonic()
        if now - self._looked >= pacing.look_every(self._course.rhythm) / 2:
            self._looked = now
            live, backfill = await self._outbox.waiting(self._live_after())
            self._course.waiting = {Lane.LIVE: live, Lane.BACKFILL: backfill}

    async def _seal(self, lane: Lane) -> None:
        rhythm = self._course.rhythm
        most = min(rhythm.most_bytes, self._uplink.most_bytes)
        try:
            batch = await self._outbox.seal(lane, self._live_after(), rhythm.most_rows, most)
        except SpoolFull as error:
            batch = None  # what is receipted makes room
            self._complain(error)
        now = monotonic()
        next_seal = now + pacing.until_seal(self._clock.now(), rhythm)
        self._course.sealed(lane, batch, now, next_seal)
        self._looked = 0.0 if batch else now  # what waits has just changed

    async def _rest(self) -> None:
        """Until a receipt, an answer, or the next moment at which something may be due."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._course.sleep(monotonic())):
                await self._wake.wait()

    def _live_after(self) -> int:
        return pacing.live_after(self._clock.now(), self._course.rhythm)

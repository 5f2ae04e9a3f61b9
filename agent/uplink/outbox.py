"""The sending side of a spool, as its one thread offers it to the loop (forward.Outbox)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from agent.clock import ClockTrust
from agent.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from agent.buffer.announcements import Item
    from agent.buffer.receipt_evaluation import Settled
    from agent.buffer.spool import Spool
    from agent.buffer.thread import OneThread
    from agent.clock import Clock
    from agent.model import BatchId, Lane, Receipt, Retraction, SealedBatch, Series

    Told = Callable[[Collection[BatchId]], None]


class StoredBases(Protocol):
    """What the registry says of rows that are stored (pipeline/bases.py)."""

    def revision(self) -> int:
        """The number of its last change."""
        ...

    def stands(self, series: Series, t: int) -> bool:
        """Whether a row of a dwelling may still leave."""
        ...

    @property
    def mute(self) -> bool:
        """Whether nobody can say now what may leave."""
        ...

    def taken_back(self, after: int) -> tuple[int, Sequence[Retraction]]:
        """What the changes after one take back here, and the number of the last."""
        ...


class SpoolOutbox:
    """Every call runs to its end in the spool's thread, also when the caller is cancelled."""

    def __init__(
        self,
        spool: Spool,
        thread: OneThread,
        clock: Clock,
        directory: Callable[[], Mapping[str, Item]] = dict,
        bases: StoredBases | None = None,
    ) -> None:
        self._spool, self._thread, self._clock = spool, thread, clock
        self.directory = directory
        """what is needed to read the rows: told before any of them"""
        self.ready: Callable[[], bool] = lambda: True
        """whether anything may be sealed now"""
        self.retracted: Callable[[Collection[str]], None] = lambda _: None
        """told of retractions that stand at the recipient and that this state does not know of"""
        self._bases = bases
        self._applied: int | None = None
        self._one_at_a_time = asyncio.Lock()
        self.told: Told | None = None
        """called when something was taken back, with the batches that are voids since: whoever is
        sending must cut those and ask for the others anew"""

    @property
    def behind(self) -> bool:
        """Whether a change of the registry waits: nothing may be sealed or sent until it is
        applied.
        """
        return self._bases is not None and self._applied != self._bases.revision()

    async def catch_up(self) -> None:
        """Apply what the registry takes back; on the disk when it returns.

        Raises Refused where the spool has applied changes that the registry does not have.
        """
        if self._bases is None:
            return
        async with self._one_at_a_time:
            while self.behind:
                applied = await self._thread.run(lambda: self._spool.applied)
                revision, taken = self._bases.taken_back(applied)
                if applied > revision:
                    raise Refused(
                        f"the spool has applied change {applied}, and the registry ends at change"
                        f" {revision}: put the newer registry.json back"
                    )
                now = self._clock.now()
                voided = await self._thread.run(self._spool.apply, revision, taken, now)
                self._applied = revision
                if taken:
                    self._tell(voided)

    async def tend(self, expires: float) -> None:
        """The spool's own upkeep, see Spool.tend; only while the time is known."""
        if self._clock.trust is ClockTrust.UNTRUSTED:
            return
        if voided := await self._thread.run(self._spool.tend, self._clock.now(), expires):
            self._tell(voided)

    def _tell(self, voided: Collection[BatchId]) -> None:
        if self.told is not None:
            self.told(voided)

    async def seal(
        self, lane: Lane, live_after: int, most_rows: int, most_bytes: int
    ) -> SealedBatch | None:
        """Make the next batch of a lane, durably; None if the lane is empty.

        Nothing is sealed while the time is unknown: whether a basis holds is a question of time.
        """
        now, trust = self._clock.now(), self._clock.trust
        if trust is ClockTrust.UNTRUSTED or not self.ready():
            return None
        await self.catch_up()
        run, spool, word = self._thread.run, self._spool, trust.value
        if first := await run(spool.retract, now, word):
            return first
        if first := await run(spool.announce, self.directory(), now, word):
            return first
        if first := await run(spool.asked, lane):
            return first
        order = (lane, now, word, live_after, most_rows, most_bytes, self._bases)
        return await run(spool.seal, *order)

    async def knows(self, epoch: str) -> bool:
        """Whether batches of this epoch are, or were, its own."""
        return await self._thread.run(self._spool.knows, epoch)

    async def unreceipted(self) -> list[SealedBatch]:
        """All that was sealed and waits for its receipt, in the order of sealing."""
        await self.catch_up()
        return await self._thread.run(self._spool.unreceipted)

    async def quarantined(self) -> list[SealedBatch]:
        """What was rejected, and may still be called stored."""
        return await self._thread.run(self._spool.quarantined)

    async def settle(self, receipt: Receipt) -> Settled:
        """Apply the recipient's word, durably."""
        settled = await self._thread.run(self._spool.settle, receipt, self._clock.now())
        if settled.retracted:
            self.retracted(settled.retracted)
        return settled

    async def quarantine(self, id: BatchId, reason: str) -> None:  # noqa: A002 -- it is one
        """Put a batch aside that the transport does not take; it is tried again after a while."""
        await self._thread.run(self._spool.refuse, id, reason, self._clock.now())

    async def split(self, batch: SealedBatch, reason: str) -> bool:
        """Send the rows of a batch that is too large in smaller ones; False: it cannot be made
        smaller, and is put aside.
        """
        return await self._thread.run(self._spool.split, batch, reason, self._clock.now())

    async def forget_limit(self) -> None:
        """Make batches as large as configured: size was not what a refusal was about."""
        await self._thread.run(self._spool.forget_limit)

    def most_bytes(self) -> int | None:
        """How large a payload may be, after refusals for size; None: nothing was refused."""
        return self._spool.most_bytes(self._clock.now())

    async def retry(self) -> int:
        """Send all batches in quarantine once more, at once; how many."""
        count = await self._thread.run(self._spool.retry)
        self._tell(())
        return count

    async def waiting(self, live_after: int) -> tuple[int, int]:
        """Rows that wait unsealed: live, backfill."""
        return await self._thread.run(self._spool.waiting, live_after)


class Draining:
    """The disk's spool and, beside it, the one that was kept in memory while the disk failed.

    Of each lane what was kept in memory goes first. Nothing is moved from one to the other.
    """

    def __init__(self, disk: SpoolOutbox, memory: SpoolOutbox) -> None:
        self._disk, self._both = disk, (memory, disk)

    @property
    def behind(self) -> bool:
        """Whether a change of the registry waits in either."""
        return any(one.behind for one in self._both)

    @property
    def told(self) -> Told | None:
        """As SpoolOutbox, of both."""
        return self._disk.told

    @told.setter
    def told(self, told: Told | None) -> None:
        for one in self._both:
            one.told = told

    async def catch_up(self) -> None:
        """As SpoolOutbox, in both."""
        for one in self._both:
            await one.catch_up()

    async def tend(self, expires: float) -> None:
        """As SpoolOutbox, of both."""
        for one in self._both:
            await one.tend(expires)

    async def seal(
        self, lane: Lane, live_after: int, most_rows: int, most_bytes: int
    ) -> SealedBatch | None:
        """As SpoolOutbox."""
        for one in self._both:
            if sealed := await one.seal(lane, live_after, most_rows, most_bytes):
                return sealed
        return None

    async def unreceipted(self) -> list[SealedBatch]:
        """As SpoolOutbox, of both."""
        return [batch for one in self._both for batch in await one.unreceipted()]

    async def quarantined(self) -> list[SealedBatch]:
        """As SpoolOutbox, of both."""
        return [batch for one in self._both for batch in await one.quarantined()]

    async def settle(self, receipt: Receipt) -> Settled:
        """Apply the recipient's word where its epoch is."""
        return await (await self._of(receipt.epoch)).settle(receipt)

    async def quarantine(self, id: BatchId, reason: str) -> None:  # noqa: A002 -- it is one
        """As SpoolOutbox, where the epoch of the batch is."""
        await (await self._of(id.epoch)).quarantine(id, reason)

    async def split(self, batch: SealedBatch, reason: str) -> bool:
        """As SpoolOutbox, where the epoch of the batch is."""
        return await (await self._of(batch.id.epoch)).split(batch, reason)

    async def forget_limit(self) -> None:
        """As SpoolOutbox, of both."""
        for one in self._both:
            await one.forget_limit()

    def most_bytes(self) -> int | None:
        """As SpoolOutbox: the smaller of both."""
        return min((most for one in self._both if (most := one.most_bytes())), default=None)

    async def retry(self) -> int:
        """As SpoolOutbox, of both."""
        return sum([await one.retry() for one in self._both])

    async def waiting(self, live_after: int) -> tuple[int, int]:
        """As SpoolOutbox, of both together."""
        live, backfill = zip(*[await one.waiting(live_after) for one in self._both], strict=True)
        return sum(live), sum(backfill)

    async def _of(self, epoch: str) -> SpoolOutbox:
        memory, disk = self._both
        return memory if await memory.knows(epoch) else disk

"""The sending side of a spool, called from the event loop (agent.uplink.forward.SendingSpool)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from agent.buffer.receipts import Settled
from agent.core.clock import ClockTrust
from agent.core.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from agent.buffer.announcements import Item
    from agent.buffer.database import OneThread
    from agent.buffer.spool import Spool
    from agent.core.clock import Clock
    from agent.core.model import BatchId, Lane, Receipt, Retraction, SealedBatch, Series

    OnVoid = Callable[[Collection[BatchId]], None]


class StoredBases(Protocol):
    """What the registry says about stored rows (agent/acquisition/row_assignment.py)."""

    def revision(self) -> int:
        """The number of the registry's last change."""
        ...

    def recorded(self) -> int:
        """The number of the last change that the registry has on the disk."""
        ...

    def stands(self, series: Series, t: int) -> bool:
        """Whether a row of a dwelling may still be sent."""
        ...

    @property
    def mute(self) -> bool:
        """Whether it cannot be decided now which rows may be sent."""
        ...

    def taken_back(self, after: int) -> tuple[int, Sequence[Retraction]]:
        """The retractions of all changes after change `after`, and the number of the last
        change.
        """
        ...


async def _nothing(_after: int, _now: float) -> None:
    """Store no rows."""


class SpoolOutbox:
    """Runs every call to its end in the spool's thread, even if the caller is cancelled."""

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
        """what the recipient needs to read the rows; sent before them"""
        self.ready: Callable[[], bool] = lambda: True
        """whether batches may be sealed now"""
        self.signed: Callable[[], bool] = lambda: False
        """whether only signed receipts count now (rule T35)"""
        self.retracted: Callable[[Collection[str]], None] = lambda _: None
        """called with retractions that the recipient holds, or the spool has, and that the registry
        may not know"""
        self.make: Callable[[int, float], Awaitable[None]] = _nothing
        """stores the rows that the changes of the registry after a number make, at a time (rules
        R14, M22)"""
        self._bases = bases
        self._applied: tuple[int, int] | None = None
        """revision of the registry, and what of it was recorded, as the spool has them"""
        self._catching_up = asyncio.Lock()
        self.on_void: OnVoid | None = None
        """called after a retraction, with the batches that became voids: the sender must stop
        sending them, and read the unreceipted batches again"""

    @property
    def behind(self) -> bool:
        """Whether a change of the registry is not applied yet; until then nothing may be sealed or
        sent.
        """
        applied, _ = self._applied or (None, 0)
        return self._bases is not None and applied != self._bases.revision()

    async def catch_up(self) -> None:
        """Apply the retractions of the registry, durably.

        Raises Refused if the spool has applied changes that the registry had recorded, and does not
        have now.
        """
        if (bases := self._bases) is None:
            return
        async with self._catching_up:
            # the registry may change again during the await, so check again
            while self._applied != (bases.revision(), recorded := bases.recorded()):
                if lost := await self._thread.run(self._spool.forget_lost, bases.revision()):
                    self.retracted(lost)
                applied = await self._thread.run(lambda: self._spool.applied)
                revision, taken = bases.taken_back(applied)
                # an older registry.json lacks withdrawals: it would allow rows that may not be sent
                # any more
                if applied > revision:
                    raise Refused(
                        "the spool has applied change {applied}, but the registry ends at change"
                        " {revision}: nothing is sent. Put the newer registry.json back",
                        applied=applied,
                        revision=revision,
                    )
                now = self._clock.now()
                # First the rows: a kill in between makes them again, as another version.
                await self.make(applied, now)
                voided = await self._thread.run(self._spool.apply, revision, taken, now, recorded)
                self._applied = revision, recorded
                if taken:
                    self._notify_void(voided)

    async def tend(self, expires: float) -> None:
        """The spool's housekeeping (Spool.tend), only while the clock is trusted."""
        if self._clock.trust is ClockTrust.UNTRUSTED:
            return
        if voided := await self._thread.run(self._spool.tend, self._clock.now(), expires):
            self._notify_void(voided)

    def _notify_void(self, voided: Collection[BatchId]) -> None:
        if self.on_void is not None:
            self.on_void(voided)

    async def seal(
        self, lane: Lane, live_after: int, most_rows: int, most_bytes: int
    ) -> SealedBatch | None:
        """Seal the next batch of a lane, durably; None if there is none.

        Nothing is sealed while the clock is untrusted: the validity of a basis depends on the time.
        """
        now, trust = self._clock.now(), self._clock.sealing_trust
        if trust is ClockTrust.UNTRUSTED or not self.ready():
            return None
        await self.catch_up()
        run, spool, clock_trust = self._thread.run, self._spool, trust.value
        # retractions first, then the directory that explains the rows, then repeated batches
        if first := await run(spool.retract, now, clock_trust):
            return first
        if first := await run(spool.announce, self.directory(), now, clock_trust):
            return first
        if first := await run(spool.asked, lane):
            return first
        order = (lane, now, clock_trust, live_after, most_rows, most_bytes, self._bases)
        return await run(spool.seal, *order)

    async def knows(self, epoch: str) -> bool:
        """Whether this spool has, or had, batches of an epoch."""
        return await self._thread.run(self._spool.knows, epoch)

    async def unreceipted(self) -> list[SealedBatch]:
        """All sealed batches without a receipt, in the order of sealing."""
        await self.catch_up()
        return await self._thread.run(self._spool.unreceipted)

    async def quarantined(self) -> list[SealedBatch]:
        """Batches in quarantine; a receipt may still settle them."""
        return await self._thread.run(self._spool.quarantined)

    async def settle(self, receipt: Receipt) -> Settled:
        """Apply a receipt, durably; without a signature that it needs it changes nothing."""
        if not receipt.kid and self.signed():
            return Settled(unsigned=True)
        settled = await self._thread.run(self._spool.settle, receipt, self._clock.now())
        if settled.retracted:
            self.retracted(settled.retracted)
        return settled

    async def quarantine(self, id: BatchId, reason: str) -> None:  # noqa: A002 -- it is one
        """Put a batch that the transport rejects in quarantine; it is tried again after a while."""
        await self._thread.run(self._spool.refuse, id, reason, self._clock.now())

    async def split(self, batch: SealedBatch, reason: str) -> bool:
        """Split a batch that is too large; False: it cannot be split, and is in quarantine."""
        return await self._thread.run(self._spool.split, batch, reason, self._clock.now())

    async def forget_limit(self) -> None:
        """Remove the learned size limit: a refusal had another reason."""
        await self._thread.run(self._spool.forget_limit)

    def most_bytes(self) -> int | None:
        """The size limit learned from refusals, in bytes; None: no limit."""
        return self._spool.most_bytes(self._clock.now())

    async def retry(self) -> int:
        """Send all batches in quarantine again at once; return how many."""
        count = await self._thread.run(self._spool.retry)
        self._notify_void(())
        return count

    async def waiting(self, live_after: int) -> tuple[int, int]:
        """Numbers of rows not sealed yet: live, backfill."""
        return await self._thread.run(self._spool.waiting, live_after)


class Draining:
    """The spool on the disk, together with the one kept in memory while the disk failed.

    In each lane the rows in memory are sent first. No row moves from one spool to the other.
    """

    def __init__(self, disk: SpoolOutbox, memory: SpoolOutbox) -> None:
        self._disk, self._outboxes = disk, (memory, disk)

    @property
    def behind(self) -> bool:
        """Whether one of the spools has not applied a change of the registry yet."""
        return any(outbox.behind for outbox in self._outboxes)

    @property
    def on_void(self) -> OnVoid | None:
        """As SpoolOutbox, of both."""
        return self._disk.on_void

    @on_void.setter
    def on_void(self, on_void: OnVoid | None) -> None:
        for outbox in self._outboxes:
            outbox.on_void = on_void

    async def catch_up(self) -> None:
        """As SpoolOutbox, in both."""
        for outbox in self._outboxes:
            await outbox.catch_up()

    async def tend(self, expires: float) -> None:
        """As SpoolOutbox, of both."""
        for outbox in self._outboxes:
            await outbox.tend(expires)

    async def seal(
        self, lane: Lane, live_after: int, most_rows: int, most_bytes: int
    ) -> SealedBatch | None:
        """As SpoolOutbox."""
        for outbox in self._outboxes:
            if sealed := await outbox.seal(lane, live_after, most_rows, most_bytes):
                return sealed
        return None

    async def unreceipted(self) -> list[SealedBatch]:
        """As SpoolOutbox, of both."""
        return [batch for outbox in self._outboxes for batch in await outbox.unreceipted()]

    async def quarantined(self) -> list[SealedBatch]:
        """As SpoolOutbox, of both."""
        return [batch for outbox in self._outboxes for batch in await outbox.quarantined()]

    async def settle(self, receipt: Receipt) -> Settled:
        """Apply a receipt to the spool of its epoch."""
        return await (await self._of(receipt.epoch)).settle(receipt)

    async def quarantine(self, id: BatchId, reason: str) -> None:  # noqa: A002 -- it is one
        """As SpoolOutbox, on the spool of the batch's epoch."""
        await (await self._of(id.epoch)).quarantine(id, reason)

    async def split(self, batch: SealedBatch, reason: str) -> bool:
        """As SpoolOutbox, on the spool of the batch's epoch."""
        return await (await self._of(batch.id.epoch)).split(batch, reason)

    async def forget_limit(self) -> None:
        """As SpoolOutbox, of both."""
        for outbox in self._outboxes:
            await outbox.forget_limit()

    def most_bytes(self) -> int | None:
        """As SpoolOutbox: the smaller of both."""
        return min(
            (most for outbox in self._outboxes if (most := outbox.most_bytes())), default=None
        )

    async def retry(self) -> int:
        """As SpoolOutbox, of both."""
        return sum([await outbox.retry() for outbox in self._outboxes])

    async def waiting(self, live_after: int) -> tuple[int, int]:
        """As SpoolOutbox, of both together."""
        live, backfill = zip(
            *[await outbox.waiting(live_after) for outbox in self._outboxes], strict=True
        )
        return sum(live), sum(backfill)

    async def _of(self, epoch: str) -> SpoolOutbox:
        # receipts for an epoch that neither knows go to the disk, which evaluates receipts of
        # others
        memory, disk = self._outboxes
        return memory if await memory.knows(epoch) else disk

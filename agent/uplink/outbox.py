"""The sending side of a spool, as its one thread offers it to the loop (forward.Outbox)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.clock import Trust

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.buffer.announced import Item
    from agent.buffer.spool import Spool
    from agent.buffer.thread import OneThread
    from agent.buffer.verdict import Settled
    from agent.clock import Clock
    from agent.model import BatchId, Lane, Receipt, Sealed


class SpoolOutbox:
    """Every call runs to its end in the spool's thread, also when the caller is cancelled."""

    def __init__(
        self,
        spool: Spool,
        thread: OneThread,
        clock: Clock,
        directory: Callable[[], Mapping[str, Item]] = dict,
    ) -> None:
        self._spool, self._thread, self._clock = spool, thread, clock
        self._directory = directory
        """what is needed to read the rows: told before any of them"""

    async def seal(
        self, lane: Lane, live_after: int, most_rows: int, most_bytes: int
    ) -> Sealed | None:
        """Make the next batch of a lane, durably; None if the lane is empty.

        Nothing is sealed while the time is unknown: whether a basis holds is a question of time.
        """
        now, trust = self._clock.now(), self._clock.trust
        if trust is Trust.UNTRUSTED:
            return None
        told = await self._thread.run(self._spool.announce, self._directory(), now, trust.value)
        if told is not None:
            return told
        return await self._thread.run(
            self._spool.seal, lane, now, trust.value, live_after, most_rows, most_bytes
        )

    async def unreceipted(self) -> list[Sealed]:
        """All that was sealed and waits for its receipt, in the order of sealing."""
        return await self._thread.run(self._spool.unreceipted)

    async def settle(self, receipt: Receipt) -> Settled:
        """Apply the recipient's word, durably."""
        return await self._thread.run(self._spool.settle, receipt, self._clock.now())

    async def quarantine(self, id: BatchId, reason: str) -> None:  # noqa: A002 -- it is one
        """Keep a batch that the far side will never take, and send it no more."""
        await self._thread.run(self._spool.quarantine, id, reason)

    async def waiting(self, live_after: int) -> tuple[int, int]:
        """Rows that wait unsealed: live, backfill."""
        return await self._thread.run(self._spool.waiting, live_after)

"""What the sending loop asks of a spool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from agent.buffer.receipt_evaluation import Settled
    from agent.model import BatchId, Lane, Receipt, SealedBatch


class SendingSpool(Protocol):
    """The sending side of a spool, as its one thread offers it to the loop."""

    async def seal(
        self, lane: Lane, live_after: int, most_rows: int, most_bytes: int
    ) -> SealedBatch | None:
        """Make the next batch of a lane, durably; None if the lane is empty."""
        ...

    async def unreceipted(self) -> list[SealedBatch]:
        """All that was sealed and waits for its receipt, in the order of sealing."""
        ...

    async def quarantined(self) -> list[SealedBatch]:
        """What was rejected, and may still be called stored."""
        ...

    async def settle(self, receipt: Receipt) -> Settled:
        """Apply the recipient's word, durably."""
        ...

    async def quarantine(self, id: BatchId, reason: str) -> None:  # noqa: A002 -- it is one
        """Put a batch aside that the transport does not take; it is tried again after a while."""
        ...

    async def split(self, batch: SealedBatch, reason: str) -> bool:
        """Send the rows of a batch that is too large in smaller ones; False: it cannot be made
        smaller, and is put aside.
        """
        ...

    async def forget_limit(self) -> None:
        """Make batches as large as configured: size was not what a refusal was about."""
        ...

    def most_bytes(self) -> int | None:
        """How large a payload may be, after refusals for size; None: nothing was refused."""
        ...

    async def waiting(self, live_after: int) -> tuple[int, int]:
        """Rows that wait unsealed: live, backfill. Cheap."""
        ...

    @property
    def behind(self) -> bool:
        """Whether what may leave has changed and the change is not applied yet."""
        ...

    async def catch_up(self) -> None:
        """Apply it."""
        ...

    told: Callable[[Collection[BatchId]], None] | None
    """called when something was taken back, with the ids of what must not be sent any more"""

"""The interface of a spool for the sending loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from agent.buffer.receipt_evaluation import Settled
    from agent.core.model import BatchId, Lane, Receipt, SealedBatch


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

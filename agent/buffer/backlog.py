"""Counts what a spool holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.buffer.outbox import BatchState

if TYPE_CHECKING:
    from agent.buffer.database import Database
    from agent.buffer.outbox import Outbox
    from agent.buffer.pending import PendingRows
    from agent.buffer.retracting import Retracting
    from agent.buffer.schema import Meta
    from agent.buffer.voided_rows import VoidedRows


@dataclass(frozen=True, slots=True)
class Backlog:
    """The content of a spool in numbers."""

    rows: int
    """waiting to be sealed, or for the receipt that decides whether they are sealed again"""
    slots: int
    """slots of those rows"""
    batches: int
    """sealed, without a receipt"""
    batch_rows: int
    """rows of those batches"""
    quarantined: int
    """batches that the recipient or the transport refuses"""
    quarantined_since: float | None
    """since when the first of them is refused, seconds since 1970; None: none is"""
    quarantined_why: str
    oldest: int | None
    """slot of the oldest waiting row (the last slot of a span), seconds since 1970"""
    used: int
    """bytes of the file that are in use"""
    cap: int
    """bytes the file may have"""
    shed: int
    """values given up for lack of room since this spool was created; their slots are M `shed`"""
    lately_shed: int
    """values given up since it was opened"""
    refused: int
    """rows refused for lack of room since this spool was created"""
    unreadable: int
    """rows lost on a damaged disk since this spool was created"""
    retractions: int
    """retractions that have not been sent yet"""
    purged: int
    """slots destroyed for lack of a basis, since this spool was created"""

    @property
    def settled(self) -> bool:
        """Whether the recipient has received everything."""
        return not (self.rows or self.batches or self.quarantined or self.retractions)


class BacklogCount:
    """Counts the rows in all parts of one spool."""

    def __init__(  # noqa: PLR0913, PLR0917 -- wherever a row may lie
        self,
        database: Database,
        pending: PendingRows,
        voided_rows: VoidedRows,
        outbox: Outbox,
        retracting: Retracting,
        meta: Meta,
    ) -> None:
        self._database, self._pending, self._voided_rows = database, pending, voided_rows
        self._outbox, self._retracting, self._meta = outbox, retracting, meta
        # The counter on the disk counts since the spool was created.
        self._shed_before = self._since("shed")

    def now(self, cap: int, refused: int) -> Backlog:
        """The present numbers, for a file of at most `cap` bytes. `refused` may not be on the disk
        yet.
        """
        slots, oldest = self._database.read("SELECT coalesce(sum(slots), 0), min(t0) FROM block")[0]
        voided, voided_slots = self._voided_rows.count()
        unreceipted, batch_rows = self._outbox.count(BatchState.UNRECEIPTED)
        since, why = self._outbox.longest_quarantined() or (None, "")
        return Backlog(
            rows=self._pending.total + voided,
            slots=slots + voided_slots,
            batches=unreceipted,
            batch_rows=batch_rows,
            quarantined=self._outbox.count(BatchState.QUARANTINED)[0],
            quarantined_since=since or None,
            quarantined_why=why,
            oldest=oldest,
            used=self._database.used(),
            cap=cap,
            shed=self._since("shed"),
            lately_shed=self._since("shed") - self._shed_before,
            refused=refused,
            unreadable=self._since("unreadable"),
            retractions=self._retracting.waiting(),
            purged=self._since("purged"),
        )

    def _since(self, name: str) -> int:
        return int(self._meta.number(name) or 0)

"""The regular work on a spool, and the count of what it holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.buffer.batch import parts, read, read_retractions
from agent.buffer.disclosures import counts_of
from agent.buffer.outbox import BatchState, read_limit, refused_limit, written_limit
from agent.buffer.pending import in_chunks
from agent.core.model import Void

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.buffer.announcements import Announced, Retracting
    from agent.buffer.database import Database
    from agent.buffer.erasure import Purge, Step, VoidedRows
    from agent.buffer.outbox import Outbox, Sealing
    from agent.buffer.pending import PendingRows
    from agent.buffer.schema import Meta
    from agent.core.model import BatchId, SealedBatch

PARTED_AT_ONCE = 30_000
"""rows in one commit that divides blocks by owner: a tenth of a second"""
TRIED_ANEW = 86_400.0
"""seconds that a batch stays in quarantine before its rows are tried under another id"""
TRIED_AGAIN = 1_800.0
"""seconds after which a batch that the transport refused is sent again: a proxy may have failed"""


class Upkeep:
    """The regular work on one spool."""

    def __init__(  # noqa: PLR0913, PLR0917 -- wherever a row may lie
        self,
        pending: PendingRows,
        voided_rows: VoidedRows,
        outbox: Outbox,
        sealing: Sealing,
        retracting: Retracting,
        purge: Purge,
        announced: Announced,
        meta: Meta,
    ) -> None:
        self._pending, self._voided_rows, self._outbox = pending, voided_rows, outbox
        self._sealing, self._retracting, self._purge = sealing, retracting, purge
        self._announced, self._meta = announced, meta
        self._parted_to = pending.last
        self.limit = read_limit(meta.text("limit"))
        """the size limit of batches; None: as large as configured"""

    def part(self) -> int:
        """Put rows that came before the last call of `parted` under their owners' keys. 0: there
        are none.
        """
        parted, broken = self._pending.part(self._parted_to, PARTED_AT_ONCE)
        self._sealing.write_off(broken)
        return parted + len(broken)

    def parted(self) -> None:
        """Let the next `part` take the rows that have come until now."""
        self._parted_to = self._pending.last

    def expiring(self, before: int) -> Iterator[Step]:
        """Destroy people's rows of earlier slots, in steps of one transaction each."""
        return self._purge.expiring(before)

    def overdue(self, now: float) -> list[list[BatchId]]:
        """The batches in quarantine for a day, divided so that one commit can rewrite each
        chunk.
        """
        ids = self._outbox.overdue(now - TRIED_ANEW)
        return in_chunks((id_, self._outbox.size(id_)) for id_ in ids)

    def end_quarantine(self, ids: list[BatchId]) -> list[BatchId]:
        """Make voids of batches, so that their rows are tried again."""
        for id_ in ids:
            self._void(id_, self._outbox.payload(id_.epoch, id_.seq))
        return ids

    def try_again(self, now: float) -> list[BatchId]:
        """Send one batch again that the transport refused: if it is accepted, the others follow."""
        ids = self._outbox.longest_refused(now - TRIED_AGAIN)
        self._outbox.try_again(ids)
        return ids

    def split(self, batch: SealedBatch, reason: str, now: float) -> bool:
        """Make a void of a batch that is too large, so that its rows are sent in smaller ones.

        False if it cannot be divided: it is in quarantine, and tried again as it is.
        """
        id_ = batch.id
        held = self._outbox.held(id_.epoch, id_.seq)
        if held is None or (held.sha256, held.state) != (batch.sha256, BatchState.UNRECEIPTED):
            return True  # its rows were taken back meanwhile
        payload = self._outbox.payload(id_.epoch, id_.seq)
        # A single row or item cannot be divided.
        if payload is None or parts(payload) <= 1:
            self._outbox.refuse(id_, reason, now)
            return False
        self._meta["limit"] = written_limit(refused_limit(self.limit, len(payload), now))
        self._void(id_, payload)
        return True

    def took(self, sizes: list[int]) -> None:
        """Learn from the sizes of receipted batches how large the next ones may be."""
        if self.limit is not None and max(sizes, default=0) > self.limit.passed:
            self._meta["limit"] = written_limit(self.limit.took(max(sizes)))

    def forget_limit(self) -> None:
        """Make batches as large as configured again."""
        self._meta["limit"] = written_limit(None)

    def learn(self) -> None:
        """Reload the limit from the disk, after a transaction or its failure."""
        self.limit = read_limit(self._meta.text("limit"))

    def _void(self, id_: BatchId, payload: bytes | None) -> None:
        rows = read(payload) if payload is not None else []
        if payload is not None:
            self._retracting.queue(read_retractions(payload))
        if not rows:
            self._announced.not_arrived(id_.epoch)  # its directory items
        reason = Void.REJECTED if payload is not None else Void.GONE
        self._outbox.void(id_, reason, counts_of(rows))
        self._voided_rows.add(id_.epoch, id_.seq, rows)

    def tidy(self) -> int:
        """Destroy the keys of owners without data. Return how many."""
        return self._purge.tidy()


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
    quarantined_rows: int
    """rows of those batches"""
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
        quarantined, quarantined_rows = self._outbox.count(BatchState.QUARANTINED)
        since, why = self._outbox.longest_quarantined() or (None, "")
        return Backlog(
            rows=self._pending.total + voided,
            slots=slots + voided_slots,
            batches=unreceipted,
            batch_rows=batch_rows,
            quarantined=quarantined,
            quarantined_rows=quarantined_rows,
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

"""Applies a receipt: settles batches, quarantines them, takes their rows back (rules T3, T4, T5,
T8, T9).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.buffer.batch import read, read_retractions
from agent.buffer.disclosures import counts_of
from agent.buffer.outbox import BatchState
from agent.buffer.receipt_evaluation import ReceiptVerdict, Settled, judge, may_begin_anew, seqs
from agent.buffer.schema import end_epoch, new_epoch
from agent.core.model import BatchId

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.buffer.batch import BatchHead
    from agent.buffer.disclosures import DisclosureCounts
    from agent.buffer.outbox import Outbox
    from agent.buffer.pending import PendingRows
    from agent.buffer.retracting import Retracting
    from agent.buffer.schema import Meta
    from agent.buffer.voided_rows import VoidedRows
    from agent.core.model import Reading, Receipt

NOT_YET_RECEIVED = (BatchState.UNRECEIPTED, BatchState.QUARANTINED)
UNREADABLE = "unreadable: the batch was damaged on the gateway's disk"


@dataclass(frozen=True, slots=True)
class Plan:
    """The changes of a receipt, determined before anything is written."""

    epoch: str
    verdict: ReceiptVerdict
    returned: Mapping[int, list[Reading] | None]
    """rows of contradicted batches, marked `again`; None if a batch does not open"""
    retracted: Sequence[tuple[str, int]] = ()


class ReceiptApplication:
    """Applies receipts to one spool."""

    def __init__(  # noqa: PLR0913, PLR0917 -- what a receipt may change
        self,
        pending: PendingRows,
        outbox: Outbox,
        voided_rows: VoidedRows,
        retracting: Retracting,
        disclosures: DisclosureCounts,
        meta: Meta,
        head: BatchHead,
    ) -> None:
        self._pending = pending
        self._outbox = outbox
        self._voided_rows = voided_rows
        self._retracting = retracting
        self._disclosures = disclosures
        self._meta = meta
        self._head = head
        self._looked_ahead = False

    def plan(self, receipt: Receipt) -> Plan:
        """Compare the receipt with the stored batches, and read the rows that it returns. Writes
        nothing.
        """
        entries = ((seq, self._outbox.held(receipt.epoch, seq)) for seq in seqs(receipt))
        held = {seq: batch for seq, batch in entries if batch is not None}
        # Only the present epoch has a next number: an earlier one cannot be ahead of us.
        current = receipt.epoch == self._meta["epoch"]
        verdict = judge(receipt, held, int(self._meta["seq"]) if current else None)
        # Read now, before the transaction: their series must be numbered before the rows are put
        # back.
        rows = {seq: self._rows(receipt.epoch, seq) for seq in verdict.contradicted}
        return Plan(receipt.epoch, verdict, rows, receipt.retracted)

    def apply(self, plan: Plan, now: float) -> Settled:
        """Write the planned changes, inside one transaction of the caller."""
        again = any(self._outbox.was_refused(plan.epoch, seq) for seq in plan.verdict.stored)
        for seq in plan.verdict.stored:
            self._stored(plan.epoch, seq, now)
        if again:  # the transport accepts batches again: try the other refused ones
            # One chunk, because all of this is one commit. Receipts for it release the next.
            self._outbox.try_again(
                next(iter(self._outbox.quarantined_chunks(by_transport=True)), ())
            )
        for seq in plan.verdict.originals:  # the recipient has the batch, so no row is owed
            if not self._counted(plan.epoch, seq):
                counts = self._outbox.voids.original_counts(plan.epoch, seq)
                if counts is None:
                    counts = counts_of(self._voided_rows.rows(plan.epoch, seq))
                self._disclosures.add(counts, now, again=True)
            self._outbox.receipt(plan.epoch, seq, now)
            self._voided_rows.drop(plan.epoch, seq)
        for seq, reason in plan.verdict.rejected:
            self._outbox.quarantine(plan.epoch, seq, reason, now)
        strange = self._retracting.erased(plan.retracted) if plan.retracted else ()
        before = self._meta["epoch"]
        ahead, too_far = self._look_ahead(plan)
        conflict, too_often = self._contradict(plan, now)
        return Settled(
            settled=self._ids(plan, (*plan.verdict.stored, *plan.verdict.originals)),
            quarantined=self._ids(plan, [seq for seq, _ in plan.verdict.rejected]),
            conflict=conflict,
            ahead=ahead,
            alarm=too_far or too_often,
            new_epoch=self._meta["epoch"] != before,
            again=again,
            ignored=plan.verdict.ignored,
            retracted=strange,
        )

    def applied(self, settled: Settled) -> None:
        """Note a committed receipt: in one run only the first look ahead begins an epoch (rule
        T9).
        """
        self._looked_ahead |= settled.ahead is not None

    def begin_epoch(self) -> None:
        """Begin a new epoch and mark all waiting rows: the recipient may have them (rule T9)."""
        self._begin_epoch()
        self._pending.mark_again()

    def _stored(self, epoch: str, seq: int, now: float) -> None:
        """Settle a stored batch. Of a void, the rows that may still leave are sealed again (rule
        T5).
        """
        held = self._outbox.held(epoch, seq)
        new = held is not None and held.void is None and held.state in NOT_YET_RECEIVED
        if new and not self._counted(epoch, seq):
            self._disclosures.payload(self._outbox.payload(epoch, seq), now)
        self._outbox.receipt(epoch, seq, now)
        self._retracting.stored(epoch, seq)
        if rows := self._voided_rows.rows(epoch, seq):
            if self._counted(epoch, seq):
                self._disclosures.returned(rows)
            self._pending.put_back(rows)
        self._voided_rows.drop(epoch, seq)

    def _counted(self, epoch: str, seq: int) -> bool:
        """Whether the values of an unreceipted batch are counted already: it was sent again on
        request, or became a void after its receipt.
        """
        known = self._disclosures.was_counted(epoch, seq)
        return known or self._outbox.voids.original_counts(epoch, seq) == []

    def _look_ahead(self, plan: Plan) -> tuple[str | None, str | None]:
        if not plan.verdict.ahead:
            return None, None
        seen = f"{self._head.recipient} has batch {plan.epoch}/{max(plan.verdict.ahead)}"
        if self._looked_ahead:
            return None, (
                f"{seen}, which is not made yet, for the second time since the start: check whether"
                " another gateway runs with a copy of this state"
            )
        self.begin_epoch()
        return (
            f"{seen}, which is not made yet: this gateway's state is older. A new epoch begins",
            None,
        )

    def _contradict(self, plan: Plan, now: float) -> tuple[str | None, str | None]:
        """Take the rows of contradicted batches back. A conflict in an earlier epoch begins no new
        one, because the present epoch began after it (rule T8).
        """
        if not plan.verdict.contradicted:
            return None, None
        named = ", ".join(f"{plan.epoch}/{seq}" for seq in plan.verdict.contradicted)
        finding = f"{self._head.recipient} has stored other bytes than ours as {named}"
        if plan.epoch == self._meta["epoch"]:
            if not may_begin_anew(now, self._meta.number("conflict_at")):
                waits = "for the second time within a day: these batches wait until the day is over"
                return None, f"{finding}, {waits}"
            self._begin_epoch()
            self._meta["conflict_at"] = now
        # last first, because each is put in front of the waiting rows
        for seq in sorted(plan.verdict.contradicted, reverse=True):
            self._take_back(plan, seq, now)
        return f"{finding}: their rows are sent again", None

    def _take_back(self, plan: Plan, seq: int, now: float) -> None:
        rows, payload = plan.returned[seq], self._outbox.payload(plan.epoch, seq)
        if rows is None or payload is None:
            self._outbox.quarantine(plan.epoch, seq, UNREADABLE, now)
            return
        # A batch without rows may carry retractions: they must be sent again, too.
        self._retracting.queue(read_retractions(payload))
        held = self._outbox.held(plan.epoch, seq)
        # If an earlier receipt counted the values, the next receipt for these rows must not count
        # them again.
        received = held is not None and held.void is None and held.state not in NOT_YET_RECEIVED
        if self._counted(plan.epoch, seq) or received:
            self._disclosures.returned(rows)
        self._outbox.remove(plan.epoch, seq)
        self._voided_rows.drop(plan.epoch, seq)
        if rows:
            self._pending.put_back(rows)

    def _begin_epoch(self) -> None:
        end_epoch(self._meta)
        self._meta["before_epoch"], self._meta["before_seq"] = (
            self._meta["epoch"],
            int(self._meta["seq"]) - 1,
        )
        self._meta["epoch"] = new_epoch()
        self._meta["seq"] = 1

    def _rows(self, epoch: str, seq: int) -> list[Reading] | None:
        payload = self._outbox.payload(epoch, seq)
        if payload is None:
            return None
        rows = [replace(row, again=True) for row in read(payload)]
        return rows + self._voided_rows.rows(epoch, seq)

    def _ids(self, plan: Plan, seqs: tuple[int, ...] | list[int]) -> tuple[BatchId, ...]:
        return tuple(
            BatchId(self._head.gateway, self._head.recipient, plan.epoch, seq) for seq in seqs
        )

"""Sends batches again that the recipient requests (rule T10).

Each change belongs inside the caller's transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.buffer.batch import read, read_retractions
from agent.buffer.disclosures import counts_of
from agent.buffer.outbox import BatchState
from agent.buffer.schema import past_epochs
from agent.core.model import BatchId, Lane, Void

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.buffer.batch import BatchHead
    from agent.buffer.outbox import Outbox
    from agent.buffer.retracting import Retracting
    from agent.buffer.schema import Meta
    from agent.buffer.voided_rows import VoidedRows

MOST_ASKED = 100_000
"""ids in one request"""


class Resending:
    """Marks batches to be sent again, byte for byte, or makes a void in their place."""

    def __init__(
        self,
        outbox: Outbox,
        voided_rows: VoidedRows,
        retracting: Retracting,
        meta: Meta,
        head: BatchHead,
    ) -> None:
        self._outbox, self._voided_rows, self._retracting = outbox, voided_rows, retracting
        self._meta, self._head = meta, head

    def ids(self, epoch: str, first: int, last: int) -> range:
        """The ids of these that were ever made.

        Raises LookupError if there was no such epoch, or none of these ids in it, and ValueError on
        more than 100,000.
        """
        if last - first >= MOST_ASKED:
            raise ValueError(f"at most {MOST_ASKED} batches can be requested at once")
        made = self._last_of(epoch)
        if made is None:
            raise LookupError(f"this gateway has made no batch with the epoch {epoch}")
        if first > made or last < 1:
            raise LookupError(f"the last batch with the epoch {epoch} is {made}")
        return range(max(first, 1), min(last, made) + 1)

    def _last_of(self, epoch: str) -> int | None:
        """The number of the last batch of an epoch; None: there was no such epoch, or it ended
        before this was recorded and none of its batches is here any more.
        """
        if epoch == self._meta["epoch"]:
            return int(self._meta["seq"]) - 1
        known = past_epochs(self._meta).get(epoch)
        return self._outbox.last_of(epoch) if known is None else known

    def ask(self, epoch: str, seq: int, now: float) -> bool:
        """Send a batch again when its turn comes. False: it is to be sent anyway."""
        held = self._outbox.held(epoch, seq)
        id_ = BatchId(self._head.gateway, self._head.recipient, epoch, seq)
        if held is None:
            # The content is deleted: the void tells the recipient that it will not come.
            void = self._outbox.voids.make(id_, Lane.BACKFILL, Void.GONE, None)
            self._outbox.add(void, now, state=BatchState.ASKED)
        elif held.state is BatchState.RECEIPTED:
            if not self._outbox.has_present_form(id_):
                self._replace_by_void(id_)
            self._outbox.ask(epoch, seq)
        return held is None or held.state is BatchState.RECEIPTED

    def adapt(self, ids: Iterable[BatchId]) -> None:
        """Convert waiting batches for the present transport."""
        for id_ in ids:
            self._replace_by_void(id_)

    def _replace_by_void(self, id_: BatchId) -> None:
        """Make a void of a batch that the present transport does not accept. Its rows are sent
        again, marked `again`, unless the recipient has them under its id. A void is made in the
        form of the transport.
        """
        held = self._outbox.held(id_.epoch, id_.seq)
        if held is not None and held.void is not None:
            self._outbox.remake(id_)
            return
        payload = self._outbox.payload(id_.epoch, id_.seq)
        rows = read(payload) if payload is not None else []
        if payload is not None:
            self._retracting.queue(read_retractions(payload))
        counted = held is not None and held.state in {BatchState.RECEIPTED, BatchState.ASKED}
        self._outbox.void(id_, Void.GONE, () if counted else counts_of(rows))
        self._voided_rows.add(id_.epoch, id_.seq, rows)

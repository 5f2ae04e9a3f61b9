"""Reads the rows of one occupancy for the people themselves: articles 15 and 20 of the GDPR.

These are the rows that wait, and those that were sent without a receipt. Receipted batches are not
opened: the recipient has their values, and the counts of disclosures record it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.buffer.batch import read
from agent.buffer.outbox import BatchState
from agent.buffer.voided_rows import SHARED

if TYPE_CHECKING:
    from agent.buffer.outbox import Outbox
    from agent.buffer.pending import PendingRows
    from agent.buffer.person_keys import PersonKeys
    from agent.buffer.voided_rows import VoidedRows
    from agent.core.model import Reading


class Holdings:
    """Reads only. A body that does not open is left to the component that handles it."""

    def __init__(
        self, pending: PendingRows, voided_rows: VoidedRows, outbox: Outbox, person_keys: PersonKeys
    ) -> None:
        self._pending, self._voided_rows, self._outbox = pending, voided_rows, outbox
        self._person_keys = person_keys

    def of(self, occupancy: str) -> list[Reading]:
        """The rows of an occupancy by quantity and slot. A row that is both sealed and kept for a
        void counts once.
        """
        number = self._person_keys.known(occupancy)
        rows = [row for block in self._pending.mixed()[0] for row in block.rows]
        rows += [row for pile in self._voided_rows.of(SHARED)[0] for row in pile.rows]
        if number is not None:
            rows += [row for block in self._pending.of(number)[0] for row in block.rows]
            rows += [row for pile in self._voided_rows.of(number)[0] for row in pile.rows]
            rows += self._under_way(number)
        mine = {(row.series, row.t, row.ver): row for row in rows}
        rows_of = [row for row in mine.values() if row.series.occupancy == occupancy]
        return sorted(rows_of, key=lambda row: (*row.series[:2], row.series.step, row.t))

    def _under_way(self, number: int) -> list[Reading]:
        ends = {BatchState.UNRECEIPTED, BatchState.QUARANTINED}
        ids = [id_ for id_, state in self._outbox.with_rows_of([number]) if state in ends]
        payloads = [self._outbox.payload(id_.epoch, id_.seq) for id_ in ids]
        return [row for payload in payloads if payload is not None for row in read(payload)]

"""Destroys rows that may no longer be sent: among the waiting rows, the rows kept for voids, and
the sealed batches, receipted ones included (rules T5, T7, T10; design note 023).

It works in steps of one commit each, none larger than the log: a withdrawal must not fail on a full
disk.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from agent.buffer.batch import read
from agent.buffer.disclosures import counts_of
from agent.buffer.outbox import BatchState
from agent.buffer.pending import in_chunks
from agent.buffer.person_keys import NOBODY, owner_of
from agent.buffer.taken_back import left_of, taken_by
from agent.buffer.voided_rows import SHARED
from agent.core.model import BatchId, Void

Step = Callable[[], list[BatchId]]
"""one commit of a purge; returns the batches that became voids"""
DESTROYED = "purging_of"

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from agent.buffer.outbox import Outbox
    from agent.buffer.pending import Broken, PendingRows
    from agent.buffer.person_keys import PersonKeys
    from agent.buffer.schema import Meta
    from agent.buffer.series_ids import SeriesIds
    from agent.buffer.taken_back import Takes
    from agent.buffer.voided_rows import Pile, VoidedRows
    from agent.core.model import Reading, Retraction


class Purge:
    """The steps of a purge. Each call belongs inside one transaction of the caller."""

    def __init__(  # noqa: PLR0913, PLR0917 -- wherever a row may lie
        self,
        pending: PendingRows,
        voided_rows: VoidedRows,
        outbox: Outbox,
        series_ids: SeriesIds,
        person_keys: PersonKeys,
        meta: Meta,
        write_off: Callable[[Broken], None],
    ) -> None:
        self._pending, self._voided_rows, self._outbox = pending, voided_rows, outbox
        self._series_ids, self._person_keys, self._meta = series_ids, person_keys, meta
        self._write_off = write_off

    def begin(self, retractions: Sequence[Retraction], recipient: str) -> None:
        """Destroy the keys of owners of whom no row stays: their blocks no longer open.

        This is the first, small commit of a purge (rule B8).
        """
        takes = taken_by(retractions, recipient)
        gone = self._destroyed()
        # In a fixed order, so that a repeated purge takes the same steps.
        for number in sorted(self._whose(retractions) - {NOBODY} - gone):
            blocks, piles = self._pending.of(number)[0], self._voided_rows.of(number)[0]
            rows = [row for block in blocks for row in block.rows]
            rows += [row for pile in piles for row in pile.rows]
            # Nothing stays: a new key makes all of it unreadable at once, in a commit of a few
            # bytes.
            if rows and not left_of(rows, takes):
                self._person_keys.renew(number)
                self._meta.add("purged", sum(row.span for row in rows))
                gone.add(number)
        self._meta[DESTROYED] = json.dumps(sorted(gone))

    def steps(self, retractions: Sequence[Retraction], recipient: str) -> Iterator[Step]:
        """The commits after `begin`, in order, each small. After an interruption they are repeated
        from the first. Each returns the ids of batches that became voids.
        """
        takes, whose = taken_by(retractions, recipient), self._whose(retractions)
        for number in sorted(whose - {NOBODY}):
            yield from self._steps_of(number, takes)
        chunks = (
            self._pending.chunks_of(NOBODY) if NOBODY in whose else self._pending.mixed_chunks()
        )
        yield from self._filtering(chunks, takes)
        for owner in {NOBODY, SHARED} if NOBODY in whose else {SHARED}:
            yield from self._thinning(self._voided_rows.sizes(owner), takes)
        batches = self._outbox.with_rows_of(whose)
        yield from self._voiding(batches, takes, _reason(retractions))

    def end(self, retractions: Iterable[Retraction]) -> None:
        """The last commit: forget what only the purge needed."""
        self._forget_series(self._whose(retractions))
        self._meta[DESTROYED] = "[]"
        self.tidy()

    def _destroyed(self) -> set[int]:
        """Owners whose keys the present purge has destroyed."""
        return set(json.loads(self._meta.text(DESTROYED) or "[]"))

    def drop_waiting(self, retractions: Sequence[Retraction], recipient: str) -> None:
        """Destroy the waiting rows that these retractions cover completely. Sealed rows, and runs
        that are covered in part, are sent, and the recipient removes them.
        """
        since = min((retraction.since for retraction in retractions), default=None)
        if since is None:
            return
        blocks, broken = self._pending.newer(since)
        self._write_off(broken)
        for block in blocks:
            left = [row for row in block.rows if not _covered(row, retractions, recipient)]
            if left != block.rows:
                self._pending.keep(block, left)

    def _whose(self, retractions: Iterable[Retraction]) -> set[int]:
        """The numbers of the owners whose rows may be affected."""
        numbers: set[int] = set()
        for retraction in retractions:
            if retraction.occupancy is None:
                numbers |= self._person_keys.at(retraction.place)
            elif (known := self._person_keys.known(retraction.occupancy)) is not None:
                numbers.add(known)
        return numbers

    def _steps_of(self, number: int, takes: Takes) -> Iterator[Step]:
        """The steps for one owner's data. Blocks that no longer open are deleted chunk by chunk,
        without a count. If rows stay, they are sealed under a new key in one step.
        """
        if number in self._destroyed():
            # The key is gone: only the space is freed here, so this may take several commits.
            for chunk in self._pending.chunks_of(number):
                yield partial(self._drop, chunk, takes)
            yield partial(self._drop_piles, number, takes)
        elif self._has_rows(number):
            yield partial(self._reseal, number, takes)

    def _drop(self, numbers: Iterable[int], takes: Takes) -> list[BatchId]:
        blocks, broken = self._pending.opened(numbers)
        for no, rows in broken:
            self._pending.drop(no, rows)
        for block in blocks:  # these arrived after the key was destroyed
            self._pending.keep(block, self._counted(block.rows, takes))
        return []

    def _drop_piles(self, number: int, takes: Takes) -> list[BatchId]:
        self._thin(self._voided_rows.of(number)[0], 0, takes)
        self._voided_rows.drop_broken(number)
        return []

    def expiring(self, before: int) -> Iterator[Step]:
        """Destroy people's rows of earlier slots without a receipt (rule P14), in steps of one
        commit each, as `steps`.
        """

        def takes(row: Reading) -> bool:
            return row.t < before and owner_of(row.series) is not None

        yield from self._filtering(self._pending.older_chunks(before), takes)
        yield from self._thinning(self._voided_rows.older_sizes(before), takes)
        unreceipted = [
            entry
            for entry in self._outbox.with_rows_of(None)
            if entry[1] in (BatchState.UNRECEIPTED, BatchState.QUARANTINED)
        ]
        yield from self._voiding(unreceipted, takes, Void.EXPIRED)

    def tidy(self) -> int:
        """Destroy the keys of owners without data. Return how many."""
        gone = [number for number in self._person_keys.numbers() if not self._has_data(number)]
        for number in gone:
            self._person_keys.destroy(number)
        return len(gone)

    def _reseal(self, number: int, takes: Takes) -> list[BatchId]:
        """Seal the remaining rows of an owner under a new key; the old key is destroyed."""
        blocks, broken = self._pending.of(number)
        piles, lost = self._voided_rows.of(number)
        self._person_keys.renew(number)
        self._write_off(broken)
        for block in blocks:
            self._pending.keep(block, self._counted(block.rows, takes))
        self._thin(piles, lost, takes)
        return []

    def _filtering(self, chunks: Iterable[Iterable[int]], takes: Takes) -> Iterator[Step]:
        return (partial(self._filter, chunk, takes) for chunk in chunks)

    def _filter(self, numbers: Iterable[int], takes: Takes) -> list[BatchId]:
        blocks, broken = self._pending.opened(numbers)
        self._write_off(broken)
        for block in blocks:
            left = self._counted(block.rows, takes)
            if left != block.rows:
                self._pending.keep(block, left)
        return []

    def _thinning(self, sizes: Iterable[tuple[int, int]], takes: Takes) -> Iterator[Step]:
        def thin(numbers: Iterable[int]) -> list[BatchId]:
            self._thin(*self._voided_rows.opened(numbers), takes)
            return []

        return (partial(thin, chunk) for chunk in in_chunks(sizes))

    def _thin(self, piles: Iterable[Pile], lost: int, takes: Takes) -> None:
        if lost:
            self._meta.add("unreadable", lost)
        for pile in piles:
            left = self._counted(pile.rows, takes)
            # After a new key for the owner even unchanged rows must be sealed again.
            if left != pile.rows or pile.owner not in {NOBODY, SHARED}:
                self._voided_rows.replace(pile, left)

    def _voiding(
        self, batches: Iterable[tuple[BatchId, BatchState]], takes: Takes, reason: Void
    ) -> Iterator[Step]:
        chunks = in_chunks(((id_, state), self._outbox.size(id_)) for id_, state in batches)
        return (partial(self._void, chunk, takes, reason) for chunk in chunks)

    def _counted(self, rows: list[Reading], takes: Takes) -> list[Reading]:
        left = left_of(rows, takes)
        if gone := sum(row.span for row in rows) - sum(row.span for row in left):
            self._meta.add("purged", gone)
        return left

    def _void(
        self,
        batches: Iterable[tuple[BatchId, BatchState]],
        takes: Takes,
        reason: Void,
    ) -> list[BatchId]:
        voided = []
        for id_, state in batches:
            payload = self._outbox.payload(id_.epoch, id_.seq)
            rows = read(payload) if payload is not None else []
            left = left_of(rows, takes)
            # Not affected. A batch that does not open may be, so it becomes a void as well.
            if payload is not None and left == rows:
                continue
            # The values of receipted batches have been counted as disclosed.
            counted = state in (BatchState.RECEIPTED, BatchState.ASKED)
            self._outbox.void(id_, reason, () if counted else counts_of(rows))
            # The recipient has the other rows of a receipted batch already.
            if state is not BatchState.RECEIPTED:
                self._voided_rows.add(id_.epoch, id_.seq, left)
            voided.append(id_)
        return voided

    def _forget_series(self, whose: set[int]) -> None:
        """Forget the series of people together with their last row."""
        # Blocks that are not divided yet may still use a series of these owners.
        used = {row.series for block in self._pending.mixed()[0] for row in block.rows}
        gone = {number for number in whose - {NOBODY} if not self._has_rows(number)}
        self._series_ids.forget(
            [
                number
                for number, series in self._series_ids.series_of.items()
                if self._person_keys.known(owner_of(series)) in {None, *gone} and series not in used
            ]
        )

    def _has_rows(self, number: int) -> bool:
        """Whether blocks or rows kept for voids need the owner's series."""
        return bool(self._pending.numbers_of(number) or self._voided_rows.of(number)[0])

    def _has_data(self, number: int) -> bool:
        return self._has_rows(number) or bool(self._outbox.with_rows_of([number]))


def _reason(retractions: Sequence[Retraction]) -> Void:
    withdrawn = any(retraction.reason == "withdrawn" for retraction in retractions)
    return Void.WITHDRAWN if withdrawn else Void.RETRACTED


def _covered(row: Reading, retractions: Sequence[Retraction], recipient: str) -> bool:
    """Whether one of these retractions covers the first and the last slot of a row, and so all
    slots.
    """
    last = row.t + (row.span - 1) * row.series.step
    return any(
        retraction.covers(recipient, row.series, row.t)
        and retraction.covers(recipient, row.series, last)
        for retraction in retractions
        if row.ver is None or row.ver <= retraction.ver
    )

"""Destroy rows that may no longer be sent: from what waits, what was put aside, and what was
sealed, kept batches included (rules T5, T7, T10; design note 023).

In steps of one commit each, none larger than the log: a withdrawal must not fail on a full disk.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from agent.buffer.batch import read
from agent.buffer.disclosures import counts_of
from agent.buffer.outbox import BatchState
from agent.buffer.pending import in_lots
from agent.buffer.person_keys import NOBODY, owner_of
from agent.buffer.taken_back import left_of, taken_by
from agent.buffer.voided_rows import SHARED
from agent.model import BatchId, Void

Step = Callable[[], list[BatchId]]
"""one commit of a purge; the batches that are voids from then on"""
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
    from agent.model import Reading, Retraction


class Purge:
    """Each call belongs inside one transaction of the caller's."""

    def __init__(  # noqa: PLR0913, PLR0917 -- wherever a row may lie
        self,
        waiting: PendingRows,
        aside: VoidedRows,
        outbox: Outbox,
        names: SeriesIds,
        owners: PersonKeys,
        meta: Meta,
        write_off: Callable[[Broken], None],
    ) -> None:
        self._waiting, self._aside, self._outbox = waiting, aside, outbox
        self._names, self._owners, self._meta = names, owners, meta
        self._write_off = write_off

    def begin(self, retractions: Sequence[Retraction], recipient: str) -> None:
        """Destroy the keys of those of whom nothing stays: from here on their blocks do not open.

        The first, small commit of a purge (rule B8).
        """
        takes = taken_by(retractions, recipient)
        gone = self._destroyed()
        for number in sorted(self._whose(retractions) - {NOBODY} - gone):
            blocks, piles = self._waiting.of(number)[0], self._aside.of(number)[0]
            rows = [row for block in blocks for row in block.rows]
            rows += [row for pile in piles for row in pile.rows]
            if rows and not left_of(rows, takes):
                self._owners.renew(number)
                self._meta.add("purged", sum(row.span for row in rows))
                gone.add(number)
        self._meta[DESTROYED] = json.dumps(sorted(gone))

    def steps(self, retractions: Sequence[Retraction], recipient: str) -> Iterator[Step]:
        """What is to be committed after `begin`, one after the other, each small; done again from
        the first one where it was interrupted. The ids of batches that are voids from then on.
        """
        takes, whose = taken_by(retractions, recipient), self._whose(retractions)
        for number in sorted(whose - {NOBODY}):
            yield from self._steps_of(number, takes)
        lots = self._waiting.lots_of(NOBODY) if NOBODY in whose else self._waiting.mixed_lots()
        yield from self._filtering(lots, takes)
        for owner in {NOBODY, SHARED} if NOBODY in whose else {SHARED}:
            yield from self._thinning(self._aside.sizes(owner), takes)
        batches = self._outbox.with_rows_of(whose)
        yield from self._voiding(batches, takes, _reason(retractions))

    def end(self, retractions: Iterable[Retraction]) -> None:
        """All steps are done: what was only needed for them goes too."""
        self._forget_names(self._whose(retractions))
        self._meta[DESTROYED] = "[]"
        self.tidy()

    def _destroyed(self) -> set[int]:
        """Owners whose key was destroyed by the purge that is under way."""
        return set(json.loads(self._meta.text(DESTROYED) or "[]"))

    def drop_waiting(self, retractions: Sequence[Retraction], recipient: str) -> None:
        """Destroy rows that these take back whole among those that wait. What was sealed, and a run
        of which a part stays, goes out, and the recipient removes it.
        """
        since = min((one.since for one in retractions), default=None)
        if since is None:
            return
        blocks, broken = self._waiting.newer(since)
        self._write_off(broken)
        for block in blocks:
            left = [row for row in block.rows if not _covered(row, retractions, recipient)]
            if left != block.rows:
                self._waiting.keep(block, left)

    def _whose(self, retractions: Iterable[Retraction]) -> set[int]:
        """The numbers of those whose rows may be taken."""
        found: set[int] = set()
        for one in retractions:
            if one.occupancy is None:
                found |= self._owners.at(one.place)
            elif (known := self._owners.known(one.occupancy)) is not None:
                found.add(known)
        return found

    def _steps_of(self, number: int, takes: Takes) -> Iterator[Step]:
        """What is an owner's alone: blocks that do not open any more go lot by lot, without a
        count; where something stays it is sealed under a new key, at once.
        """
        if number in self._destroyed():
            for lot in self._waiting.lots_of(number):
                yield partial(self._drop, lot, takes)
            yield partial(self._drop_piles, number, takes)
        elif self._lies(number):
            yield partial(self._anew, number, takes)

    def _drop(self, numbers: Iterable[int], takes: Takes) -> list[BatchId]:
        blocks, broken = self._waiting.opened(numbers)
        for no, rows in broken:
            self._waiting.drop(no, rows)
        for block in blocks:  # they came after the key was destroyed
            self._waiting.keep(block, self._counted(block.rows, takes))
        return []

    def _drop_piles(self, number: int, takes: Takes) -> list[BatchId]:
        self._thin(self._aside.of(number)[0], 0, takes)
        self._aside.drop_broken(number)
        return []

    def expiring(self, before: int) -> Iterator[Step]:
        """Destroy people's rows of earlier slots that nobody has receipted (rule P14), in
        steps of one commit each, as `steps`.
        """

        def takes(row: Reading) -> bool:
            return row.t < before and owner_of(row.series) is not None

        yield from self._filtering(self._waiting.older_lots(before), takes)
        yield from self._thinning(self._aside.older_sizes(before), takes)
        unreceipted = [
            found
            for found in self._outbox.with_rows_of(None)
            if found[1] in (BatchState.UNRECEIPTED, BatchState.QUARANTINED)
        ]
        yield from self._voiding(unreceipted, takes, Void.EXPIRED)

    def tidy(self) -> int:
        """Destroy the keys of owners of whom nothing is left; how many."""
        gone = [number for number in self._owners.numbers() if not self._holds(number)]
        for number in gone:
            self._owners.destroy(number)
        return len(gone)

    def _anew(self, number: int, takes: Takes) -> list[BatchId]:
        """What stays of an owner's rows, under a new key; the old one is no more."""
        blocks, broken = self._waiting.of(number)
        piles, lost = self._aside.of(number)
        self._owners.renew(number)
        self._write_off(broken)
        for block in blocks:
            self._waiting.keep(block, self._counted(block.rows, takes))
        self._thin(piles, lost, takes)
        return []

    def _filtering(self, lots: Iterable[Iterable[int]], takes: Takes) -> Iterator[Step]:
        return (partial(self._filter, lot, takes) for lot in lots)

    def _filter(self, numbers: Iterable[int], takes: Takes) -> list[BatchId]:
        blocks, broken = self._waiting.opened(numbers)
        self._write_off(broken)
        for block in blocks:
            left = self._counted(block.rows, takes)
            if left != block.rows:
                self._waiting.keep(block, left)
        return []

    def _thinning(self, sizes: Iterable[tuple[int, int]], takes: Takes) -> Iterator[Step]:
        def thin(numbers: Iterable[int]) -> list[BatchId]:
            self._thin(*self._aside.opened(numbers), takes)
            return []

        return (partial(thin, lot) for lot in in_lots(sizes))

    def _thin(self, piles: Iterable[Pile], lost: int, takes: Takes) -> None:
        if lost:
            self._meta.add("unreadable", lost)
        for pile in piles:
            left = self._counted(pile.rows, takes)
            if left != pile.rows or pile.owner not in {NOBODY, SHARED}:
                self._aside.replace(pile, left)

    def _voiding(
        self, batches: Iterable[tuple[BatchId, BatchState]], takes: Takes, reason: Void
    ) -> Iterator[Step]:
        lots = in_lots(((id_, state), self._outbox.size(id_)) for id_, state in batches)
        return (partial(self._void, lot, takes, reason) for lot in lots)

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
            if payload is not None and left == rows:
                continue
            counted = state in (BatchState.RECEIPTED, BatchState.ASKED)
            self._outbox.void(id_, reason, () if counted else counts_of(rows))
            if state is not BatchState.RECEIPTED:
                self._aside.add(id_.epoch, id_.seq, left)
            voided.append(id_)
        return voided

    def _forget_names(self, whose: set[int]) -> None:
        """What was said of people's series goes with their last row."""
        used = {row.series for block in self._waiting.mixed()[0] for row in block.rows}
        gone = {number for number in whose - {NOBODY} if not self._lies(number)}
        self._names.forget(
            [
                number
                for number, series in self._names.series_of.items()
                if self._owners.known(owner_of(series)) in {None, *gone} and series not in used
            ]
        )

    def _lies(self, number: int) -> bool:
        """Whether blocks or rows put aside need the owner's series."""
        return bool(self._waiting.numbers_of(number) or self._aside.of(number)[0])

    def _holds(self, number: int) -> bool:
        return self._lies(number) or bool(self._outbox.with_rows_of([number]))


def _reason(retractions: Sequence[Retraction]) -> Void:
    withdrawn = any(one.reason == "withdrawn" for one in retractions)
    return Void.WITHDRAWN if withdrawn else Void.RETRACTED


def _covered(row: Reading, retractions: Sequence[Retraction], recipient: str) -> bool:
    """Whether one of these takes back the first slot of a row and the last, and so all between."""
    last = row.t + (row.span - 1) * row.series.step
    return any(
        one.covers(recipient, row.series, row.t) and one.covers(recipient, row.series, last)
        for one in retractions
        if row.ver is None or row.ver <= one.ver
    )

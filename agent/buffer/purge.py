"""What may not leave any more goes, in one transaction: from what waits, what was put aside, and
what was sealed, kept batches included (delivery rules 5, 7 and 10; design note 023).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.buffer.batch import read
from agent.buffer.disclosed import counts_of
from agent.buffer.outbox import State
from agent.buffer.owners import NOBODY, owner_of
from agent.buffer.taken_back import left_of, taken_by
from agent.model import Void

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from agent.buffer.aside import Aside, Pile
    from agent.buffer.names import Names
    from agent.buffer.outbox import Outbox
    from agent.buffer.owners import Owners
    from agent.buffer.schema import Meta
    from agent.buffer.taken_back import Takes
    from agent.buffer.waiting import Block, Broken, Waiting
    from agent.model import BatchId, Reading, Retraction


class Purge:
    """Each call belongs inside one transaction of the caller's."""

    def __init__(  # noqa: PLR0913, PLR0917 -- wherever a row may lie
        self,
        waiting: Waiting,
        aside: Aside,
        outbox: Outbox,
        names: Names,
        owners: Owners,
        meta: Meta,
        write_off: Callable[[Broken], None],
    ) -> None:
        self._waiting, self._aside, self._outbox = waiting, aside, outbox
        self._names, self._owners, self._meta = names, owners, meta
        self._write_off = write_off

    def retract(self, retractions: Sequence[Retraction], recipient: str) -> list[BatchId]:
        """Destroy what these take back; the ids of batches that are voids from here on.

        A key under which something of theirs lay is destroyed: what stays is sealed under a new
        one.
        """
        takes = taken_by(retractions, recipient)
        whose = self._whose(retractions)
        for number in sorted(whose - {NOBODY}):
            self._anew(number, takes)
        blocks, broken = self._waiting.of(NOBODY) if NOBODY in whose else self._waiting.mixed()
        self._filter(blocks, broken, takes)
        reason = _reason(retractions)
        voided = self._void(self._outbox.with_rows_of(whose), takes, reason)
        self._forget_names(whose)
        return voided

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

    def expire(self, before: int) -> list[BatchId]:
        """Destroy people's rows of earlier slots that nobody has receipted (domain.md 2.2)."""

        def takes(row: Reading) -> bool:
            return row.t < before and owner_of(row.series) is not None

        blocks, broken = self._waiting.older(before)
        self._filter(blocks, broken, takes)
        piles, lost = self._aside.older(before)
        self._thin(piles, lost, takes)
        unreceipted = [
            found
            for found in self._outbox.with_rows_of(None)
            if found[1] in (State.UNRECEIPTED, State.QUARANTINED)
        ]
        return self._void(unreceipted, takes, Void.EXPIRED)

    def tidy(self) -> int:
        """Destroy the keys of owners of whom nothing is left; how many."""
        gone = [number for number in self._owners.numbers() if not self._holds(number)]
        for number in gone:
            self._owners.destroy(number)
        return len(gone)

    def _anew(self, number: int, takes: Takes) -> None:
        """What stays of an owner's rows, under a new key; the old one is no more."""
        blocks, broken = self._waiting.of(number)
        piles, lost = self._aside.of(number)
        self._owners.renew(number)
        self._write_off(broken)
        for block in blocks:
            self._waiting.keep(block, self._counted(block.rows, takes))
        self._thin(piles, lost, takes)

    def _filter(self, blocks: Iterable[Block], broken: Broken, takes: Takes) -> None:
        self._write_off(broken)
        for block in blocks:
            left = self._counted(block.rows, takes)
            if left != block.rows:
                self._waiting.keep(block, left)

    def _thin(self, piles: Iterable[Pile], lost: int, takes: Takes) -> None:
        if lost:
            self._meta.add("unreadable", lost)
        for pile in piles:
            self._aside.replace(pile, self._counted(pile.rows, takes))

    def _counted(self, rows: list[Reading], takes: Takes) -> list[Reading]:
        left = left_of(rows, takes)
        if gone := sum(row.span for row in rows) - sum(row.span for row in left):
            self._meta.add("purged", gone)
        return left

    def _void(
        self,
        batches: Iterable[tuple[BatchId, State]],
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
            counted = state in (State.RECEIPTED, State.ASKED)
            self._outbox.void(id_, reason, () if counted else counts_of(rows))
            if state is not State.RECEIPTED:
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

"""Destroys rows that may no longer be sent, and takes rows back that were sent (rules P8, T9)."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from agent.buffer.batch import Stamp, extent, pack, read, unpack, write
from agent.buffer.disclosures import ReceivedSlots, counts_of
from agent.buffer.keys import NOBODY, SealBroken, SealedTable, owner_of
from agent.buffer.outbox import NOT_YET_RECEIVED, BatchState
from agent.buffer.pending import in_chunks
from agent.core.model import BatchId, Lane, ValueKind, Void

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from agent.buffer.database import Database
    from agent.buffer.keys import PersonKeys, Sealer, SpoolKeys
    from agent.buffer.outbox import Outbox
    from agent.buffer.pending import Broken, PendingRows, SeriesIds
    from agent.buffer.schema import Meta
    from agent.core.model import Reading, Retraction

NEWEST = 200
"""batches in which the last index of a meter is looked for"""
SHARED = -1
"""the owner number of a payload with rows of any owner: under the gateway's key, as the batch
was
"""
SELECT = "SELECT no, epoch, seq, owner, n, body FROM aside WHERE"
Step = Callable[[], list[BatchId]]
"""one commit of a purge; returns the batches that became voids"""
DESTROYED = "purging_of"


@dataclass(frozen=True, slots=True)
class Pile:
    """Rows of one voided batch, of one owner or SHARED."""

    no: int
    epoch: str
    seq: int
    owner: int
    rows: list[Reading]


class VoidedRows:
    """Rows by the batch that they were in. Every change belongs inside the caller's transaction."""

    def __init__(
        self,
        database: Database,
        keys: SpoolKeys,
        series_ids: SeriesIds,
        person_keys: PersonKeys,
        *,
        on_trial: bool,
    ) -> None:
        """`on_trial`: during an upgrade rows are stored as the version before reads them."""
        self._database, self._series_ids, self._person_keys = database, series_ids, person_keys
        self._on_trial = on_trial
        self._sealer = keys.sealer("aside")
        database.write(
            "CREATE TABLE IF NOT EXISTS aside(no INTEGER PRIMARY KEY, epoch TEXT NOT NULL,"
            " seq INTEGER NOT NULL, owner INTEGER NOT NULL, t0 INTEGER NOT NULL, n INTEGER NOT"
            " NULL, slots INTEGER NOT NULL, body BLOB NOT NULL)"
        )

    @property
    def sealed(self) -> SealedTable:
        """The sealed bodies for a key rotation."""

        def name(_no: int, *columns: object) -> str:
            return " ".join(map(str, columns))

        more = ("owner", "epoch", "seq")
        return SealedTable("aside", ("no",), name, lambda _, owner, *__: self._of(owner), more)

    def add(self, epoch: str, seq: int, rows: Iterable[Reading]) -> None:
        """Keep the rows of a batch, marked `again`."""
        marked = [replace(row, again=True) for row in rows]
        if not marked:
            return
        # In one pile, compressed like a payload: see the module.
        if not self._on_trial:
            self._insert(epoch, seq, SHARED, marked)
            return
        groups: dict[str | None, list[Reading]] = {}
        for row in marked:
            groups.setdefault(owner_of(row.series), []).append(row)
        # their series may have been forgotten since the batch was sealed
        new = self._series_ids.unknown(row.series for row in marked)
        self._series_ids.write(new)
        self._series_ids.learn(new)
        for group in groups.values():
            self._insert(epoch, seq, self._person_keys.number(group[0].series), group)

    def count(self) -> tuple[int, int]:
        """Number of rows, and of their slots."""
        rows, slots = self._database.read(
            "SELECT coalesce(sum(n), 0), coalesce(sum(slots), 0) FROM aside"
        )[0]
        return rows, slots

    def rows(self, epoch: str, seq: int) -> list[Reading]:
        """The rows kept of a batch, marked `again`."""
        piles, _ = self._open(f"{SELECT} epoch=? AND seq=?", epoch, seq)
        return [row for pile in piles for row in pile.rows]

    def drop(self, epoch: str, seq: int) -> None:
        """Forget the rows of a batch: its receipt has come."""
        self._database.write("DELETE FROM aside WHERE epoch=? AND seq=?", epoch, seq)

    def of(self, owner: int) -> tuple[list[Pile], int]:
        """All piles of one owner, or SHARED; and the number of rows that do not open."""
        return self._open(f"{SELECT} owner=?", owner)

    def sizes(self, owner: int) -> list[tuple[int, int]]:
        """Number and bytes of each pile of an owner, or SHARED."""
        return self._database.read("SELECT no, length(body) FROM aside WHERE owner=?", owner)

    def older_sizes(self, before: int) -> list[tuple[int, int]]:
        """Number and bytes of each pile of people that may have a row of an earlier slot."""
        # as `PendingRows.older_chunks`
        sql = "SELECT no, length(body) FROM aside WHERE owner<>? AND (t0<? OR slots>n)"
        return self._database.read(sql, NOBODY, before)

    def drop_broken(self, owner: int) -> None:
        """Remove the piles of an owner that do not open."""
        good = {pile.no for pile in self.of(owner)[0]}
        gone = [(no,) for no, _ in self.sizes(owner) if no not in good]
        self._database.write_all("DELETE FROM aside WHERE no=?", gone)

    def opened(self, numbers: Iterable[int]) -> tuple[list[Pile], int]:
        """Piles by their numbers; and the number of rows that do not open."""
        piles, lost = [], 0
        for no in numbers:
            opened, broken = self._open(f"{SELECT} no=?", no)
            piles += opened
            lost += broken
        return piles, lost

    def replace(self, pile: Pile, left: Sequence[Reading]) -> None:
        """Keep only these rows of a pile, under the owner's present key."""
        self._database.write("DELETE FROM aside WHERE no=?", pile.no)
        if left:
            self._insert(pile.epoch, pile.seq, pile.owner, left)

    def _insert(self, epoch: str, seq: int, owner: int, rows: Sequence[Reading]) -> None:
        over = extent(rows)
        self._database.write(
            "INSERT INTO aside(epoch, seq, owner, t0, n, slots, body) VALUES(?,?,?,?,?,?,?)",
            epoch,
            seq,
            owner,
            over.t0,
            over.n,
            over.slots,
            self._of(owner).seal(self._body(epoch, seq, owner, rows), f"{owner} {epoch} {seq}"),
        )

    def _body(self, epoch: str, seq: int, owner: int, rows: Sequence[Reading]) -> bytes:
        if owner != SHARED:
            return pack(rows, self._series_ids.number_of)
        return write(Stamp(BatchId("", "", epoch, seq), Lane.BACKFILL, 0.0, "", ""), rows)

    def _open(self, sql: str, *values: str | int) -> tuple[list[Pile], int]:
        piles, lost = [], 0
        for no, epoch, seq, owner, n, body in self._database.read(f"{sql} ORDER BY no", *values):
            try:
                text = self._of(owner).unseal(body, f"{owner} {epoch} {seq}")
                rows = read(text) if owner == SHARED else unpack(text, self._series_ids.series_of)
            except (SealBroken, LookupError, ValueError, zlib.error):
                lost += n
                continue
            piles.append(Pile(no, epoch, seq, owner, rows))
        return piles, lost

    def _of(self, owner: int) -> Sealer:
        return self._sealer if owner in {NOBODY, SHARED} else self._person_keys.sealer(owner)


if TYPE_CHECKING:
    Takes = Callable[[Reading], bool]
    """whether a row of a single slot is taken"""


def taken_by(retractions: Sequence[Retraction], recipient: str) -> Takes:
    """Rows that one of these retractions covers and whose `ver` is not higher than its own."""

    def takes(row: Reading) -> bool:
        return any(
            (row.ver is None or row.ver <= retraction.ver)
            and retraction.covers(recipient, row.series, row.t)
            for retraction in retractions
        )

    return takes


def left_of(rows: Iterable[Reading], takes: Takes) -> list[Reading]:
    """The rows that remain, in their order. The slots of a run are checked one by one."""
    left: list[Reading] = []
    for row in rows:
        if row.span == 1:
            if not takes(row):
                left.append(row)
            continue
        left += _runs(row, takes)
    return left


def _runs(row: Reading, takes: Takes) -> list[Reading]:
    runs: list[Reading] = []
    for i in range(row.span):
        slot = replace(row, t=row.t + i * row.series.step, span=1)
        if takes(slot):
            continue
        last = runs[-1] if runs else None
        if last is not None and last.t + last.span * row.series.step == slot.t:
            runs[-1] = replace(last, span=last.span + 1)
        else:
            runs.append(slot)
    return runs


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

    def unconfirmed(self) -> list[ReceivedSlots]:
        """The slots of dwellings that the recipient may have without a receipt: those of batches
        that were sealed, also if they became voids or were refused since (rule P28): whoever
        refuses a copy may hold what came first.
        """
        counts = []
        for id_, state in self._outbox.with_rows_of(None):
            payload = self._outbox.payload(id_.epoch, id_.seq)
            if state in NOT_YET_RECEIVED and payload is not None:
                counts += counts_of(read(payload))
        for id_ in self._outbox.voids_without_receipt():
            noted = self._outbox.voids.original_counts(id_.epoch, id_.seq)
            kept = self._voided_rows.rows(id_.epoch, id_.seq)
            counts += counts_of(kept) if noted is None else noted
        return [ReceivedSlots(*one[:4], one.slots) for one in counts if one.place[:1] == "D"]

    def last_indexes(self, meter: str) -> dict[str, Reading]:
        """By channel, the last index of a meter among the rows that wait and the newest batches,
        also those that are kept after their receipt.
        """
        rows = [row for block in self._pending.newer(0)[0] for row in block.rows]
        for id_, _ in self._outbox.with_rows_of(None)[-NEWEST:]:
            if (payload := self._outbox.payload(id_.epoch, id_.seq)) is not None:
                rows += read(payload)
        indexes = {}
        for row in sorted(rows, key=lambda row: row.t):
            index = row.series.kind == ValueKind.REG and row.value is not None
            if index and (row.series.meter or "").casefold() == meter.casefold():
                indexes[row.series.channel] = row
        return indexes

    def _under_way(self, number: int) -> list[Reading]:
        of_theirs = self._outbox.with_rows_of([number])
        ids = [id_ for id_, state in of_theirs if state in NOT_YET_RECEIVED]
        payloads = [self._outbox.payload(id_.epoch, id_.seq) for id_ in ids]
        return [row for payload in payloads if payload is not None for row in read(payload)]


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
            left = [row for row in block.rows if not covered(row, retractions, recipient)]
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
            entry for entry in self._outbox.with_rows_of(None) if entry[1] in NOT_YET_RECEIVED
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


def covered(row: Reading, retractions: Sequence[Retraction], recipient: str) -> bool:
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

"""The rows that wait to be sealed, as blocks in the order of their arrival.

A new block has rows of many dwellings, under the gateway's key. Within the hour (or when its rows
return from a batch) it is divided into blocks of one owner each, under the owners' keys.
"""

from __future__ import annotations

import json
import zlib
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import takewhile
from math import inf
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from agent.buffer.batch import Extent, check_series, extent, lane_slot, pack, unpack
from agent.buffer.database import Damaged
from agent.buffer.keys import NOBODY, SealBroken, SealedTable, owner_of
from agent.core.model import Lane, Series

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence

    from agent.buffer.database import Database
    from agent.buffer.keys import PersonKeys, Sealer, SpoolKeys
    from agent.buffer.schema import Meta
    from agent.core.model import Reading

T = TypeVar("T")
STEP = 1 << 20
"""difference between the numbers of two blocks: room for the blocks of one owner each that replace
them
"""
LONGEST_IN_MEMORY = 60
"""seconds that a reading may wait before it is committed: the longest `flush`"""
CHUNK = 256 * 1024
"""bytes that are rewritten in one of several commits"""
MOST_RECENT = 4096
"""blocks whose commit time is known"""


Broken = list[tuple[int, int]]
"""number and row count of each block that does not open"""
ROOM = 300
"""bytes that a series takes with its share of a page, in most cases"""


@dataclass(frozen=True, slots=True)
class RowBlock:
    """One opened block."""

    no: int
    owner: int
    rows: list[Reading]


@dataclass(frozen=True, slots=True)
class Choice:
    """The rows of one block that may be sealed now, with the others of the block."""

    block: RowBlock
    wanted: list[int]
    """indexes of the rows of the lane"""


class Commit(NamedTuple):
    """When a block was committed, and which of its rows were fresh then."""

    at: float
    """seconds since 1970 UTC"""
    fresh: bool
    """whether any of its rows was fresh"""
    oldest: int
    """the lowest slot of its rows, as `Extent.t0`"""
    oldest_other: float
    """the lowest slot of the rows that were not fresh; infinite: all were"""


class PendingRows:
    """Blocks of rows. Every change belongs inside the caller's transaction."""

    def __init__(
        self,
        database: Database,
        keys: SpoolKeys,
        series_ids: SeriesIds,
        person_keys: PersonKeys,
        meta: Meta,
    ) -> None:
        self._database = database
        self._sealer = keys.sealer("block")
        self._series_ids, self._person_keys = series_ids, person_keys
        self._meta = meta
        self.total: int = database.scalar("SELECT coalesce(sum(n), 0) FROM block")
        """number of rows; the caller restores it when its transaction fails"""
        last = database.scalar("SELECT max(no) FROM block") or 0
        self._again_to = int(meta.number("again_to") or 0)
        self._next = max(last, self._again_to) + STEP
        self._commits: dict[int, Commit] = {}
        """the latest commits of this process, by block; after a restart only slots decide the
        lane
        """

    @property
    def sealed(self) -> SealedTable:
        """The sealed bodies for a key rotation."""
        return SealedTable("block", ("no",), _name, lambda _, owner: self._under(owner), ("owner",))

    def restore(self, total: int) -> None:
        """Reload from the disk after a failed transaction."""
        self.total = total
        self._person_keys.reload()
        self._series_ids.reload()

    def body(self, rows: Sequence[Reading]) -> bytes:
        """The body of rows for `add`. Raises ValueError on a row that no batch could carry."""
        return pack(rows, self._series_ids.number_of)

    def add(self, rows: Sequence[Reading], body: bytes, at: float | None = None) -> None:
        """Append a block. `at`: when it is committed, seconds since 1970."""
        self._insert(self._next, extent(rows), body, NOBODY, mixed=True)
        if at is not None:
            self._commits[self._next] = commit_of(rows, at)
            if len(self._commits) > MOST_RECENT:
                # The oldest: its rows have most likely been sealed.
                del self._commits[next(iter(self._commits))]
        self._next += STEP

    def ends_with(self, rows: Sequence[Reading]) -> bool:
        """Whether the block with the highest number has these rows, whatever their versions."""
        last = self._database.scalar("SELECT max(no) FROM block")
        blocks, _ = self.opened([] if last is None else [last])
        kept = [_stored(row) for block in blocks for row in block.rows]
        return bool(rows) and kept == [_stored(row) for row in rows]

    def put_back(self, rows: Sequence[Reading]) -> None:
        """Put rows in front: they were sealed before all rows that wait."""
        first = self._database.scalar("SELECT min(no) FROM block")
        # Numbers may become negative: SQLite's keys are signed.
        no = self._next if first is None else first - STEP
        # If the spool was empty, the rows took the number of the next block.
        self._next = max(self._next, no + STEP)
        self._part(no, rows)

    @property
    def last(self) -> int:
        """The number of the last block that was added."""
        return self._next - STEP

    def part(self, up_to: int, most: int) -> tuple[int, Broken]:
        """Divide blocks by owner, up to number `up_to` and up to `most` rows (one block in any
        case).

        Return the number of rows, and the blocks that do not open.
        """
        blocks, broken = self.opened(self.joinable(self._unparted(up_to), most))
        if blocks:
            self._move(blocks)
        return sum(len(block.rows) for block in blocks), broken

    def joinable(self, blocks: Iterable[tuple[int, int]], most: int) -> list[int]:
        """The first of these blocks, by number and row count, that may become one block: up to
        `most` rows, and one block in any case.
        """
        numbers: list[int] = []
        rows = 0
        for no, n in blocks:
            if numbers and (rows + n > most or numbers[0] <= self._again_to < no):
                break  # rows up to `_again_to` are `again`: a joined block would mark others, too
            numbers.append(no)
            rows += n
        return numbers

    def join(self, owner: int, blocks: Sequence[RowBlock], rows: Sequence[Reading]) -> None:
        """Replace an owner's blocks by one block of these rows, at least one."""
        for block in blocks:
            self.drop(block.no, len(block.rows))
        self._insert(blocks[0].no, extent(rows), self.body(rows), owner)

    def mark_again(self) -> None:
        """Mark all rows that wait now as `again`, without rewriting their bodies."""
        # Rows that are sent again are not fresh.
        self._commits.clear()
        self._again_to = self._next - 1
        self._meta["again_to"] = self._again_to

    def counts(self, live_after: int) -> tuple[int, int]:
        """Number of live rows and of backfill rows. A block with both counts in full in each."""
        live, only_live = self._database.read(
            "SELECT coalesce(sum(n), 0), coalesce(sum(n) FILTER (WHERE t0 > ?1), 0)"
            " FROM block INDEXED BY block_lane WHERE t1 > ?1",
            live_after,
        )[0]
        for no, commit in self._recent(live_after):
            for t1, n in self._database.read("SELECT t1, n FROM block WHERE no=?", no):
                live += n if t1 <= live_after and commit.fresh else 0
                only_live += n if commit.oldest_other > live_after else 0
        return live, self.total - only_live

    def _recent(self, live_after: int) -> list[tuple[int, Commit]]:
        """Blocks with an older slot that were committed after that time, the last one first."""
        since = takewhile(lambda entry: entry[1].at > live_after, reversed(self._commits.items()))
        return [(no, commit) for no, commit in since if commit.oldest <= live_after]

    def choose(self, lane: Lane, live_after: int, most_rows: int) -> tuple[list[Choice], Broken]:
        """Blocks with rows of the lane, oldest first, until `most_rows` are reached.

        Also number and row count of each block that does not open.
        """
        choices, broken, count = [], [], 0
        recent = dict(self._recent(live_after))
        with closing(self._candidates(lane, live_after, recent)) as candidates:
            for no, owner, n, body in candidates:
                rows = self._open(no, owner, body)
                if rows is None:
                    broken.append((no, n))
                    continue
                at = recent[no].at if no in recent else None
                wanted = [i for i, row in enumerate(rows) if lane_of(row, live_after, at) is lane]
                choices.append(Choice(RowBlock(no, owner, rows), wanted))
                count += len(wanted)
                if count >= most_rows:
                    break
        return choices, broken

    def take(self, choices: Sequence[Choice], count: int) -> None:
        """Remove the first `count` chosen rows; other rows of their blocks keep their place."""
        for choice in choices:
            taken = set(choice.wanted[:count])
            count -= len(taken)
            if taken:
                rows = choice.block.rows
                self.keep(choice.block, [row for i, row in enumerate(rows) if i not in taken])

    def chunks_of(self, owner: int) -> list[list[int]]:
        """The numbers of an owner's blocks, in chunks that one commit can rewrite."""
        return self._chunks("SELECT no, length(body) FROM block WHERE owner=? ORDER BY no", owner)

    def mixed_chunks(self) -> list[list[int]]:
        """The numbers of blocks that are not divided by owner yet, as `chunks_of`."""
        return self._chunks("SELECT no, length(body) FROM block WHERE mixed>? ORDER BY no", 0)

    def older_chunks(self, before: int) -> list[list[int]]:
        """The numbers of blocks that may have a row of an earlier slot, as `chunks_of`."""
        # a run is noted by its last slot, so its first ones may be earlier than t0
        sql = "SELECT no, length(body) FROM block WHERE t0<? OR slots>n ORDER BY no"
        return self._chunks(sql, before)

    def _chunks(self, sql: str, value: int) -> list[list[int]]:
        return in_chunks(self._database.read(sql, value))

    def of(self, owner: int) -> tuple[list[RowBlock], Broken]:
        """All blocks of an owner. NOBODY: also those that are not divided yet."""
        return self._select("SELECT no FROM block INDEXED BY block_lane WHERE owner=?", owner)

    def mixed(self) -> tuple[list[RowBlock], Broken]:
        """All blocks that are not divided by owner yet."""
        return self._select("SELECT no FROM block INDEXED BY block_lane WHERE mixed>?", 0)

    def newer(self, since: int) -> tuple[list[RowBlock], Broken]:
        """All blocks with a row of that slot or a later one."""
        return self._select("SELECT no FROM block INDEXED BY block_lane WHERE t1>=?", since)

    def numbers_of(self, owner: int) -> int:
        """How many blocks an owner has."""
        count: int = self._database.scalar(
            "SELECT count(*) FROM block INDEXED BY block_lane WHERE owner=?", owner
        )
        return count

    def keep(self, block: RowBlock, left: Sequence[Reading]) -> None:
        """Keep only these rows of a block, in its place, under its owner's present key."""
        self.total += len(left) - len(block.rows)
        if not left:
            self._commits.pop(block.no, None)
            self._database.write("DELETE FROM block WHERE no=?", block.no)
            return
        if block.no in self._commits:
            self._commits[block.no] = commit_of(left, self._commits[block.no].at)
        self._database.write(
            "UPDATE block SET t0=?, t1=?, n=?, slots=?, body=? WHERE no=?",
            *extent(left),
            self._seal(block.no, block.owner, self.body(left)),
            block.no,
        )

    def drop(self, no: int, n: int) -> None:
        """Remove a whole block."""
        self._commits.pop(no, None)
        self._database.write("DELETE FROM block WHERE no=?", no)
        self.total -= n

    def _unparted(self, up_to: int) -> list[tuple[int, int]]:
        blocks = self._database.read(
            "SELECT no, n FROM block INDEXED BY block_lane WHERE mixed=1 AND no<=?", up_to
        )
        return sorted(blocks)

    def _move(self, blocks: Sequence[RowBlock]) -> None:
        """Replace these blocks by blocks of one owner each, with each series in its order."""
        for block in blocks:
            self.drop(block.no, len(block.rows))
        self._part(blocks[0].no, [row for block in blocks for row in block.rows])

    def _part(self, no: int, rows: Iterable[Reading]) -> None:
        groups: dict[str | None, list[Reading]] = {}
        for row in rows:
            groups.setdefault(owner_of(row.series), []).append(row)
        for i, group in enumerate(groups.values()):
            # sorted by series, the columns compress better
            group.sort(key=lambda row: self._series_ids.number_of[row.series])
            number = self._person_keys.number(group[0].series)
            # Between this number and the next there is room for STEP blocks.
            self._insert(no + i, extent(group), self.body(group), number)

    def _insert(
        self, no: int, over: Extent, body: bytes, owner: int, *, mixed: bool = False
    ) -> None:
        self._database.write(
            "INSERT INTO block(no, t0, t1, n, slots, body, owner, mixed) VALUES(?,?,?,?,?,?,?,?)",
            no,
            *over,
            self._seal(no, owner, body),
            owner,
            mixed,
        )
        self.total += over.n

    def _candidates(
        self, lane: Lane, live_after: int, recent: Mapping[int, Commit]
    ) -> Generator[tuple[int, int, int, bytes]]:
        if lane is Lane.BACKFILL:  # the oldest blocks come first in the table
            waiting = self._database.each(
                "SELECT no, owner, n, body FROM block NOT INDEXED WHERE t0 <= ? ORDER BY no",
                live_after,
            )
            with closing(waiting) as blocks:
                for block in blocks:
                    commit = recent.get(block[0])
                    # Skip a block whose old slots are all in fresh rows: these are live.
                    if commit is None or commit.oldest_other <= live_after:
                        yield block
            return
        # Few among many: without the index every call would scan a long backlog.
        live = self._database.read(
            "SELECT no FROM block INDEXED BY block_lane WHERE t1 > ?", live_after
        )
        yield from self._bodies({no for (no,) in live} | recent.keys())

    def _bodies(self, numbers: Iterable[int]) -> Generator[tuple[int, int, int, bytes]]:
        for no in sorted(numbers):
            yield from self._database.read("SELECT no, owner, n, body FROM block WHERE no=?", no)

    def _select(self, sql: str, value: int) -> tuple[list[RowBlock], Broken]:
        return self.opened([no for (no,) in self._database.read(sql, value)])

    def opened(self, numbers: Iterable[int]) -> tuple[list[RowBlock], Broken]:
        """Blocks by their numbers, in their order; and those that do not open."""
        blocks, broken = [], []
        for no, owner, n, body in self._bodies(numbers):
            if (rows := self._open(no, owner, body)) is None:
                broken.append((no, n))
            else:
                blocks.append(RowBlock(no, owner, rows))
        return blocks, broken

    def _open(self, no: int, owner: int, body: bytes) -> list[Reading] | None:
        try:
            text = self._under(owner).unseal(body, _name(no, owner))
            rows = unpack(text, self._series_ids.series_of)
        except (SealBroken, LookupError, ValueError, zlib.error):
            return None
        if no <= self._again_to:
            return [replace(row, again=True) for row in rows]
        return rows

    def _seal(self, no: int, owner: int, body: bytes) -> bytes:
        return self._under(owner).seal(body, _name(no, owner))

    def _under(self, owner: int) -> Sealer:
        return self._sealer if owner == NOBODY else self._person_keys.sealer(owner)


def in_chunks(sizes: Iterable[tuple[T, int]]) -> list[list[T]]:
    """Divide items of these sizes (bytes) into chunks of one commit each: one item, or several of
    at most `CHUNK` bytes in all.
    """
    chunks: list[list[T]] = []
    filled = CHUNK
    for item, size in sizes:
        if filled + size > CHUNK:
            chunks.append([])
            filled = 0
        chunks[-1].append(item)
        filled += size
    return chunks


def lane_of(row: Reading, live_after: int, committed: float | None) -> Lane:
    """The lane of a waiting row; `live_after` lies two seal intervals back.

    Live are the rows of slots since then, and fresh readings committed since then: these have only
    waited for their turn, however old their slot is. `committed`: None if the time of the commit is
    not known.
    """
    live = lane_slot(row) > live_after
    if committed is not None and committed > live_after:
        live |= is_fresh(row, committed)
    return Lane.LIVE if live else Lane.BACKFILL


def is_fresh(row: Reading, committed: float) -> bool:
    """Whether a row was made while its slot ran and committed soon after. A late version never
    is.
    """
    return row.ver is None and lane_slot(row) + row.series.step + LONGEST_IN_MEMORY >= committed


def commit_of(rows: Sequence[Reading], at: float) -> Commit:
    """What must be remembered of a block of these rows, at least one, committed at that time."""
    others = [lane_slot(row) for row in rows if not is_fresh(row, at)]
    oldest = min(lane_slot(row) for row in rows)
    return Commit(at, len(others) < len(rows), oldest, min(others, default=inf))


def _stored(row: Reading) -> tuple[object, ...]:
    """What a commit does not change of a row: it gives versions."""
    return row.series, row.t, row.span, row.value, row.quality, row.why


def _name(no: int, owner: int) -> str:
    return str(no) if owner == NOBODY else f"{owner} {no}"


class SeriesIds:
    """Series to number and back, in memory; sealed on the disk, because series show who lives
    where.
    """

    def __init__(self, database: Database, keys: SpoolKeys) -> None:
        """Load the series. Raises Damaged if one of them does not open: its rows could not be
        read.
        """
        self._database = database
        self._sealer = keys.sealer("series")
        self.series_of: dict[int, Series] = {}
        self.number_of: dict[Series, int] = {}
        self._bases: set[tuple[str, str, str | None]] = set()
        self.reload()

    @property
    def sealed(self) -> SealedTable:
        """The sealed bodies for a key rotation."""
        return SealedTable("series", ("number",), str, lambda _: self._sealer)

    def bases(self) -> int:
        """Number of dwellings with their bases, each of which may have to be retracted."""
        return len(self._bases)

    def unknown(self, wanted: Iterable[Series]) -> list[Series]:
        """The series without a number yet, once each. Raises ValueError on one that fits no
        message.
        """
        new = [series for series in set(wanted) if series not in self.number_of]
        for series in new:
            check_series(series)
        return new

    def write(self, new: list[Series]) -> None:
        """Store series under the next numbers, inside the caller's transaction."""
        self._database.write_all(
            "INSERT INTO series VALUES(?,?)",
            [(number, self._seal(number, series)) for number, series in self._numbered(new)],
        )

    def learn(self, new: list[Series]) -> None:
        """Use the numbers of `write`, once that is on the disk."""
        for number, series in self._numbered(new):
            self._learn(number, series)

    def clear(self) -> None:
        """Forget all series, in a commit, when no block uses them: they are about people."""
        with self._database.transaction():
            self._database.write("DELETE FROM series")
        for known in (self.series_of, self.number_of, self._bases):
            known.clear()

    def forget(self, numbers: Iterable[int]) -> None:
        """Forget series that no row uses any more, inside the caller's transaction."""
        for number in list(numbers):
            self._database.write("DELETE FROM series WHERE number=?", number)
            del self.number_of[self.series_of.pop(number)]
        self._bases = {_basis(series) for series in self.number_of if series.place[:1] == "D"}

    def reload(self) -> None:
        """Reload from the disk after a failed transaction."""
        for known in (self.series_of, self.number_of, self._bases):
            known.clear()
        for number, body in self._database.read("SELECT number, body FROM series"):
            self._learn(number, self._open(number, body))

    def _numbered(self, new: list[Series]) -> list[tuple[int, Series]]:
        # The same numbers in `write` and `learn`: nothing is numbered in between.
        return list(enumerate(new, max(self.series_of, default=0) + 1))

    def _learn(self, number: int, series: Series) -> None:
        self.series_of[number] = series
        self.number_of[series] = number
        if series.place[:1] == "D":
            self._bases.add(_basis(series))

    def _seal(self, number: int, series: Series) -> bytes:
        return self._sealer.seal(json.dumps(series).encode(), str(number))

    def _open(self, number: int, body: bytes) -> Series:
        try:
            return Series(*json.loads(self._sealer.unseal(body, str(number))))
        except SealBroken as error:
            raise Damaged(f"series {number} of the spool does not open") from error


def _basis(series: Series) -> tuple[str, str, str | None]:
    return series.place, series.basis, series.occupancy

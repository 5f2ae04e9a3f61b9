"""Commits within the cap and the disk; what makes room, and what is given up (rule M11)."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import replace
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from agent.buffer.database import HEADROOM, LOG_ROOM
from agent.core.errors import SpoolFull
from agent.core.model import Quality, Reading, ValueKind, Why

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Sequence
    from pathlib import Path

    from agent.buffer.database import Database
    from agent.buffer.outbox import Outbox
    from agent.buffer.pending import Broken, PendingRows, RowBlock
    from agent.buffer.schema import Meta
    from agent.core.model import Series

T = TypeVar("T")
RESERVE_SHARE = 16
"""rows may not fill this part of the file, nor the headroom: it holds 9 batches of 60,000 B"""
UNRECEIPTED = 9
"""batches that may be without a receipt (rule T14)"""
PACKED = 3
"""how many times its sealed size a packed batch may have"""
LEAST_BATCH = 60_000
"""bytes of a batch and its packed form for which the smallest file has room"""
BESIDE = 32 * 1024
"""bytes of pages that change beside a body, at most: index, marks, splits"""
LARGEST_BATCH = LOG_ROOM // (1 + PACKED) - BESIDE
"""bytes: sealing a batch takes one commit, and so does its void; a commit must fit the log"""
RETRACTION = 640
"""bytes closed to rows for each dwelling and basis: room for the retraction of its rows"""
AT_FIRST = 2 * 1024 * 1024
"""bytes that a spool takes on the disk at its first start"""
STEP = 1024 * 1024
"""least number of bytes by which the file grows; it grows by an eighth if that is more"""
MOST_STEPS = 100
"""commits that make room for one commit of new rows: a quarter of a minute on a desktop; only a
much smaller cap needs more
"""
AT_ONCE = (16, 1)
"""receipted batches removed in one commit; one where the log is too small for 16"""
AT_ONCE_THINNED = (20_000, 20_000, 1_000)
"""rows thinned in one commit: 0.1 to 0.2 s. Tried again after the log was rewound, and then with so
few rows that they change a few pages only
"""
ROW, BLOCK, EMPTY = 5, 2_000, 100_000
"""bytes of a row, of an owner's block a day, and of an empty spool. Measured when room is short:
2.4 B a row of plant every minute; 3.8 B with 50 dwellings every quarter of an hour beside it; 11 B
with 12 dwellings alone, whose blocks leave half a page empty each
"""
WANTED = 30
"""days that a spool should last (rule M19)"""
HOUR, DAY = 3_600, 86_400
REST = "rest"
"""the basis of sums over dwellings; rows of common plant never have it"""
BLOCKS = 3_000
"""blocks in one commit"""
DEARER = 5
"""where each step loses more, a commit takes only this fraction, to give up little more than
needed
"""
WORTH_PARTING = 2_000
"""rows of the last half hour that are divided by owner and thinned before older rows are given up
entirely
"""
LARGE = 1_000
"""rows of a block that would take no less room if joined with others"""
SMALL = 2_000
"""rows of a block without values to which more such rows are added"""
TABLES = (
    "CREATE TABLE IF NOT EXISTS thinned(no INTEGER PRIMARY KEY, tier INTEGER NOT NULL)",
    """CREATE TRIGGER IF NOT EXISTS thinned_goes AFTER DELETE ON block BEGIN
    DELETE FROM thinned WHERE no=old.no; END""",
)
"""how far blocks have been thinned; a block without an entry was not even joined"""
# By the covering index: the table itself has the bodies between the numbers, and there may be
# a hundred thousand of them.
OLDEST = """SELECT no, n, owner, t0 FROM block INDEXED BY block_lane LEFT JOIN thinned USING(no)
    WHERE mixed=0 AND coalesce(tier, -1)<?1 AND (?2 OR owner=0) ORDER BY no LIMIT ?3"""
REMAINS = """SELECT owner, max(no), n FROM thinned JOIN block USING(no)
    WHERE tier=? AND mixed=0 GROUP BY owner"""


class DiskSpace(NamedTuple):
    """The file system under a spool."""

    folder: Path
    reserve: int = 0
    """free bytes that readings may not use"""

    def spare(self) -> int:
        """Free bytes beyond the reserve."""
        return max(0, shutil.disk_usage(self.folder).free - self.reserve)


class SpoolCapacity:
    """The cap of one spool and its commits."""

    def __init__(
        self, database: Database, outbox: Outbox, pending: PendingRows, disk: DiskSpace, cap: int
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._pending = pending
        self._disk, self._cap = disk, cap
        self.retractions: Callable[[], int] = int
        """the number of dwellings and bases that may have to be retracted"""
        self.shed: Callable[[int], bool] = lambda _: False
        """gives up the least valuable values out of that many rows, inside a transaction; False:
        nothing is left to give up
        """
        self.disk_full = False
        """whether the last rows had only the room inside the file, though the cap allows more"""

    def for_a_batch(self) -> int:
        """Bytes that a batch may have, so that all unreceipted batches, their packed forms and
        their voids fit.
        """
        forms = 1 if self._outbox.packing is None else 1 + PACKED
        # The file may never reach its cap on a full disk, so plan with what the disk can give.
        there = min(self._cap, self._database.size() + self._disk.spare())
        most = max(LEAST_BATCH // forms, _reserve(there) // (UNRECEIPTED * (1 + PACKED)))
        return min(most, LARGEST_BATCH)

    def closed(self, size: int) -> int:
        """Bytes that rows may not fill, of a file of `size` bytes."""
        return _reserve(size) + RETRACTION * self.retractions()

    def open_to_rows(self) -> int:
        """Bytes that rows may still fill, with those by which the file may grow."""
        most = min(self._cap, self._database.size() + self._disk.spare())
        return most - self.closed(most) - self._database.used()

    def ensure(self, size: int) -> None:
        """Make room in the file for `size` bytes of new rows, or raise SpoolFull.

        The file grows first, within the cap and the disk's reserve. Then receipted batches are
        removed, the oldest first (rule T10). Then the least valuable waiting values are given up.
        Each step is a commit of its own.
        """
        need, self.disk_full = size + BESIDE, False
        for _ in range(MOST_STEPS):
            if self._fits(need):
                return
            if self._may_grow(need) and self._grow(need):
                continue
            if not self._forget_some() and not self._shed_some():
                raise SpoolFull("the spool is full, and nothing in it may be given up")
        raise SpoolFull("the spool is full: making room takes longer than one commit may")

    def _fits(self, need: int) -> bool:
        size = self._database.size()
        return self._database.used() + need <= size - self.closed(size)

    def _may_grow(self, need: int) -> bool:
        """Whether the cap and the disk let the file grow for rows."""
        used = self._database.used()
        if used + need > self._cap - self.closed(self._cap):
            return False
        lacking = used + need + self.closed(self._database.size()) - self._database.size()
        self.disk_full = lacking > self._disk.spare()
        return not self.disk_full

    def _grow(self, need: int) -> bool:
        """Let the file grow for rows, by more than they need now if the disk has room."""
        size = self._database.size()
        # In large steps, because each extension folds the log.
        least = self._database.used() + need + self.closed(size) - size
        step = max(least, STEP, size // 8)
        return self._database.grow(min(step, max(least, self._disk.spare())))

    def admit(self, change: Callable[[], None]) -> None:
        """Commit new rows after `ensure`. Raises SpoolFull as `once` does."""
        try:
            self.once(change)
        except SpoolFull:  # a rewound log may have room for it
            if not self._database.rewind():
                raise
            self.once(change)

    def once(self, change: Callable[[], T]) -> T:
        """Make one commit. Raises SpoolFull if it does not fit; then nothing is changed."""
        before = self._pending.total
        try:
            with self._database.transaction():
                return change()
        except BaseException:
            # SQLite rolled the rows back: the counters in memory must follow.
            self._pending.restore(before)
            raise

    def durably(self, change: Callable[[], T]) -> T:
        """Make one commit that must not fail for lack of room, because sealing and receipts make
        room.
        """
        # In the order of cost: rewinding the log loses nothing, shedding loses values.
        for relief in (self._database.rewind, self._grow_some, self._forget_some, self._shed_some):
            try:
                return self.once(change)
            except SpoolFull:
                relief()
        return self.once(change)

    def step(self, change: Callable[[], T]) -> T:
        """Make one of several commits that rely on which blocks wait: as `durably`, but no waiting
        value is given up for it. Raises SpoolFull.
        """
        for relief in (self._database.rewind, self._grow_some, self._forget_some):
            try:
                return self.once(change)
            except SpoolFull:
                relief()
        return self.once(change)

    def relieve(self) -> bool:
        """Give up the least valuable values in a commit. False: nothing is left to give up."""
        return self._shed_some()

    def in_pieces(self, change: Callable[[int], T], sizes: Iterable[int] = AT_ONCE) -> T:
        """Make one commit of the first of these sizes that fits the log. Raises SpoolFull."""
        for size in sizes:
            with suppress(SpoolFull):
                return self.once(partial(change, size))
            self._database.rewind()
        raise SpoolFull("the log under the spool is full")

    def _grow_some(self) -> bool:
        return self._database.grow(STEP)

    def _forget_some(self) -> bool:
        try:
            return self.in_pieces(self._outbox.forget_oldest) > 0
        except SpoolFull:
            return False

    def _shed_some(self) -> bool:
        try:
            return self.in_pieces(self.shed, AT_ONCE_THINNED)
        except SpoolFull:
            return False


def room_for_rows(cap: int) -> int:
    """Bytes that rows may fill in a file of at most `cap` bytes."""
    return cap - _reserve(cap)


def _reserve(size: int) -> int:
    return max(HEADROOM, size // RESERVE_SHARE)


class DailyLoad(NamedTuple):
    """What enters a spool in a day at most: as if all rows could leave."""

    rows: int
    owners: int
    """dwellings, and all common plant as one"""

    @property
    def a_day(self) -> int:
        """Bytes a day."""
        return self.rows * ROW + self.owners * BLOCK


def days(cap: int, load: DailyLoad, waiting: int = 0) -> float | None:
    """Days until a spool of `cap` bytes is full, with that many rows waiting; None: never."""
    if not load.rows:
        return None
    return max(0.0, room_for_rows(cap) - EMPTY - waiting * ROW) / load.a_day


def enough(load: DailyLoad, unit: int = 10_000_000) -> int:
    """Bytes, in whole units, for an outage of the wanted length."""
    least = load.a_day * WANTED + EMPTY
    cap = unit
    while room_for_rows(cap) < least:
        cap += unit
    return cap


if TYPE_CHECKING:
    Midnight = Callable[[int], int]
    """the building's last midnight at or before a time"""


class Tier(IntEnum):
    """How far rows have been thinned; the first tier keeps the most."""

    WHOLE = 0
    """rows are joined with their neighbours; nothing is lost"""
    HOURLY = 1
    """one value an hour of common areas and plant"""
    DAILY = 2
    """one value a day of common areas and plant"""
    INDEXES = 3
    """only the midnight indexes and changes of states of everything"""


def utc_midnight(t: int) -> int:
    """The last midnight in UTC."""
    return t - t % DAY


def common(series: Series) -> bool:
    """Whether a series belongs to common areas, plant or the building's own meter: class P0."""
    return series.place[:1] in {"C", "B"} and series.basis != REST


def given_up(row: Reading, tier: Tier, midnight: Midnight) -> bool:
    """Whether a row loses its value at a tier: it is not in the first slot of its hour or day.

    A midnight index is always kept, whoever's it is. So is a change of a state: there are few, and
    each holds until the next. So is an index at an exchange of meters (step 0).
    """
    if row.value is None or row.series.kind == ValueKind.EVT or not row.series.step:
        return False
    series, t = row.series, row.t
    if tier is Tier.HOURLY:
        return common(series) and t % HOUR >= series.step
    # The first slot of the day: a meter that is read every hour has no slot exactly at midnight of
    # a shifted zone.
    of_a_day = t - midnight(t) < series.step
    if tier is Tier.DAILY:
        return common(series) and not of_a_day
    return tier is Tier.INDEXES and not (series.kind == ValueKind.REG and of_a_day)


def thinned(rows: Iterable[Reading], tier: Tier, midnight: Midnight) -> list[Reading]:
    """The same slots with fewer values: M `shed` where a value was given up, and each run of M as
    one row.

    Every slot in `rows` occurs once in the result, with its version. Rows of one series stay in
    their order.
    """
    left: list[Reading] = []
    last: dict[tuple[Series, int | None], int] = {}
    for row in rows:
        kept = _shed(row) if given_up(row, tier, midnight) else row
        key = (row.series, row.ver)
        before = last.get(key)
        if before is not None and _goes_on(left[before], kept):
            left[before] = replace(left[before], span=left[before].span + kept.span)
        else:
            last[key] = len(left)
            left.append(kept)
    return left


def _shed(row: Reading) -> Reading:
    missing = Quality.MISSING
    return Reading(row.series, row.t, None, missing, why=Why.SHED, ver=row.ver, again=row.again)


def _goes_on(before: Reading, row: Reading) -> bool:
    """Whether a row continues the one before it in its series: no value, for the same reason."""
    return (
        before.value is None
        and row.value is None
        and before.t + before.span * row.series.step == row.t
        and (before.quality, before.why, before.again) == (row.quality, row.why, row.again)
        and (before.delay, before.flags) == (row.delay, row.flags)
    )


class Shedding:
    """Gives values up step by step. Each step belongs inside one transaction of the caller."""

    def __init__(
        self,
        database: Database,
        pending: PendingRows,
        meta: Meta,
        write_off: Callable[[Broken], None],
    ) -> None:
        self._database, self._pending, self._meta = database, pending, meta
        self._write_off = write_off
        self.midnight: Midnight = utc_midnight
        for table in TABLES:
            database.write(table)

    def step(self, rows: int) -> bool:
        """Give up the least valuable values, out of up to `rows` waiting rows (one block in any
        case). False: nothing is left that may be given up.

        One step may gain no room. While it returns True there may be more.
        """
        return (
            self._thin(Tier.WHOLE, rows)
            or self._thin(Tier.HOURLY, rows)
            or self._thin(Tier.DAILY, rows)
            or self._part(WORTH_PARTING, rows)
            or self._thin(Tier.INDEXES, rows)
            or self._part(1, rows)
        )

    def _part(self, least: int, most: int) -> bool:
        """Divide the latest blocks by owner if they have that many rows: only divided blocks can be
        thinned.
        """
        rows = self._database.scalar(
            "SELECT coalesce(sum(n), 0) FROM block INDEXED BY block_lane WHERE mixed=1"
        )
        if rows < least:
            return False
        parted, broken = self._pending.part(self._pending.last, most)
        self._write_off(broken)
        return bool(parted or broken)

    def _thin(self, tier: Tier, at_once: int) -> bool:
        """Thin the oldest blocks that have not been thinned to this tier."""
        everybody = tier in {Tier.WHOLE, Tier.INDEXES}
        candidates = self._database.read(OLDEST, tier, everybody, BLOCKS)
        large = {no for no, n, *_ in candidates if tier is Tier.WHOLE and n >= LARGE}
        # Small steps where values are lost, so that no more is given up than needed.
        most = at_once // (DEARER if tier > Tier.HOURLY else 1)
        rows = [(no, 0 if no in large else n) for no, n, *_ in candidates]
        window = set(self._pending.joinable(rows, most))
        # At the last tier a block may be left with runs of M only: these are collected in one
        # block.
        remains = self._remains(tier) if tier is Tier.INDEXES else {}
        blocks = [(no, owner, t0) for no, _, owner, t0 in candidates if no in window]
        for owner, numbers in _runs(blocks, large, days=tier is not Tier.INDEXES):
            self._thin_of(owner, remains.pop(owner, ()), numbers, tier)
        # Marked without being rewritten, or the next step would choose them again.
        self._mark(large & window, tier)
        return bool(window)

    def _remains(self, tier: Tier) -> dict[int, tuple[int, ...]]:
        """The last block without values of each owner, if it is small."""
        rows = self._database.read(REMAINS, tier)
        return {owner: (no,) for owner, no, n in rows if n <= SMALL}

    def _thin_of(
        self, owner: int, before: Sequence[int], numbers: Sequence[int], tier: Tier
    ) -> None:
        joined: Sequence[int] = [*(no for no in before if no < numbers[0]), *numbers]
        if len(self._pending.joinable([(no, 0) for no in joined], 0)) < len(joined):
            joined = numbers
        blocks, broken = self._pending.opened(joined)
        self._write_off(broken)
        if blocks:
            self._rewrite(owner, blocks, tier)

    def _rewrite(self, owner: int, blocks: Sequence[RowBlock], tier: Tier) -> None:
        """Replace these blocks by one block of their remaining rows."""
        rows = [row for block in blocks for row in block.rows]
        lost = sum(given_up(row, tier, self.midnight) for row in rows)
        numbers = [block.no for block in blocks]
        if lost or len(blocks) > 1:
            self._pending.join(owner, blocks, thinned(rows, tier, self.midnight))
            numbers = numbers[:1]
        self._mark(numbers, tier)
        if lost:
            self._meta.add("shed", lost)

    def _mark(self, numbers: Iterable[int], tier: Tier) -> None:
        self._database.write_all(
            "INSERT OR REPLACE INTO thinned VALUES(?,?)", [(no, tier) for no in numbers]
        )


def _runs(
    blocks: Iterable[tuple[int, int, int]], large: Container[int], *, days: bool
) -> Iterator[tuple[int, Sequence[int]]]:
    """Owner and numbers of the blocks to join: blocks of one owner, given by number, owner and
    first slot. With `days` they are of one day each, so that the oldest can still be told apart. A
    run never spans a large block, which stays as it is.
    """
    runs: dict[int, tuple[int, list[int]]] = {}
    for no, owner, t0 in blocks:
        day, numbers = runs.get(owner, (0, []))
        if numbers and (no in large or (days and t0 // DAY != day)):
            yield owner, numbers
            numbers = []
        runs[owner] = (t0 // DAY, numbers if no in large else [*numbers, no])
    for owner, (_, numbers) in runs.items():
        if numbers:
            yield owner, numbers

"""Commits within the cap and the disk. When there is no room, receipted batches are removed first,
then the least valuable values. A part of the file is closed to rows, so that sealing, receipts and
withdrawals always have room (rule B7, docs/decisions/003).
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from agent.buffer.database import HEADROOM, LOG_ROOM
from agent.core.errors import SpoolFull

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from agent.buffer.database import Database
    from agent.buffer.outbox import Outbox
    from agent.buffer.pending import PendingRows

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

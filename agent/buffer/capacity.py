"""Commits within the cap and the disk, and what gives way when there is no room: receipted batches
first, then the values that are worth least. A part of the file is closed to rows, so that sealing,
settling and withdrawals always have theirs (rule B7, docs/decisions/003).
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from agent.buffer.database import HEADROOM, LOG_ROOM
from agent.errors import SpoolFull

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from agent.buffer.database import Database
    from agent.buffer.outbox import Outbox
    from agent.buffer.pending import PendingRows

T = TypeVar("T")
RESERVE_SHARE = 16
"""rows may not fill this part of the file, nor the headroom: 9 batches of 60,000 B fit there"""
UNRECEIPTED = 9
"""batches that may stand without a receipt (rule T14)"""
PACKED = 3
"""times as large as it was sealed may a batch be once packed"""
LEAST_BATCH = 60_000
"""bytes of a batch and what is packed of it, that may be had in the smallest file"""
BESIDE = 32 * 1024
"""bytes of pages that change beside a body, at most: index, marks, splits"""
LARGEST_BATCH = LOG_ROOM // (1 + PACKED) - BESIDE
"""bytes: sealing a batch and making a void of it are a commit each, and none is larger than the log
"""
RETRACTION = 640
"""bytes closed to rows for each dwelling and basis: what tells the recipient to erase its rows"""
AT_FIRST = 2 * 1024 * 1024
"""bytes of the disk that a spool has from its first start on"""
STEP = 1024 * 1024
"""bytes by which it grows at least, and an eighth of what it has"""
MOST_STEPS = 100
"""commits that make room for one of new rows: a quarter of a minute on a desktop; only a cap made
much smaller needs more
"""
AT_ONCE = (16, 1)
"""receipted batches given up in one commit; where the log is too small for so many, one"""
AT_ONCE_THINNED = (20_000, 20_000, 1_000)
"""rows that are thinned in one commit: a tenth of a second or two. Tried once more in a log that
begins anew, then a few pages of it
"""


class DiskSpace(NamedTuple):
    """The file system under a spool."""

    folder: Path
    reserve: int = 0
    """bytes of it that are not for readings"""

    def spare(self) -> int:
        """Bytes that it has beyond the reserve."""
        return max(0, shutil.disk_usage(self.folder).free - self.reserve)


class SpoolCapacity:
    """The cap of one spool and its way to commit."""

    def __init__(
        self, database: Database, outbox: Outbox, pending: PendingRows, disk: DiskSpace, cap: int
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._pending = pending
        self._disk, self._cap = disk, cap
        self.retractions: Callable[[], int] = int
        """how many dwellings and bases may have to be taken back"""
        self.shed: Callable[[int], bool] = lambda _: False
        """gives up what is worth least of so many rows, inside a transaction; False: nothing is
        left to give up
        """
        self.disk_full = False
        """rows found no room but inside the file, though the cap would allow more"""

    def for_a_batch(self) -> int:
        """Bytes that a batch may have, so that all unreceipted ones, their packed forms and their
        voids fit.
        """
        forms = 1 if self._outbox.packing is None else 1 + PACKED
        there = min(self._cap, self._database.size() + self._disk.spare())
        most = max(LEAST_BATCH // forms, _reserve(there) // (UNRECEIPTED * (1 + PACKED)))
        return min(most, LARGEST_BATCH)

    def closed(self, size: int) -> int:
        """Bytes of a file of `size` bytes that rows may not fill."""
        return _reserve(size) + RETRACTION * self.retractions()

    def ensure(self, size: int) -> None:
        """Raise SpoolFull unless so many bytes of new rows fit, in what the file has on the disk.

        It grows for them below the cap and the disk's reserve. Then receipted batches go, the
        oldest before the others (rule T10), then what is worth least of all that waits,
        each time in a commit of its own.
        """
        need, self.disk_full = size + BESIDE, False
        for _ in range(MOST_STEPS):
            if self._fits(need):
                return
            if self._may_grow(need) and self._grow(need):
                continue
            if not self._forget_some() and not self._shed_some():
                raise SpoolFull("the spool is full of what may not be given up")
        raise SpoolFull("room is being made, but not for this yet")

    def _fits(self, need: int) -> bool:
        size = self._database.size()
        return self._database.used() + need <= size - self.closed(size)

    def _may_grow(self, need: int) -> bool:
        """Whether the cap and the disk allow the file to grow for rows."""
        used = self._database.used()
        if used + need > self._cap - self.closed(self._cap):
            return False
        lacking = used + need + self.closed(self._database.size()) - self._database.size()
        self.disk_full = lacking > self._disk.spare()
        return not self.disk_full

    def _grow(self, need: int) -> bool:
        """Let the file grow for rows, further than they need now, if the disk has it to spare."""
        size = self._database.size()
        least = self._database.used() + need + self.closed(size) - size
        step = max(least, STEP, size // 8)
        return self._database.grow(min(step, max(least, self._disk.spare())))

    def admit(self, change: Callable[[], None]) -> None:
        """One commit of new rows that `ensure` has found room for. Raises SpoolFull as `once`."""
        try:
            self.once(change)
        except SpoolFull:  # the log may begin anew in the room that it has
            if not self._database.rewind():
                raise
            self.once(change)

    def once(self, change: Callable[[], T]) -> T:
        """One commit. Raises SpoolFull if it does not fit; nothing is changed then."""
        before = self._pending.total
        try:
            with self._database.transaction():
                return change()
        except BaseException:
            self._pending.restore(before)
            raise

    def durably(self, change: Callable[[], T]) -> T:
        """One commit that must not fail for want of room: what seals and settles makes room."""
        for relief in (self._database.rewind, self._grow_some, self._forget_some, self._shed_some):
            try:
                return self.once(change)
            except SpoolFull:
                relief()
        return self.once(change)

    def step(self, change: Callable[[], T]) -> T:
        """One commit of several, whose others know which blocks wait: as `durably`, but nothing
        that waits is given up for it. Raises SpoolFull.
        """
        for relief in (self._database.rewind, self._grow_some, self._forget_some):
            try:
                return self.once(change)
            except SpoolFull:
                relief()
        return self.once(change)

    def relieve(self) -> bool:
        """Give up what is worth least, in a commit; False: nothing is left to give up."""
        return self._shed_some()

    def in_pieces(self, change: Callable[[int], T], sizes: Iterable[int] = AT_ONCE) -> T:
        """One commit of the first of these sizes that fits the log. Raises SpoolFull."""
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
    """How many bytes of a file of at most `cap` bytes rows may fill."""
    return cap - _reserve(cap)


def _reserve(size: int) -> int:
    return max(HEADROOM, size // RESERVE_SHARE)

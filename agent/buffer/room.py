"""Commits within the cap, and what gives way when there is no room: receipted batches first, then
the values that are worth least; for what seals and settles, the ballast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from agent.buffer.database import HEADROOM
from agent.errors import SpoolFull

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.buffer.ballast import Ballast
    from agent.buffer.database import Database
    from agent.buffer.outbox import Outbox
    from agent.buffer.waiting import Waiting

T = TypeVar("T")
RESERVE_SHARE = 16
"""rows may not fill this part of the cap, nor the headroom: 9 batches of 60,000 B fit there"""
UNRECEIPTED = 9
"""batches that may stand without a receipt (delivery rule 2)"""
PACKED = 3
"""times as large as it was sealed may a batch be once packed"""
LEAST_BATCH = 60_000
"""bytes"""
MOST_STEPS = 100
"""commits that make room for one of new rows: a quarter of a minute on a desktop; only a cap made
much smaller needs more
"""
BESIDE = 32 * 1024
"""bytes of pages that change beside a body, at most: index, marks, splits"""
AT_ONCE = 16
"""receipted batches given up in one commit"""
MUCH, LITTLE = 20_000, 1_000
"""rows that are thinned in one commit: a tenth of a second or two; a few pages of the log"""


class Room:
    """The cap of one spool and its way to commit."""

    def __init__(
        self, database: Database, outbox: Outbox, waiting: Waiting, ballast: Ballast, cap: int
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._waiting = waiting
        self._ballast = ballast
        reserve = _reserve(cap)
        self._for_rows = cap - reserve
        self.for_a_batch = max(LEAST_BATCH, reserve // (UNRECEIPTED * (1 + PACKED)))
        """bytes that a batch may have, so that all unreceipted ones and their packed forms fit"""
        self.shed: Callable[[int], bool] = lambda _: False
        """gives up what is worth least of so many rows, inside a transaction; False: nothing is
        left to give up
        """

    def ensure(self, size: int) -> None:
        """Raise SpoolFull unless so many bytes of new rows fit: below our own reserve and, where
        the file must grow for them, above the disk's.

        Receipted batches go first, the oldest before the others (delivery rule 10), then what is
        worth least of all that waits, each time in a commit of its own.
        """
        if not self._ballast.stand():
            raise SpoolFull("the disk under the spool is full")
        need = size + BESIDE
        most = min(self._for_rows, self._database.size() + self._ballast.spare())
        for _ in range(MOST_STEPS):
            if self._database.used() + need <= most:
                return
            if not self._forget_some() and not self._shed_some():
                raise SpoolFull("the spool is full of what may not be given up")
        raise SpoolFull("room is being made, but not for this yet")

    def admit(self, change: Callable[[], None]) -> None:
        """One commit of new rows that `ensure` has found room for. Raises SpoolFull as `once`."""
        try:
            self.once(change)
        except SpoolFull:  # the disk is full, but the log may begin anew in the room that it has
            if not self._database.rewind():
                raise
            self.once(change)

    def once(self, change: Callable[[], T]) -> T:
        """One commit. Raises SpoolFull if it does not fit; nothing is changed then."""
        before = self._waiting.total
        try:
            with self._database.transaction():
                return change()
        except BaseException:
            self._waiting.restore(before)
            raise

    def durably(self, change: Callable[[], T]) -> T:
        """One commit that must not fail for want of room: what seals and settles makes room."""
        for relief in (self._forget_some, self._ballast.drop):
            try:
                return self.once(change)
            except SpoolFull:
                relief()
        return self.once(change)

    def _forget_some(self) -> bool:
        try:
            return self.once(lambda: self._outbox.forget_oldest(AT_ONCE)) > 0
        except SpoolFull:  # on a full disk not even this can be written
            return False

    def _shed_some(self) -> bool:
        """On a full disk the log cannot grow: then little by little, in the room it has."""
        for rows in (MUCH, LITTLE):
            try:
                return self.once(lambda: self.shed(rows))  # noqa: B023 -- called at once
            except SpoolFull:
                if not self._database.rewind():
                    return False
        return False


def room_for_rows(cap: int) -> int:
    """How many bytes of a file of at most `cap` bytes rows may fill."""
    return cap - _reserve(cap)


def _reserve(cap: int) -> int:
    return max(HEADROOM, cap // RESERVE_SHARE)

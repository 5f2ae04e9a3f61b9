"""Commits within the cap, and what gives way when there is no room: receipted batches, ballast."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from agent.buffer.database import HEADROOM, PAGE
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
BESIDE = 8
"""pages that change beside a body, at most: index, marks, splits"""
AT_ONCE = 16
"""receipted batches given up in one commit"""


class Room:
    """The cap of one spool and its way to commit."""

    def __init__(
        self, database: Database, outbox: Outbox, waiting: Waiting, ballast: Ballast, cap: int
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._waiting = waiting
        self._ballast = ballast
        pages = cap // PAGE
        self._for_rows = pages - max(HEADROOM, pages // RESERVE_SHARE)

    def ensure(self, size: int) -> None:
        """Raise SpoolFull unless so many bytes of new rows fit below the reserve.

        Receipted batches go first, the oldest before the others (delivery rule 10).
        """
        if not self._ballast.stand():
            raise SpoolFull("the disk under the spool is full")
        need = size // PAGE + BESIDE
        while self._database.pages() + need > self._for_rows:
            if not self._forget_some():
                raise SpoolFull("the spool is full of what nobody has receipted yet")

    def once(self, change: Callable[[], T]) -> T:
        """One commit. Raises SpoolFull if it does not fit; nothing is changed then."""
        before = self._waiting.total
        try:
            with self._database.transaction():
                return change()
        except BaseException:
            self._waiting.total = before
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

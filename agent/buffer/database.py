"""One SQLite file that keeps what it was given through kill -9, power cut and a full disk.

WAL with synchronous=FULL: a commit that returned is on the disk (design note 003 has the
measurements). The file is locked for as long as it is open: a second owner is refused.

The file and its log have their room on the disk beforehand, so that no commit within that room
needs any of the disk's: the file grows only in `grow`, the log is never truncated (note 003).
"""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from agent.atomic_write import Log, allocate, sync_folder
from agent.errors import Refused, SpoolFull, StorageFailed
from agent.storage import reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from pathlib import Path

Result = TypeVar("Result")
PAGE = 1024
"""bytes of a page in a new file: a commit changes a few bytes in several and writes them whole,
45 % less to the card than with 4096 (note 003); a file that is there keeps its own
"""
LOG = 1024 * 1024
"""bytes: where the log is folded into the file and begun anew"""
LOG_ROOM = LOG + LOG // 2
"""bytes that the log has on the disk: no commit may be larger, and one of a third of it never
needs the log folded first
"""
HEADROOM = 640 * 1024
"""bytes: what sealing and settling may need beyond the rows they begin with"""
BESIDE_ROOM = 4
"""pages that a table of one row needs beside its body"""
PER_PAGE = 4
"""bytes of each page of a long body that are not body"""
PRAGMAS = (
    "locking_mode=EXCLUSIVE",
    f"page_size={PAGE}",
    "auto_vacuum=NONE",  # freed pages are used again; shrinking would only wear the flash
    "journal_mode=WAL",
    "synchronous=FULL",
    "secure_delete=ON",  # what was purged is in no freed page; 9 % more to write (note 023)
    "temp_store=MEMORY",
    "cache_size=-1024",
)
DAMAGE = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_IOERR_READ,
    sqlite3.SQLITE_IOERR_SHORT_READ,
}
_thread_local = threading.local()


def at_each_answer(call: Callable[[], None]) -> None:
    """Have a call made whenever the disk has answered a database of this thread."""
    _thread_local.call = call


def _report_answer() -> None:
    call: Callable[[], None] | None = getattr(_thread_local, "call", None)
    if call is not None:
        call()


class Damaged(Exception):
    """The file cannot be trusted any more: close it; the next opening sets it aside."""


class Database:
    """The open file. Used from the thread that opened it."""

    def __init__(self, path: Path, max_bytes: int, room: int = 0, step: int = 0) -> None:
        """`room`: bytes that the file has on the disk from here on, if the disk has them; `step`:
        bytes by which it grows before a transaction that finds less than half of that free in it.
        0: its owner lets it grow.

        Raises Damaged, Refused if somebody else has it open or it may not be opened, or
        StorageFailed, as every call does.
        """
        self._folder = path.parent
        self._suspect, self._step = suspicion(path), step
        self._log = Log(path)
        self._connection, self._handle = _connect(path)
        try:
            with self._translating_errors():
                for pragma in PRAGMAS:
                    self._connection.execute(f"PRAGMA {pragma}").fetchall()
                self._page = int(self.scalar("PRAGMA page_size"))
                # a cap made smaller than the file must leave room to drain it
                self._most = max(max_bytes, self.used() + HEADROOM) // self._page
                self.read(f"PRAGMA wal_autocheckpoint={LOG // self._page}")
            self._log.keep(LOG_ROOM)
            self.fold()  # what was purged just before a kill may still be in the log
            self._bound()
            with suppress(SpoolFull), self._transaction():  # a kill while the file grew
                self.write("DROP TABLE IF EXISTS room")
            self.grow(room - self.size())
        except BaseException:
            with suppress(sqlite3.Error, OSError):
                self.close()
            raise

    def close(self) -> None:
        """Fold the log into the file and unlock it."""
        try:
            self._connection.close()
            self._log.rest()
        finally:
            os.close(self._handle)  # the last: closing any handle of a file unlocks it

    def read(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of an answer. Raises Damaged."""
        with self._translating_errors():
            return self._connection.execute(sql, values).fetchall()

    def scalar(self, sql: str, *values: Any) -> Any:
        """The one value of an answer; None if there is none. Raises Damaged."""
        rows = self.read(sql, *values)
        return rows[0][0] if rows else None

    def each(self, sql: str, *values: Any) -> Generator[tuple[Any, ...]]:
        """Rows as they are asked for; close the iterator before anything is written."""
        with self._translating_errors():
            cursor = self._connection.execute(sql, values)
            try:
                yield from cursor
            finally:
                cursor.close()

    def write(self, sql: str, *values: Any) -> int:
        """Change rows inside a transaction; how many were changed."""
        with self._translating_errors():
            return self._connection.execute(sql, values).rowcount

    def write_all(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """The same change for many rows, inside a transaction."""
        with self._translating_errors():
            self._connection.executemany(sql, rows)

    def by(self, call: Callable[[sqlite3.Connection], Result]) -> Result:
        """What somebody else does on this connection, in the transaction that is open."""
        with self._translating_errors():
            return call(self._connection)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """On the disk, whole, when it ends; not at all when it raises.

        Raises SpoolFull at the cap and when the file system has no room, StorageFailed, Damaged.
        """
        if self._step and self._free() * self._page < self._step // 2:
            self.grow(self._step)
        with self._transaction():
            yield

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            with self._translating_errors():
                self._connection.execute("BEGIN IMMEDIATE")
            yield
            with self._translating_errors():
                self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # SQLITE_FULL has rolled back by itself
                with suppress(sqlite3.Error):  # of a disk that failed in between
                    self._connection.execute("ROLLBACK")
            raise

    def used(self) -> int:
        """Bytes in use: of the file, without the pages freed."""
        return self.size() - self._free() * self._page

    def size(self) -> int:
        """Bytes of the file, pages freed among them."""
        return self._pages() * self._page

    def grow(self, size: int) -> bool:
        """Give the file so many more bytes of the disk, outside of any transaction.

        False if the cap or the disk does not allow it. What is committed from here on needs none of
        the disk's room: SQLite would find that there is none only when it folds the log, and the
        log could not be begun anew then.
        """
        before = self._pages()
        most = min(self._most, before - (-size // self._page))
        if most <= before + BESIDE_ROOM:
            return False
        try:
            # nothing of a reading is in these pages
            self._pragmas(f"max_page_count={most}", "secure_delete=OFF")
            with suppress(SpoolFull):
                while self._take_pages(most):
                    pass
            return self._pages() > before
        finally:
            with suppress(SpoolFull), self._transaction():
                self.write("DROP TABLE IF EXISTS room")
            self._pragmas("secure_delete=ON")
            self.rewind()
            self._bound()

    def _take_pages(self, most: int) -> bool:
        """Take the next pages up to so many, and those that are free before them, for a table that
        is dropped afterwards: SQLite has no other way to make a file longer than it needs to be.
        """
        left = most - self._pages() + self._free() - BESIDE_ROOM
        # folding cuts off what the file was given and does not use yet
        if left <= 0 or not self.rewind() or not allocate(self._handle, most * self._page):
            return False
        with self._transaction():
            self.write("CREATE TABLE IF NOT EXISTS room(body BLOB NOT NULL)")
            pages = min(left, LOG // 2 // self._page)
            self.write("INSERT INTO room VALUES(zeroblob(?))", pages * (self._page - PER_PAGE))
        return True

    def _free(self) -> int:
        """Pages of the file that nothing is in."""
        return int(self.scalar("PRAGMA freelist_count"))

    def _pages(self) -> int:
        return int(self.scalar("PRAGMA page_count"))

    def fold(self) -> None:
        """Fold the log into the file, and overwrite what it said, outside of any transaction.

        Raises SpoolFull where the file would have to grow for it and cannot.
        """
        if self._folded():
            try:
                self._log.wipe()
            except OSError as error:
                why = reason_of(error, self._folder)
                raise StorageFailed(why or str(error)) from error

    def rewind(self) -> bool:
        """Fold the log into the file and write it from its beginning again, in the room it has.

        False if the file would have to grow for it and cannot.
        """
        try:
            return self._folded()
        except SpoolFull:
            return False

    def _folded(self) -> bool:
        busy, frames, done = self.read("PRAGMA wal_checkpoint(RESTART)")[0]
        return not busy and frames == done

    def _bound(self) -> None:
        """The file grows no further by itself."""
        self._pragmas(f"max_page_count={max(1, self._pages())}")

    def _pragmas(self, *pragmas: str) -> None:
        for pragma in pragmas:
            self.read(f"PRAGMA {pragma}")

    @contextmanager
    def _translating_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if (reaction := self._reaction(error)) is None:
                raise
            raise reaction from error
        finally:
            _report_answer()

    def _reaction(self, error: sqlite3.Error) -> Exception | None:
        # what Python itself objects to (a wrong thread, say) has no code
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        if code in DAMAGE or code & 0xFF in DAMAGE:
            with suppress(OSError):
                self._suspect.touch()
            return Damaged(str(error))
        if code == sqlite3.SQLITE_FULL:
            return SpoolFull("the spool or the disk under it is full")
        if code & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return Refused(f"the spool is in use by another process ({error}); stop that one first")
        why = reason_of(error, self._folder)
        return StorageFailed(why) if why else None


def _connect(path: Path) -> tuple[sqlite3.Connection, int]:
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            return sqlite3.connect(path, timeout=1, isolation_level=None), handle
        except BaseException:
            os.close(handle)
            raise
    except (OSError, sqlite3.OperationalError) as error:
        if why := reason_of(error, path.parent):
            raise StorageFailed(why) from error
        raise Refused(f"the spool {path} cannot be opened: {error}") from error


def suspicion(path: Path) -> Path:
    """The file that says, to the next start, that this one found the spool damaged."""
    return path.with_name(f"{path.name}.suspect")


def set_aside(path: Path) -> Path:
    """Make room for a new file under this name; the old one stays, for people, as `.damaged`.

    One is kept, so that a disk that rots does not also fill up. Raises StorageFailed.
    """
    damaged = path.with_name(f"{path.name}.damaged")
    try:
        for suffix in ("-wal", ""):
            old, new = path.with_name(path.name + suffix), damaged.with_name(damaged.name + suffix)
            new.unlink(missing_ok=True)
            if old.exists():
                old.rename(new)
        Log(path).forget()  # it is the other file's
        suspicion(path).unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise StorageFailed(f"{path} is damaged and cannot be set aside: {error}") from error
    return damaged

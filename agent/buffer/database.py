"""One SQLite file that keeps what it was given through kill -9 and power cut, within a cap.

WAL with synchronous=FULL: a commit that returned is on the disk (design note 003 has the
measurements). The file is locked for as long as it is open: a second owner is refused.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

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
HEADROOM = 640 * 1024
"""bytes: what sealing and settling may need beyond the rows they begin with"""
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


class Damaged(Exception):
    """The file cannot be trusted any more. Let it end the process: the next start sets it aside."""


class Database:
    """The open file. Used from the thread that opened it."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        """Raises Damaged, Refused if somebody else has it open or it may not be opened, or
        StorageFailed, as every call does.
        """
        self._folder = path.parent
        self.log = path.with_name(f"{path.name}-wal")
        self._suspect = suspicion(path)
        self._connection = _connect(path)
        try:
            with self._words():
                for pragma in PRAGMAS:
                    self._connection.execute(f"PRAGMA {pragma}").fetchall()
                self._page = int(self.one("PRAGMA page_size"))
                # a cap made smaller than the file must leave room to drain it
                most = max(max_bytes, self.size() + HEADROOM) // self._page
                self._connection.execute(f"PRAGMA max_page_count={most}")
                self.read(f"PRAGMA wal_autocheckpoint={LOG // self._page}")
            self.fold()  # what was purged just before a kill may still be in the log
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Fold the log into the file and unlock it."""
        self._connection.close()

    def read(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of an answer. Raises Damaged."""
        with self._words():
            return self._connection.execute(sql, values).fetchall()

    def one(self, sql: str, *values: Any) -> Any:
        """The one value of an answer; None if there is none. Raises Damaged."""
        rows = self.read(sql, *values)
        return rows[0][0] if rows else None

    def each(self, sql: str, *values: Any) -> Generator[tuple[Any, ...]]:
        """Rows as they are asked for; close the iterator before anything is written."""
        with self._words():
            cursor = self._connection.execute(sql, values)
            try:
                yield from cursor
            finally:
                cursor.close()

    def write(self, sql: str, *values: Any) -> int:
        """Change rows inside a transaction; how many were changed."""
        with self._words():
            return self._connection.execute(sql, values).rowcount

    def write_all(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """The same change for many rows, inside a transaction."""
        with self._words():
            self._connection.executemany(sql, rows)

    def by(self, call: Callable[[sqlite3.Connection], Result]) -> Result:
        """What somebody else does on this connection, in the transaction that is open."""
        with self._words():
            return call(self._connection)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """On the disk, whole, when it ends; not at all when it raises.

        Raises SpoolFull at the cap and when the file system has no room, Damaged.
        """
        try:
            with self._words():
                self._connection.execute("BEGIN IMMEDIATE")
            yield
            with self._words():
                self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # SQLITE_FULL has rolled back by itself
                with suppress(sqlite3.Error):  # of a disk that failed in between
                    self._connection.execute("ROLLBACK")
            raise

    def used(self) -> int:
        """Bytes in use: of the file, without the pages freed."""
        return self.size() - int(self.one("PRAGMA freelist_count")) * self._page

    def size(self) -> int:
        """Bytes of the file, pages freed among them."""
        return int(self.one("PRAGMA page_count")) * self._page

    def spare(self, wanted: int) -> None:
        """Let the file have so many bytes of free pages: rows need no room of the disk then.

        Raises SpoolFull where it cannot grow, StorageFailed.
        """
        lacking = wanted - int(self.one("PRAGMA freelist_count")) * self._page
        if lacking <= 0:
            return
        with self.transaction():
            self.write("CREATE TABLE filler(room BLOB)")
            self.write("INSERT INTO filler VALUES(zeroblob(?))", lacking)
        with self.transaction():
            self.write("DROP TABLE filler")
        self.rewind()

    def fold(self) -> None:
        """Fold the log into the file and empty it, outside of any transaction."""
        self.read("PRAGMA wal_checkpoint(TRUNCATE)")

    def rewind(self) -> bool:
        """Fold the log into the file and write it from its beginning again, in the room it has.

        False if the file would have to grow for it and cannot.
        """
        try:
            self.read("PRAGMA wal_checkpoint(RESTART)")
        except SpoolFull:
            return False
        return True

    @contextmanager
    def _words(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if (reaction := self._reaction(error)) is None:
                raise
            raise reaction from error

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


def _connect(path: Path) -> sqlite3.Connection:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        return sqlite3.connect(path, timeout=1, isolation_level=None)
    except (OSError, sqlite3.OperationalError) as error:
        if why := reason_of(error, path.parent):
            raise StorageFailed(why) from error
        raise Refused(f"the spool {path} cannot be opened: {error}") from error


def preallocate(log: Path, size: int) -> None:
    """Give a log the room of the disk that it needs later; a disk without it is left as it is.

    SQLite reads a log as far as its checksums hold: what lies behind is nothing to it.
    """
    try:
        handle = os.open(log, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.posix_fallocate(handle, 0, size)
        finally:
            os.close(handle)
    except OSError:
        return


def suspicion(path: Path) -> Path:
    """The file that says, to the next start, that this one found the spool damaged."""
    return path.with_name(f"{path.name}.suspect")


def set_aside(path: Path) -> Path:
    """Make room for a new file under this name; the old one stays, for people, as `.damaged`.

    One is kept, so that a disk that rots does not also fill up.
    """
    aside = path.with_name(f"{path.name}.damaged")
    for end in ("-wal", ""):
        old, new = path.with_name(path.name + end), aside.with_name(aside.name + end)
        new.unlink(missing_ok=True)
        if old.exists():
            old.rename(new)
    suspicion(path).unlink(missing_ok=True)
    sync_folder(path.parent)
    return aside


def sync_folder(folder: Path) -> None:
    """What names the folder holds survives a power cut from here on."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""One SQLite file that keeps what it was given through kill -9 and power cut, within a cap.

WAL with synchronous=FULL: a commit that returned is on the disk (design note 003 has the
measurements). The file is locked for as long as it is open: a second owner is refused.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from agent.errors import Refused, SpoolFull

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

PAGE = 4096
CHECKPOINT = 256
"""pages, 1 MB: where the log is folded into the file and begun anew"""
HEADROOM = 160
"""pages, 640 kB: what sealing and settling may need beyond the rows they begin with"""
PRAGMAS = (
    "locking_mode=EXCLUSIVE",
    f"page_size={PAGE}",
    "auto_vacuum=NONE",  # freed pages are used again; shrinking would only wear the flash
    "journal_mode=WAL",
    "synchronous=FULL",
    "secure_delete=OFF",  # bodies are encrypted; zeroing them would write every page twice
    f"wal_autocheckpoint={CHECKPOINT}",
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
        """Raises Damaged, or Refused if somebody else has it open or it may not be opened."""
        self._suspect = suspicion(path)
        self._connection = _connect(path)
        try:
            with self._words():
                for pragma in PRAGMAS:
                    self._connection.execute(f"PRAGMA {pragma}").fetchall()
                # a cap made smaller than the file must leave room to drain it
                most = max(max_bytes // PAGE, self._page_count() + HEADROOM)
                self._connection.execute(f"PRAGMA max_page_count={most}")
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

    def each(self, sql: str, *values: Any) -> Iterator[tuple[Any, ...]]:
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
                self._connection.execute("ROLLBACK")
            raise

    def pages(self) -> int:
        """Pages in use: of the file, without those freed."""
        return self._page_count() - int(self.one("PRAGMA freelist_count"))

    def _page_count(self) -> int:
        return int(self.one("PRAGMA page_count"))

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
            self._suspect.touch()
            return Damaged(str(error))
        if code == sqlite3.SQLITE_FULL:
            return SpoolFull("the spool or the disk under it is full")
        if code & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return Refused(f"the spool is in use by another process ({error}); stop that one first")
        return None


def _connect(path: Path) -> sqlite3.Connection:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        return sqlite3.connect(path, timeout=1, isolation_level=None)
    except (OSError, sqlite3.OperationalError) as error:
        raise Refused(f"the spool {path} cannot be opened: {error}") from error


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

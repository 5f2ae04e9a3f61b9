"""One SQLite file that keeps its commits through kill -9 and power cuts; a thread for each."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from agent.core.atomic_write import SILENT, STALLED_AFTER, Log, allocate, sync_folder
from agent.core.clock import monotonic
from agent.core.errors import Refused, SpoolFull, StorageFailed
from agent.core.i18n import text_of
from agent.core.storage import is_damage, reason_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
    from concurrent.futures import Future
    from contextlib import AbstractContextManager
    from pathlib import Path

Result = TypeVar("Result")
PAGE = 1024
"""bytes of a page in a new file. A commit changes a few bytes in several pages and writes them
whole: 45 % less to the card than with 4096 (note 003). An existing file keeps its page size
"""
LOG = 1024 * 1024
"""bytes after which the log is folded into the file and rewound"""
LOG_ROOM = LOG + LOG // 2
"""bytes of the log on the disk: no commit may be larger, and a commit of a third of it never needs
the log folded first
"""
HEADROOM = 640 * 1024
"""bytes that sealing and receipts may need beyond the rows that they start with"""
BESIDE_ROOM = 4
"""pages that a table of one row needs beside its body"""
PER_PAGE = 4
"""bytes of each page of a long body that are not part of the body"""
PRAGMAS = (
    "locking_mode=EXCLUSIVE",
    f"page_size={PAGE}",
    "auto_vacuum=NONE",  # free pages are used again; shrinking would only wear the flash
    "journal_mode=WAL",
    "synchronous=FULL",
    "secure_delete=ON",  # purged data is in no free page; costs 9 % more writing (note 023)
    "temp_store=MEMORY",
    "cache_size=-1024",
)
_thread_local = threading.local()
T = TypeVar("T")
S = TypeVar("S")


def at_each_answer(call: Callable[[], None]) -> None:
    """Register a call for this thread, made whenever the disk has answered a database."""
    _thread_local.call = call


def _report_answer() -> None:
    call: Callable[[], None] | None = getattr(_thread_local, "call", None)
    if call is not None:
        call()


class Damaged(Exception):
    """The file cannot be trusted any more: close it; the next opening sets it aside."""


class Database:
    """An open file, for the thread that opened it."""

    def __init__(self, path: Path, max_bytes: int, room: int = 0, step: int = 0) -> None:
        """Open or create the file. `room`: bytes that the file takes on the disk now, if the disk
        has them. `step`: bytes by which it grows before a transaction, if less than half of that is
        free in it; 0: the owner calls `grow`.

        Raises Damaged; Refused if another process has it open or it may not be opened;
        StorageFailed, as every call does.
        """
        self._folder = path.parent
        self._suspect, self._step = suspicion(path), step
        self._log = Log(path)
        # The handle stays open for `allocate`, and closes last (see `close`).
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
            self.fold()  # the log may still have data that was purged just before a kill
            self._bound()
            with suppress(SpoolFull), self._transaction():  # left by a kill during `grow`
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
            os.close(self._handle)  # last, because closing any handle of a file unlocks it

    def read(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of a query. Raises Damaged."""
        with self._translating_errors():
            return self._connection.execute(sql, values).fetchall()

    def scalar(self, sql: str, *values: Any) -> Any:
        """The single value of a query; None if there is no row. Raises Damaged."""
        rows = self.read(sql, *values)
        return rows[0][0] if rows else None

    def each(self, sql: str, *values: Any) -> Generator[tuple[Any, ...]]:
        """Rows one by one; close the iterator before anything is written."""
        with self._translating_errors():
            cursor = self._connection.execute(sql, values)
            try:
                # A cursor that stays open would block the checkpoint, so it is closed in any case.
                yield from cursor
            finally:
                cursor.close()

    def write(self, sql: str, *values: Any) -> int:
        """Change rows inside a transaction. Return how many were changed."""
        with self._translating_errors():
            return self._connection.execute(sql, values).rowcount

    def write_all(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Make the same change for many rows, inside a transaction."""
        with self._translating_errors():
            self._connection.executemany(sql, rows)

    def by(self, call: Callable[[sqlite3.Connection], Result]) -> Result:
        """Call a function of another module with this connection, in the open transaction."""
        with self._translating_errors():
            return call(self._connection)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit at the end; change nothing if the body raises.

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
            if self._connection.in_transaction:  # after SQLITE_FULL SQLite has rolled back itself
                with suppress(sqlite3.Error):  # the disk may have failed in between
                    self._connection.execute("ROLLBACK")
            raise

    def used(self) -> int:
        """Bytes in use: the file without its free pages."""
        return self.size() - self._free() * self._page

    def size(self) -> int:
        """Bytes of the file, with its free pages."""
        return self._pages() * self._page

    def grow(self, size: int) -> bool:
        """Extend the file by `size` bytes, outside of any transaction.

        False if the cap or the disk does not allow it. Later commits then need no more of the disk:
        SQLite would notice a lack of room only when it folds the log, and the log could not be
        rewound then.
        """
        before = self._pages()
        # Rounded up to whole pages.
        most = min(self._most, before - (-size // self._page))
        if most <= before + BESIDE_ROOM:
            return False
        try:
            # these pages have no readings, so they need no overwriting
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
        """Fill the free pages, and new ones up to `most`, with a table that is dropped afterwards:
        SQLite has no other way to make a file longer than it needs to be.
        """
        left = most - self._pages() + self._free() - BESIDE_ROOM
        # Allocate after the fold: folding truncates the file to its used pages.
        if left <= 0 or not self.rewind() or not allocate(self._handle, most * self._page):
            return False
        with self._transaction():
            self.write("CREATE TABLE IF NOT EXISTS room(body BLOB NOT NULL)")
            # At most half a log at a time: the commit must fit the log's room.
            pages = min(left, LOG // 2 // self._page)
            self.write("INSERT INTO room VALUES(zeroblob(?))", pages * (self._page - PER_PAGE))
        return True

    def _free(self) -> int:
        """Free pages of the file."""
        return int(self.scalar("PRAGMA freelist_count"))

    def _pages(self) -> int:
        return int(self.scalar("PRAGMA page_count"))

    def fold(self) -> None:
        """Fold the log into the file and overwrite its content, outside of any transaction.

        Raises SpoolFull if the file would have to grow for it and cannot.
        """
        if self._folded():
            try:
                self._log.wipe()
            except OSError as error:
                why = reason_of(error, self._folder)
                raise StorageFailed(why or text_of(error)) from error

    def rewind(self) -> bool:
        """Fold the log into the file and write it from its beginning again, in the room it has.

        False if the file would have to grow for it and cannot.
        """
        try:
            return self._folded()
        except SpoolFull:
            return False

    def _folded(self) -> bool:
        # RESTART lets the next commit write the log from its beginning; TRUNCATE would free its
        # room.
        busy, frames, done = self.read("PRAGMA wal_checkpoint(RESTART)")[0]
        return not busy and frames == done

    def _bound(self) -> None:
        """Let the file grow no further by itself."""
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
        # errors of the Python module itself (such as a wrong thread) have no code
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        if is_damage(error):
            with suppress(OSError):
                # The next start sets the file aside, even if the damaged page is not read then.
                self._suspect.touch()
            return Damaged(text_of(error))
        if code == sqlite3.SQLITE_FULL:
            return SpoolFull("the spool or its disk is full")
        if code & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return Refused(
                "another process uses the spool ({error}); stop that process first", error=error
            )
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
        raise Refused(
            "the spool {path} cannot be opened: {error}", path=path, error=error
        ) from error


def suspicion(path: Path) -> Path:
    """The file that tells the next start that this one found the spool damaged."""
    return path.with_name(f"{path.name}.suspect")


def set_aside(path: Path) -> Path:
    """Move a damaged file away as `.damaged`, for people, so that a new one can be created.

    Only one is kept, so that a failing disk does not fill up as well. Raises StorageFailed.
    """
    damaged = path.with_name(f"{path.name}.damaged")
    try:
        for suffix in ("-wal", ""):
            old, new = path.with_name(path.name + suffix), damaged.with_name(damaged.name + suffix)
            new.unlink(missing_ok=True)
            if old.exists():
                old.rename(new)
        Log(path).forget()  # it belongs to the file that was moved
        suspicion(path).unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise StorageFailed(
            "{path} is damaged and cannot be set aside: {error}", path=path, error=error
        ) from error
    return damaged


class OneThread:
    """Runs calls one after the other in a thread of its own, each to its end."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(1, name, initializer=self._begin)

        self._since: float | None = None
        """monotonic time at which the present call began; None: there is none"""
        self._closed = False
        self._ending: Callable[[], object] | None = None
        """the last call, once somebody leaves the thread: no other is made after it"""

    def _begin(self) -> None:
        """Called in the thread before its first call."""

    def begin(self, call: Callable[..., T], *args: object) -> asyncio.Future[T]:
        """Queue a call. It is made even if nobody waits for it. Raises StorageFailed if the
        thread has ended or cannot be started.
        """
        if self._ending not in {None, call}:  # it would find a file that is closed
            raise StorageFailed("it is closed")
        loop = asyncio.get_running_loop()
        try:
            return loop.run_in_executor(self._pool, self._timed, call, *args)
        except RuntimeError as error:
            if self._closed:  # the spool was closed while somebody still asks it
                raise StorageFailed("it is closed") from error
            raise StorageFailed(str(error)) from error

    def _timed(self, call: Callable[..., T], *args: object) -> T:
        self._since = monotonic()
        try:
            return self._make(call, *args)
        finally:
            self._since = None

    def stalled(self, now: float) -> bool:
        """Whether the present call has not returned in time: a fault of its storage, not of the
        component. `now` is monotonic.
        """
        since = self._since
        return since is not None and now - since > STALLED_AFTER

    async def run(self, call: Callable[..., T], *args: object) -> T:
        """Run `call(*args)` in the thread.

        A cancellation is raised after the call has ended: otherwise a commit that nobody waited for
        would be made a second time at shutdown.
        """
        future, since = self.begin(call, *args), monotonic()
        cancelled: asyncio.CancelledError | None = None
        while not future.done():
            try:
                await self._wait(future, since)
            except asyncio.CancelledError as error:
                cancelled = error
                self._given_up()
            except StorageFailed as error:
                # The caller was cancelled: it must see that, not the failure of the disk.
                raise cancelled or error from None
        if cancelled is not None:
            # Retrieve the exception, or asyncio logs that it was never retrieved.
            _ = future.cancelled() or future.exception()
            raise cancelled
        return future.result()

    def _make(self, call: Callable[..., T], *args: object) -> T:
        return call(*args)

    async def _wait(self, future: asyncio.Future[T], _since: float) -> None:
        await asyncio.wait([future])

    def _given_up(self) -> None:
        """Called when nobody waits for the present call any more."""

    async def broken(self) -> NoReturn:
        """Raise once the file must be opened again; here never."""
        await asyncio.Event().wait()
        raise AssertionError

    def close(self, *, wait: bool = True) -> None:
        """End the thread after its calls. `wait`: return after that."""
        self._closed = True
        self._pool.shutdown(wait=wait)

    async def leave(self, last: Callable[[], object]) -> None:
        """Make a last call, and end the thread."""
        self._ending = last
        try:
            await self.run(last)
        finally:
            self.close()


class DiskThread(OneThread):
    """A thread whose calls wait for a disk, at most `stalled_after` seconds at each step.

    If the disk does not answer in that time, or a call raises StorageFailed, all later calls raise
    it: only opening the file again shows what it holds.
    """

    def __init__(self, name: str, stalled_after: float | None = None) -> None:
        super().__init__(name)
        self._stalled_after = STALLED_AFTER if stalled_after is None else stalled_after
        self.failed = ""
        """why no more calls are made; empty: the disk works"""
        self._answered = monotonic()
        """monotonic time at which the present call began, or the disk last answered it"""
        self._broken: Damaged | StorageFailed | None = None
        self._is_broken = asyncio.Event()
        self._last: Future[object] | None = None

    def _begin(self) -> None:
        at_each_answer(self._note)

    def _note(self) -> None:
        self._answered = monotonic()

    async def run(self, call: Callable[..., T], *args: object) -> T:
        """As OneThread. Raises StorageFailed; the call then counts as not made."""
        if self.failed:
            raise StorageFailed(self.failed)
        try:
            return await super().run(call, *args)
        except (Damaged, StorageFailed) as error:
            self._broken = self._broken or error
            self._is_broken.set()
            raise

    async def broken(self) -> NoReturn:
        """Raise Damaged or StorageFailed once a call has: the file must be opened again."""
        await self._is_broken.wait()
        assert self._broken is not None
        raise self._broken

    def _make(self, call: Callable[..., T], *args: object) -> T:
        if self.failed:
            raise StorageFailed(self.failed)
        self._note()
        try:
            return super()._make(call, *args)
        except StorageFailed as error:
            self.failed = self.failed or text_of(error)
            raise

    async def _wait(self, future: asyncio.Future[T], since: float) -> None:
        # whoever is cancelled waits on: each cancellation must not give the disk its time again
        left = max(since, self._answered) + self._stalled_after - monotonic()
        await asyncio.wait([future], timeout=max(0.0, left))
        if not future.done() and monotonic() - max(since, self._answered) >= self._stalled_after:
            self.failed = self.failed or SILENT
            future.cancel()  # a call that has not begun is not made
            # The call may still fail later; asyncio would log its exception as never retrieved.
            future.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            raise StorageFailed(self.failed)

    async def leave(self, last: Callable[[], object]) -> None:
        """As OneThread, but do not wait for a failed disk: see `over`."""
        self._ending = last
        with suppress(StorageFailed):
            await self.run(last)
        if self.failed:
            self._last = self._pool.submit(last)
        self.close(wait=not self.failed)

    @property
    def over(self) -> bool:
        """Whether the last call has ended after `leave`, so that another thread may open the
        file.
        """
        return self._last is None or self._last.done()


@asynccontextmanager
async def in_own_thread(
    name: str,
    open_it: Callable[[], AbstractContextManager[S]],
    thread: OneThread | None = None,
) -> AsyncIterator[tuple[S, OneThread]]:
    """Open a synchronous resource in a thread of its own, and close it there.

    Without `thread` it is on the disk: raises StorageFailed.
    """
    thread, manager = thread or DiskThread(name), open_it()
    opened: list[S] = []

    def leave() -> None:
        if opened:
            opened.clear()
            manager.__exit__(None, None, None)

    def enter() -> S:
        resource = manager.__enter__()
        opened.append(resource)
        return resource

    try:
        yield await thread.run(enter), thread
    finally:
        await thread.leave(leave)

"""Write files so that they are whole after a power cut, and keep space free on the disk for it.

The small JSON files of the state are written so: each is replaced as a whole.

Files that other people own are read safely, with limits. Reading a file of the state never raises
where it is missing or damaged: whoever owns the file says what it then counts as. So a damaged file
stops no gateway.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
import threading
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Generic, TypeVar
from weakref import WeakSet

from agent.core.errors import NotRecorded
from agent.core.i18n import Text
from agent.core.log_fields import LogEvent, fields

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = logging.getLogger(__name__)

T = TypeVar("T")
STALLED_AFTER = 10.0
"""seconds after which a storage call that has not returned counts as a fault of its store"""
SILENT = Text("the disk does not answer")


NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
Content = TypeVar("Content")

DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""what reading a damaged file, or one of another form, raises"""


class Late(OSError):
    """A write has not returned in time. It is still carried out once the disk answers again."""


class DiskWriter:
    """Writes and syncs small files in the state directory, in one thread, in order.

    No caller waits longer than `patience`, so a disk that hangs does not stop the event loop.
    """

    silent: Callable[[], str] = str
    """returns why the disk does not answer now; empty if it does"""
    patience = STALLED_AFTER
    """seconds"""
    _calls: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()
    _thread: threading.Thread | None = None
    _first = threading.Lock()
    _now: Future[Any] | None = None
    """the call being carried out"""
    _late: Future[Any] | None = None
    """the call that did not return in time"""

    @classmethod
    def must_answer(cls) -> None:
        """Return if the disk is not known to hang. Raises OSError if it is."""
        if why := cls.silent() or (SILENT if cls.hangs() else ""):
            raise OSError(errno.EIO, why)

    @classmethod
    def hangs(cls) -> bool:
        """Whether a call has not returned in time, and still has not."""
        return cls._late is not None and not cls._late.done()

    @classmethod
    def make(cls, call: Callable[[], T]) -> T:
        """Carry out a call that writes, in the disk's thread, and wait for its result.

        Raises what the call raises; OSError if the disk does not answer and the call was dropped;
        Late if it will still be carried out.
        """
        cls.must_answer()
        if threading.current_thread() is cls._thread:
            return call()
        future = cls.begin(call)
        try:
            return future.result(cls.patience)
        except TimeoutError:
            if future.done():  # the call itself raised TimeoutError
                raise
            cls._late = cls._now
            # A call that has begun cannot be cancelled, and its caller must know that.
            error = OSError if future.cancel() else Late
            raise error(errno.EIO, SILENT) from None

    @classmethod
    def begin(cls, call: Callable[[], T]) -> Future[T]:
        """Queue a call without waiting for it."""
        future: Future[T] = Future()
        with cls._first:
            if cls._thread is None:
                # A daemon thread: the end of the process must not wait for a disk that hangs.
                cls._thread = threading.Thread(target=cls._serve, name="files", daemon=True)
                cls._thread.start()
        cls._calls.put((call, future))
        return future

    @classmethod
    def _serve(cls) -> None:
        while True:
            call, future = cls._calls.get()
            cls._now = future
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 -- handed to the waiting caller
                future.set_exception(error)
            del call, future


class Reserve:
    """A file that keeps space free on the disk. It is removed when the disk is full and something
    must still be recorded: the registry, the trust store, the audit chain, small files.
    """

    FILE = "reserve"
    SIZE = 1024 * 1024
    LEAST = 64 * 1024

    def __init__(self, folder: Path) -> None:
        self._file = folder / self.FILE

    def stand(self, size: int = SIZE) -> None:
        """Create the reserve with `size` bytes; if the disk has less, with half, and so on."""
        with suppress(OSError):
            handle = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                while os.fstat(handle).st_size < size and size >= self.LEAST:
                    if allocate(handle, size):
                        break
                    os.ftruncate(handle, 0)
                    size //= 2
            finally:
                os.close(handle)

    def give(self) -> bool:
        """Remove the reserve. Return whether that freed any space."""
        try:
            size = self._file.stat().st_size
            self._file.unlink()
        except OSError:
            return False
        return size > 0

    def for_(self, write: Callable[[], T]) -> T:
        """Call `write`; if the disk is full, remove the reserve and try again. Raises OSError."""
        try:
            return write()
        except OSError as error:
            if error.errno not in NO_ROOM or not self.give():
                raise
        try:
            return write()
        finally:
            self.stand()


def write(file: Path, content: bytes) -> None:
    """Replace a file (mode 0600) durably: after a power cut the old or the new one is there, whole.

    Raises NotRecorded if it cannot be written.
    """
    try:
        DiskWriter.make(lambda: Reserve(file.parent).for_(lambda: _write(file, content)))
    except OSError as error:
        raise NotRecorded("{port} cannot be written: {why}", port=file, why=error) from error


def _write(file: Path, content: bytes) -> None:
    new = file.with_suffix(".new")
    new.unlink(missing_ok=True)
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    new.replace(file)
    sync_folder(file.parent)


def write_key(file: Path, content: bytes) -> None:
    """As `write`, for a file with a key: the old content is overwritten. Raises NotRecorded."""
    try:
        clear(file.with_suffix(".new"))
        if not file.exists():
            return write(file, content)
        with file.open("r+b") as old:
            write(file, content)
            overwrite(old)
    except OSError as error:
        raise NotRecorded(
            "{file} cannot be overwritten: {reason}", file=file, reason=error
        ) from error


def read_key(file: Path) -> bytes:
    """Read a file that `write_key` writes, never one that is being overwritten. Raises OSError."""
    while True:
        with file.open("rb") as opened:
            content = opened.read()
            # If the name now leads to another file, ours was replaced and may hold zeros already.
            if os.path.samestat(os.fstat(opened.fileno()), file.stat()):
                return content


def destroy(file: Path) -> None:
    """Overwrite and remove a file that holds a key, if it exists. Raises NotRecorded."""
    rest = file.with_suffix(".new")
    try:
        clear(rest)
        with suppress(FileNotFoundError):
            file.rename(rest)  # so that nobody reads it half overwritten
        clear(rest)
    except OSError as error:
        raise NotRecorded(
            "{file} cannot be overwritten: {reason}", file=file, reason=error
        ) from error


def clear(file: Path) -> None:
    """Overwrite and remove the file that an interrupted write has left. Raises OSError."""
    with suppress(FileNotFoundError), file.open("r+b") as content:
        overwrite(content)
    file.unlink(missing_ok=True)


def overwrite(file: BinaryIO) -> None:
    """Overwrite the whole content of an open file with zeros, durably. Raises OSError.

    A flash card may keep an older copy that no program can reach.
    """
    file.write(bytes(os.fstat(file.fileno()).st_size))
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def allocate(handle: int, size: int) -> bool:
    """Allocate `size` bytes of the disk to an open file, durably. False if there is no space."""
    try:
        os.posix_fallocate(handle, 0, size)
        # Without it, a log that survives a power cut may refer to pages that are not in the file.
        os.fsync(handle)
    except OSError:
        return False
    return True


class Log:
    """Keeps the disk space of an SQLite log (`-wal`) after the database is closed.

    SQLite deletes its log at closing. A second name, `.log`, keeps the blocks for the next opening.
    The header of a log that is reused is cleared, so that SQLite reads nothing from it.
    """

    HEADER = 32
    """bytes of the log's header; without it SQLite reads none of the rest"""
    PIECE = 64 * 1024

    def __init__(self, file: Path) -> None:
        """Put the kept log back in place, if there is one. The database must not be open."""
        self._log = file.with_name(f"{file.name}-wal")
        self._kept = file.with_name(f"{file.name}.log")
        with suppress(OSError):
            if self._kept.exists() and not self._log.exists():
                self.rest()
                self._kept.rename(self._log)

    def keep(self, size: int) -> None:
        """Allocate `size` bytes to the log of the open database, and give it the second name.

        If the disk is full or the file system has no hard links, the log grows as it is written.
        """
        with suppress(OSError):
            handle = os.open(self._log, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                allocate(handle, size)
            finally:
                os.close(handle)
            if self._kept.exists() and not self._kept.samefile(self._log):
                self._kept.unlink()
            if not self._kept.exists():
                os.link(self._log, self._kept)
            # SQLite syncs the folder only for a log that it created itself.
            sync_folder(self._log.parent)

    def wipe(self) -> None:
        """Overwrite a log whose content is all in the database; its size stays. Raises OSError."""
        handle = os.open(self._log, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._without_header(handle)
            at = 0
            while piece := os.pread(handle, self.PIECE, at):
                if piece.count(0) < len(piece):  # spare the flash: empty pieces stay unwritten
                    os.pwrite(handle, bytes(len(piece)), at)
                at += len(piece)
            os.fsync(handle)
        finally:
            os.close(handle)

    def rest(self) -> None:
        """Clear the header of the kept log. Call it when the database is closed."""
        if self._log.exists():  # SQLite could not fold it in: it holds what the database lacks
            return
        with suppress(OSError):
            handle = os.open(self._kept, os.O_RDWR | os.O_CLOEXEC)
            try:
                self._without_header(handle)
            finally:
                os.close(handle)

    def forget(self) -> None:
        """Give up the kept space."""
        self._kept.unlink(missing_ok=True)

    def _without_header(self, handle: int) -> None:
        # The header goes first and must be on the disk before the rest. SQLite would replay the
        # beginning of a half overwritten log, and the database would fall back to an older state.
        if any(os.pread(handle, self.HEADER, 0)):
            os.pwrite(handle, bytes(self.HEADER), 0)
            os.fsync(handle)


class NoFile(OSError):
    """The path names a folder, a pipe, a socket or a device, not a file."""


def read(path: Path, most: int) -> tuple[bytes, os.stat_result]:
    """Read up to `most` bytes of a file that another account may own, with its status at opening.

    Never blocks: reading a pipe would wait until somebody writes into it. Raises OSError, NoFile.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with os.fdopen(handle, "rb") as file:
        was = os.fstat(handle)
        if not stat.S_ISREG(was.st_mode):
            raise NoFile(errno.EINVAL, Text("it is no file"))
        return file.read(most), was


class WriteQueue:
    """Small files for which nobody waits. The disk's thread writes the latest content of each.

    A failure is logged once per reason. The file is written again when it is next given.
    """

    def __init__(self) -> None:
        self._waits: dict[Path, bytes] = {}
        self._changed = threading.Condition()
        self._reported: dict[Path, str] = {}

    def write(self, file: Path, content: bytes) -> None:
        """Queue a file to be written as `write` does."""
        with self._changed:
            begun = file in self._waits
            self._waits[file] = content
        if not begun:
            DiskWriter.begin(partial(self._write, file))

    def settle(self, within: float) -> bool:
        """Wait at most `within` seconds until all files are written. Return whether they are."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waits, within)

    def _write(self, file: Path) -> None:
        with self._changed:
            content = self._waits[file]
        try:
            write(file, content)
            self._reported.pop(file, None)
        except NotRecorded as error:
            if self._reported.get(file) != str(error):
                number = getattr(error.__cause__, "errno", None) or 0
                log.warning(
                    "%s", error,
                    extra=fields(
                        LogEvent.RECORD_NOT_WRITTEN, store=file.name,
                        detail=errno.errorcode.get(number, ""),
                    ),
                )  # fmt: skip
            self._reported[file] = str(error)
        with self._changed:
            if self._waits[file] is content:
                del self._waits[file]
            else:
                DiskWriter.begin(partial(self._write, file))
            self._changed.notify_all()


later = WriteQueue()


class StateFile(Generic[Content]):
    """One file with one state. Whoever could not read it does not replace it (rule A18)."""

    unread: ClassVar[WeakSet[StateFile[Any]]] = WeakSet()
    """those whose owners get the content once it can be read (`read_again`)"""

    def __init__(
        self,
        path: Path | None,
        parse: Callable[[Any], Content],
        missing: Callable[[], Content],
        damaged: Callable[[Exception], Content] | None = None,
        **layout: Any,
    ) -> None:
        """`parse` makes the state from the file's JSON; `missing` makes the one without a file.

        `damaged` makes the one for a file that is damaged, or that the disk cannot read (OSError);
        None: as if it were missing. It may raise, as `parse` may for a file of a newer version (not
        an error of DAMAGE). `path` None: nothing is kept. `layout`: options of json.dumps.
        """
        self.path, self._layout = path, layout
        self.name = path.name if path else ""
        self._parse, self._missing, self._damaged = parse, missing, damaged
        self._take: Callable[[Content], None] = lambda _content: None
        self.unreadable = ""
        """why the disk could not read the file; empty: it did, or the file is missing"""

    def load(self, take: Callable[[Content], None] | None = None) -> Content:
        """The state in the file, or what it counts as.

        If the disk cannot read the file now, `save` is refused, and `save_later` does nothing,
        until it was read: `take` is then called with its content.
        """
        content, self.unreadable = self._read()
        if self.unreadable and take is not None:
            if self.path not in {file.path for file in self.unread}:
                log.error(
                    "%s cannot be read: %s", self.path, self.unreadable,
                    extra=fields(LogEvent.STORE_FAILED, store=self.name),
                )  # fmt: skip
            self._take = take
            self.unread.add(self)
        return content

    def read_again(self) -> Callable[[], None]:
        """Read a file of `unread`. Return the call that gives its owner the content, if any: it is
        for the owner's thread.
        """
        return partial(self._give, *self._read())

    def _give(self, content: Content, unreadable: str) -> None:
        self.unreadable = unreadable
        if not unreadable:
            self.unread.discard(self)
            self._take(content)

    def _read(self) -> tuple[Content, str]:
        if self.path is None:
            return self._missing(), ""
        try:
            return self._parse(json.loads(self.path.read_bytes())), ""
        except FileNotFoundError:
            return self._missing(), ""
        except DAMAGE as error:
            content = self._missing() if self._damaged is None else self._damaged(error)
            return content, str(error) if isinstance(error, OSError) else ""

    def save(self, content: Any) -> None:
        """Replace the content. It is on the disk when this returns. Raises NotRecorded."""
        if self.unreadable:
            raise NotRecorded(
                "{path} is not replaced, because it cannot be read ({reason}): try again in some"
                " minutes. If this persists, replace the disk or card: docs/replace.md",
                path=self.path,
                reason=self.unreadable,
            )
        if self.path is not None:
            write(self.path, self._encoded(content))

    def save_later(self, content: Any) -> None:
        """Queue the content to be written; a failure is logged, and ends with the next content."""
        if self.path is not None and not self.unreadable:
            later.write(self.path, self._encoded(content))

    def _encoded(self, content: Any) -> bytes:
        return json.dumps(content, **self._layout).encode()

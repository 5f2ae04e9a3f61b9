"""Files that are there whole, whatever dies while they are written, and room kept on the disk; and
files of people.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from agent.errors import NotRecorded
from agent.log_fields import LogEvent, fields

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


log = logging.getLogger(__name__)

T = TypeVar("T")
STALLED_AFTER = 10.0
"""seconds: a storage call that has not returned by then is a fault of its store"""
SILENT = "the disk does not answer"


class Late(OSError):
    """A call has not returned in time. It is made when the disk answers again."""


class DiskWriter:
    """The disk of the state directory, for small files: one thread writes and syncs them, in the
    order of the calls. Nobody waits for it longer than `patience`.
    """

    silent: Callable[[], str] = str
    """why it does not answer now, in words; empty: it does"""
    patience = STALLED_AFTER
    """seconds"""
    _calls: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()
    _thread: threading.Thread | None = None
    _first = threading.Lock()
    _now: Future[Any] | None = None
    """the call that is being made"""
    _late: Future[Any] | None = None
    """the call that did not return in time"""

    @classmethod
    def must_answer(cls) -> None:
        """Raises OSError where it is known not to answer."""
        late = cls._late is not None and not cls._late.done()
        if why := cls.silent() or (SILENT if late else ""):
            raise OSError(errno.EIO, why)

    @classmethod
    def make(cls, call: Callable[[], T]) -> T:
        """Have a call made that writes, and wait for it. Raises what it raises; OSError where the
        disk does not answer, and Late where the call is made all the same, later.
        """
        cls.must_answer()
        if threading.current_thread() is cls._thread:
            return call()
        future = cls.begin(call)
        try:
            return future.result(cls.patience)
        except TimeoutError:
            if future.done():  # it is the call's own
                raise
            cls._late = cls._now
            error = OSError if future.cancel() else Late
            raise error(errno.EIO, SILENT) from None

    @classmethod
    def begin(cls, call: Callable[[], T]) -> Future[T]:
        """Have a call made soon; nobody waits for it."""
        future: Future[T] = Future()
        with cls._first:
            if cls._thread is None:
                # not one that an end of the process would wait for
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
            except BaseException as error:  # noqa: BLE001 -- it is for who waits
                future.set_exception(error)
            del call, future


NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Reserve:
    """Room on the disk that is given up for what must be recorded though the disk is full: the
    registry, what authority remembers, the audit chain, small files.
    """

    FILE = "reserve"
    SIZE = 1024 * 1024
    LEAST = 64 * 1024

    def __init__(self, folder: Path) -> None:
        self._file = folder / self.FILE

    def stand(self, size: int = SIZE) -> None:
        """Have it, of so many bytes, or of as many as the disk has to spare."""
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
        """Free its room; False: there was none."""
        try:
            size = self._file.stat().st_size
            self._file.unlink()
        except OSError:
            return False
        return size > 0

    def for_(self, write: Callable[[], T]) -> T:
        """Write, once more in its room where the disk has none. Raises OSError."""
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
    """Put a file of mode 0600 in the place of another, durably, whole or not at all.

    Raises NotRecorded where the disk does not take it.
    """
    try:
        DiskWriter.make(lambda: Reserve(file.parent).for_(lambda: _write(file, content)))
    except OSError as error:
        raise NotRecorded(f"{file} cannot be written: {error.strerror}") from error


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
    """As `write`, of a file with a key in it: what it held is overwritten."""
    try:
        clear(file.with_suffix(".new"))
        if not file.exists():
            return write(file, content)
        with file.open("r+b") as old:
            write(file, content)
            overwrite(old)
    except OSError as error:
        raise NotRecorded(f"{file} cannot be overwritten: {error.strerror}") from error


def read_key(file: Path) -> bytes:
    """The content of a file that `write_key` writes: of the one that bears the name, never of one
    that is being overwritten. Raises OSError.
    """
    while True:
        with file.open("rb") as opened:
            content = opened.read()
            if os.path.samestat(os.fstat(opened.fileno()), file.stat()):
                return content


def destroy(file: Path) -> None:
    """Remove a file with a key in it, where there is one, and overwrite it. Raises NotRecorded."""
    rest = file.with_suffix(".new")
    try:
        clear(rest)
        with suppress(FileNotFoundError):
            file.rename(rest)  # nobody sees it half overwritten
        clear(rest)
    except OSError as error:
        raise NotRecorded(f"{file} cannot be overwritten: {error.strerror}") from error


def clear(file: Path) -> None:
    """Overwrite and remove what a write that died has left. Raises OSError."""
    with suppress(FileNotFoundError), file.open("r+b") as content:
        overwrite(content)
    file.unlink(missing_ok=True)


def overwrite(file: BinaryIO) -> None:
    """Put zeros in the place of all that an open file holds, durably. A card may keep an older copy
    where no program can reach it.
    """
    file.write(bytes(os.fstat(file.fileno()).st_size))
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """What names the folder holds survives a power cut from here on. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def allocate(handle: int, size: int) -> bool:
    """Let an open file have so many bytes of the disk, durably; it is as long then. False: there is
    no room.
    """
    try:
        os.posix_fallocate(handle, 0, size)
        # or a log that survives a power cut speaks of pages that the file does not have
        os.fsync(handle)
    except OSError:
        return False
    return True


class Log:
    """The room of an SQLite log (`-wal`), kept through closing: SQLite deletes the log then.

    A second name, `.log`, keeps its blocks. A log that is taken up again has no valid header, so
    that nothing is read from it.
    """

    HEADER = 32
    """bytes of the log's header; without it SQLite reads none of the rest"""
    PIECE = 64 * 1024

    def __init__(self, file: Path) -> None:
        """Take up the log of a file that is not open, where one was kept."""
        self._log = file.with_name(f"{file.name}-wal")
        self._kept = file.with_name(f"{file.name}.log")
        with suppress(OSError):
            if self._kept.exists() and not self._log.exists():
                self.rest()
                self._kept.rename(self._log)

    def keep(self, size: int) -> None:
        """Give the log of the open file so many bytes, if the disk has them, and its second name.

        Without room, or on a file system without second names, the log grows as it is written.
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
            # SQLite does so only for a log that it has made itself
            sync_folder(self._log.parent)

    def wipe(self) -> None:
        """Overwrite a log of which all is in the file; it keeps its size. Raises OSError."""
        handle = os.open(self._log, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._without_header(handle)
            at = 0
            while piece := os.pread(handle, self.PIECE, at):
                if piece.count(0) < len(piece):  # what is empty costs the card nothing
                    os.pwrite(handle, bytes(len(piece)), at)
                at += len(piece)
            os.fsync(handle)
        finally:
            os.close(handle)

    def rest(self) -> None:
        """Once the file is closed: nothing is to be read from a log of which all is in the file."""
        if self._log.exists():  # it could not be folded in, and says what the file does not
            return
        with suppress(OSError):
            handle = os.open(self._kept, os.O_RDWR | os.O_CLOEXEC)
            try:
                self._without_header(handle)
            finally:
                os.close(handle)

    def forget(self) -> None:
        """Give its room up."""
        self._kept.unlink(missing_ok=True)

    def _without_header(self, handle: int) -> None:
        # first, and on the disk: the beginning of a log that is half overwritten would take the
        # file back to what it was
        if any(os.pread(handle, self.HEADER, 0)):
            os.pwrite(handle, bytes(self.HEADER), 0)
            os.fsync(handle)


class NoFile(OSError):
    """What a path names is there, but it is a folder, a pipe, a socket or a device."""


def read(path: Path, most: int) -> tuple[bytes, os.stat_result]:
    """Up to so many bytes of a file of somebody's, and what it was when it was opened.

    Never waits: a pipe would make everything wait for who writes into it. Raises OSError, NoFile.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with os.fdopen(handle, "rb") as file:
        was = os.fstat(handle)
        if not stat.S_ISREG(was.st_mode):
            raise NoFile(errno.EINVAL, "it is no file")
        return file.read(most), was


class WriteQueue:
    """Small files that the disk's thread writes, one after the other: of each what it was given
    last. Nobody waits for the disk; what it does not take is logged, and written with the next.
    """

    def __init__(self) -> None:
        self._waits: dict[Path, bytes] = {}
        self._changed = threading.Condition()
        self._reported: dict[Path, str] = {}

    def write(self, file: Path, content: bytes) -> None:
        """Have a file written, as `write`, soon."""
        with self._changed:
            begun = file in self._waits
            self._waits[file] = content
        if not begun:
            DiskWriter.begin(partial(self._write, file))

    def settle(self, within: float) -> bool:
        """Wait until all is written, so many seconds at most; whether it is."""
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
                log.warning("%s", error, extra=fields(LogEvent.RECORD_NOT_WRITTEN, store=file.name))
            self._reported[file] = str(error)
        with self._changed:
            if self._waits[file] is content:
                del self._waits[file]
            else:
                DiskWriter.begin(partial(self._write, file))
            self._changed.notify_all()


later = WriteQueue()

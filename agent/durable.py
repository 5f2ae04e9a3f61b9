"""A small file that is there whole, whatever dies while it is written; and files of people."""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
from typing import TYPE_CHECKING

from agent.errors import NotRecorded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


log = logging.getLogger(__name__)


class Disk:
    """What is known of the disk, for those who write small files from the event loop."""

    silent: Callable[[], str] = str
    """why it does not answer now, in words; empty: it does. Who waits for it then waits for ever"""

    @classmethod
    def must_answer(cls) -> None:
        """Raises OSError where it is known not to answer."""
        if why := cls.silent():
            raise OSError(errno.EIO, why)


def write(file: Path, content: bytes) -> None:
    """Put a file of mode 0600 in the place of another, durably, whole or not at all.

    Raises NotRecorded where the disk does not take it.
    """
    new = file.with_suffix(".new")
    try:
        Disk.must_answer()
        new.unlink(missing_ok=True)
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        new.replace(file)
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise NotRecorded(f"{file} cannot be written: {error.strerror}") from error


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


class Later:
    """Writes small files in a thread of its own, one after the other: of each what it was given
    last. Nobody waits for the disk; what it does not take is logged, and written with the next.
    """

    def __init__(self) -> None:
        self._waits: dict[Path, bytes] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._said: dict[Path, str] = {}

    def write(self, file: Path, content: bytes) -> None:
        """Have a file written, as `write`, soon."""
        with self._changed:
            self._waits[file] = content
            if self._thread is None:
                # not one that an end of the process would wait for
                self._thread = threading.Thread(target=self._serve, name="files", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def settle(self, within: float) -> bool:
        """Wait until all is written, so many seconds at most; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waits, within)

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waits)
                file, content = next(iter(self._waits.items()))
            try:
                write(file, content)
                self._said.pop(file, None)
            except NotRecorded as error:
                if self._said.get(file) != str(error):
                    log.warning("%s", error)
                self._said[file] = str(error)
            with self._changed:
                if self._waits[file] is content:
                    del self._waits[file]
                self._changed.notify_all()


later = Later()

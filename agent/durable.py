"""A small file that is there whole, whatever dies while it is written; and files of people."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from agent.errors import NotRecorded

if TYPE_CHECKING:
    from pathlib import Path


def write(file: Path, content: bytes) -> None:
    """Put a file of mode 0600 in the place of another, durably, whole or not at all.

    Raises NotRecorded where the disk does not take it.
    """
    new = file.with_suffix(".new")
    try:
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

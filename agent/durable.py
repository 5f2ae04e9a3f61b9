"""A small file that is there whole, whatever dies while it is written."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from agent.errors import NotRecorded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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

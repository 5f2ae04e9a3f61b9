"""A folder as the far side: a mounted share, or a place that another program empties."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

from agent.errors import NotStored, UplinkLost
from agent.uplink.file_transfer import IN, OUT, RemoteFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
ODD = {errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ENODEV}
"""what opening says of a link, a pipe that nobody reads, a folder, a device that is not there"""
MOST_NAMES = 50_000
"""files in one folder, as over SFTP"""


class Folder:
    """Files under one path (agent.uplink.file_transfer.Far)."""

    def __init__(self, root: Path, folders: tuple[str, ...] = (IN, OUT)) -> None:
        """Raises UplinkLost where it is not there with its folders: an empty mount point."""
        self._root = root
        if not root.is_dir():
            raise UplinkLost(f"there is no folder {root}: is it mounted?")
        for folder in folders:
            if not (root / folder).is_dir():
                raise UplinkLost(
                    f"{root} has no folder `{folder}`: is it mounted? else make {root}/{IN} for"
                    f" gardien to write into, and {root}/{OUT}"
                )

    def used(self) -> int:
        """No wire, nothing on it."""
        return 0

    def entry(self, path: str) -> RemoteFile | None:
        """What is there under a path."""
        with self._said(path):
            try:
                facts = (self._root / path).lstat()
            except FileNotFoundError:
                return None
            if not stat.S_ISREG(facts.st_mode):
                return None  # a folder, a link, or a pipe, that would be waited on for ever
            return RemoteFile(path.rpartition("/")[2], facts.st_size, facts.st_mtime)

    def entries(self, folder: str) -> list[RemoteFile]:
        """Every file in a folder. Raises NotStored where there are too many."""
        with self._said(folder):
            if not (self._root / folder).is_dir():
                return []
            with os.scandir(self._root / folder) as listed:
                names = [one.name for one in islice(listed, MOST_NAMES + 1)]
            if len(names) > MOST_NAMES:
                where = self._root / folder
                raise NotStored(f"{where}: more than {MOST_NAMES} files: remove those that are old")
            found = (self.entry(f"{folder}/{name}") for name in names)
            return [entry for entry in found if entry]

    def read(self, path: str, most: int) -> bytes | None:
        """At most so many bytes of a file."""
        with self._said(path):
            try:
                handle = self._opened(path, os.O_RDONLY)
            except FileNotFoundError:
                return None
            with os.fdopen(handle, "rb") as file:
                return file.read(most)

    def append(self, path: str, offset: int, content: bytes) -> None:
        """Write on, to the disk."""
        how = os.O_RDWR if offset else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with (
            self._said(path),
            os.fdopen(self._opened(path, how), "r+b" if offset else "wb") as file,
        ):
            file.seek(offset)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def _opened(self, path: str, how: int) -> int:
        """A file; no link is followed, and no pipe or device waited for."""
        careful = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            handle = os.open(self._root / path, how | careful, 0o666)
        except OSError as error:
            if error.errno in ODD:
                raise NotStored(f"{self._root / path}: this is no file: remove it") from error
            raise
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise NotStored(f"{self._root / path}: this is no file: remove it")
        return handle

    def rename(self, path: str, to: str) -> None:
        """Give a file another name."""
        with self._said(to):
            (self._root / path).replace(self._root / to)
            folder = os.open((self._root / to).parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def remove(self, path: str) -> None:
        """Remove a file."""
        with self._said(path):
            (self._root / path).unlink(missing_ok=True)

    @contextmanager
    def _said(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = self._root / path
            if error.errno in FULL:
                raise NotStored(f"no room left for {where}: make some there") from error
            if error.errno in DENIED:
                raise NotStored(f"{where}: not allowed: may gardien write there?") from error
            raise UplinkLost(f"{where}: {error.strerror}: is {self._root} mounted?") from error

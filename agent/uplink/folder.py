"""A local folder as the remote folder: a mounted share, or one that another program empties."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

from agent.core.errors import NotStored, UplinkLost
from agent.uplink.file_transfer import IN, OUT, RemoteFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
ODD = {errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ENODEV}
"""errors on opening a link, a pipe without a reader, a folder, or a missing device"""
MOST_NAMES = 50_000
"""files in one folder; the same limit as over SFTP"""


class Folder:
    """Files under one path (agent.uplink.file_transfer.RemoteFolder)."""

    def __init__(
        self, root: Path, folders: tuple[str, ...] = (IN, OUT), most_names: int = MOST_NAMES
    ) -> None:
        """Raises UplinkLost if a folder is missing, as in an empty mount point."""
        self._root, self._most_names = root, most_names
        if not root.is_dir():
            raise UplinkLost(f"the folder {root} does not exist. Is it mounted?")
        for folder in folders:
            if not (root / folder).is_dir():
                raise UplinkLost(
                    f"{root} has no folder `{folder}`. Is it mounted? If it is, create {root}/{IN},"
                    f" where gardien writes, and {root}/{OUT}"
                )

    def used(self) -> int:
        """0: no bytes go over a network."""
        return 0

    def entry(self, path: str) -> RemoteFile | None:
        """The file at a path, or None."""
        with self._translated(path):
            try:
                facts = (self._root / path).lstat()
            except FileNotFoundError:
                return None
            if not stat.S_ISREG(facts.st_mode):
                return None  # a folder, a link, or a pipe, which would block for ever
            return RemoteFile(path.rpartition("/")[2], facts.st_size, facts.st_mtime)

    def entries(self, folder: str) -> list[RemoteFile]:
        """All files in a folder. Raises NotStored if there are too many."""
        with self._translated(folder):
            if not (self._root / folder).is_dir():
                return []
            with os.scandir(self._root / folder) as scan:
                names = [item.name for item in islice(scan, self._most_names + 1)]
            if len(names) > self._most_names:
                where = self._root / folder
                raise NotStored(f"{where}: more than {self._most_names} files. Remove the old ones")
            entries = (self.entry(f"{folder}/{name}") for name in names)
            return [entry for entry in entries if entry]

    def read(self, path: str, most: int) -> bytes | None:
        """At most `most` bytes of a file, or None if there is no such file."""
        with self._translated(path):
            try:
                handle = self._opened(path, os.O_RDONLY)
            except FileNotFoundError:
                return None
            with os.fdopen(handle, "rb") as file:
                return file.read(most)

    def append(self, path: str, offset: int, content: bytes) -> None:
        """Write from `offset` on, and flush to the disk."""
        how = os.O_RDWR if offset else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with (
            self._translated(path),
            os.fdopen(self._opened(path, how), "r+b" if offset else "wb") as file,
        ):
            file.seek(offset)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def _opened(self, path: str, how: int) -> int:
        """Open a regular file without following a link or waiting for a pipe or device."""
        safe_flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            handle = os.open(self._root / path, how | safe_flags, 0o666)
        except OSError as error:
            if error.errno in ODD:
                raise NotStored(f"{self._root / path} is not a regular file. Remove it") from error
            raise
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise NotStored(f"{self._root / path} is not a regular file. Remove it")
        return handle

    def rename(self, path: str, to: str) -> None:
        """Rename a file, replacing the file that has the name."""
        with self._translated(to):
            (self._root / path).replace(self._root / to)
            # after a power cut the new name could be gone although the rename returned
            folder = os.open((self._root / to).parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def remove(self, path: str) -> None:
        """Remove a file."""
        with self._translated(path):
            (self._root / path).unlink(missing_ok=True)

    @contextmanager
    def _translated(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = self._root / path
            if error.errno in FULL:
                raise NotStored(f"no space left for {where}. Free some space there") from error
            if error.errno in DENIED:
                raise NotStored(
                    f"{where}: permission denied. Give gardien the right to write there"
                ) from error
            raise UplinkLost(f"{where}: {error.strerror}. Is {self._root} mounted?") from error

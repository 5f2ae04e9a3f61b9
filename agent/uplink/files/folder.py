"""The remote folder of an uplink or export: how files appear whole; a folder of this machine."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast
from urllib.parse import urlsplit

from agent.core.errors import NotStored, UplinkLost
from agent.core.optional import command, lacking

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from agent.core.model import BatchId, SealedBatch
    from agent.core.settings import Secret
    from agent.uplink.base import BackupMessage
    from agent.uplink.request_worker import Connection

IN, OUT, OBJECTS = "in", "out", "out/objects"
RECEIPT, SIGNED = ".receipt.json", ".receipt.jwt"
PART = ".part"
CARRIED = ".carried.p7m"
"""suffix of a batch that is encrypted for the stick only: its hash is that of the content"""
STATUS = ".status"
"""suffix of the status document, after gateway and recipient"""
BUILDING = ".building"
DIGITS = 8
"""hexadecimal digits of the sha256 in the name of a partial file"""
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
ODD = {errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ENODEV}
"""errors on opening a link, a pipe without a reader, a folder, or a missing device"""
MOST_NAMES = 50_000
"""files in one folder; the same limit as over SFTP"""
PORT = 22


class RemoteFile(NamedTuple):
    """A file in the remote folder."""

    name: str
    size: int
    changed: float


class RemoteFolder(Protocol):
    """A folder that the recipient reads. Paths are relative to it; calls raise NotStored or
    UplinkLost.
    """

    def used(self) -> int:
        """Bytes sent and received since the connection was opened."""
        ...

    def entry(self, path: str) -> RemoteFile | None:
        """The file at a path, or None."""
        ...

    def entries(self, folder: str) -> list[RemoteFile]:
        """All files in a folder; none if there is no such folder."""
        ...

    def read(self, path: str, most: int) -> bytes | None:
        """At most `most` bytes of a file, or None if there is no such file."""
        ...

    def append(self, path: str, offset: int, content: bytes) -> None:
        """Write from `offset`, the present length of the file; at 0, create it."""
        ...

    def rename(self, path: str, to: str) -> None:
        """Rename a file, replacing the file that has the name."""
        ...

    def remove(self, path: str) -> None:
        """Remove a file if it exists."""
        ...


def stem(id_: BatchId) -> str:
    """File name without extension: the recipient's key for the batch (rule T12)."""
    return f"{id_.gateway}_{id_.recipient}_{id_.epoch}_{id_.seq}"


def name(batch: SealedBatch) -> str:
    """The file name of a batch."""
    return f"{stem(batch.id)}.{batch.form}"


def carry(remote: RemoteFolder, batch: SealedBatch) -> None:
    """Upload a batch. Raises NotStored or UplinkLost; a partial upload stays, to be resumed."""
    final = f"{IN}/{name(batch)}"
    if not batch.rows:
        _clear(remote, batch)  # the batch that this void replaces may still be there
    # it is there, and only the receipt is late: uploading it again at each resend would cost data
    elif (there := remote.entry(final)) and there.size == len(batch.payload):
        return
    bring(remote, final, batch.payload, batch.sha256)


def bring(remote: RemoteFolder, final: str, content: bytes, sha256: str) -> None:
    """Upload a file, resume a partial upload, and replace the file that has the name.

    Raises NotStored or UplinkLost; a partial upload stays, to be resumed.
    """
    part = f"{final}.{sha256[:DIGITS]}{PART}"
    partial = remote.entry(part)
    offset = partial.size if partial else 0
    if offset > len(content):
        remote.remove(part)
        offset = 0
    remote.append(part, offset, content[offset:])
    # ask the server again: SFTP can acknowledge a write that its full disk lost
    whole = remote.entry(part)
    if whole is None or whole.size != len(content):
        kept = whole.size if whole else 0
        raise NotStored(
            "only {kept} of {number} B of {final} were stored. The disk there may be full",
            kept=kept,
            number=len(content),
            final=final,
        )
    remote.rename(part, final)


def bring_building(remote: RemoteFolder, message: BackupMessage) -> str:
    """Upload a backup, remove partial uploads of older ones, and return its file name."""
    file = f"{message.gateway}_{message.recipient}{BUILDING}"
    bring_alone(remote, file, message.content, message.sha256)
    return file


def bring_alone(remote: RemoteFolder, file: str, content: bytes, sha256: str) -> None:
    """Upload a file that replaces its predecessor. Raises NotStored or UplinkLost."""
    ours = f"{file}.{sha256[:DIGITS]}{PART}"
    for entry in remote.entries(IN):
        if entry.name.startswith(f"{file}.") and entry.name != ours:
            remote.remove(f"{IN}/{entry.name}")  # partial upload of an older one
    bring(remote, f"{IN}/{file}", content, sha256)


def _clear(remote: RemoteFolder, batch: SealedBatch) -> None:
    """Remove other files of the same batch id, partial or complete."""
    ours = f"{name(batch)}.{batch.sha256[:DIGITS]}{PART}"
    for entry in remote.entries(IN):
        if entry.name.startswith(f"{stem(batch.id)}.") and entry.name != ours:
            remote.remove(f"{IN}/{entry.name}")


class Folder:
    """Files under one path (agent.uplink.files.folder.RemoteFolder)."""

    def __init__(
        self, root: Path, folders: tuple[str, ...] = (IN, OUT), most_names: int = MOST_NAMES
    ) -> None:
        """Raises UplinkLost if a folder is missing, as in an empty mount point."""
        self._root, self._most_names = root, most_names
        if not root.is_dir():
            raise UplinkLost("the folder {root} does not exist. Is it mounted?", root=root)
        for folder in folders:
            if not (root / folder).is_dir():
                raise UplinkLost(
                    "{root} has no folder `{folder}`. Is it mounted? If it is, create"
                    " {root}/{incoming}, where gardien writes, and {root}/{out}",
                    root=root,
                    folder=folder,
                    incoming=IN,
                    out=OUT,
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
                raise NotStored(
                    "{where}: more than {most_names} files. Remove the old ones",
                    where=where,
                    most_names=self._most_names,
                )
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
                raise NotStored(
                    "{root} is not a regular file. Remove it", root=self._root / path
                ) from error
            raise
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise NotStored("{root} is not a regular file. Remove it", root=self._root / path)
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
                raise NotStored(
                    "no space left for {where}. Free some space there", where=where
                ) from error
            if error.errno in DENIED:
                raise NotStored(
                    "{where}: permission denied. Give gardien the right to write there", where=where
                ) from error
            raise UplinkLost(
                "{where}: {reason}. Is {root} mounted?", where=where, reason=error, root=self._root
            ) from error


class FolderSettings(Protocol):
    """The settings of a remote folder."""

    @property
    def url(self) -> str | None:
        """URL of the SFTP server, or None."""
        ...

    @property
    def path(self) -> Path | None:
        """Local folder, or None."""
        ...

    @property
    def host_key(self) -> str:
        """The server's public key."""
        ...

    @property
    def key(self) -> Secret | None:
        """Our private key for the server."""
        ...

    @property
    def timeout(self) -> float:
        """Seconds to wait for an answer."""
        ...


def place(
    settings: FolderSettings, connection: Connection, folders: tuple[str, ...] = (IN, OUT)
) -> AbstractContextManager[RemoteFolder]:
    """Open the remote folder; `folders` must exist in it. Entering raises UplinkLost."""
    if settings.path is not None:
        return _folder(settings.path, folders)
    parts = urlsplit(settings.url or "")
    assert settings.key is not None
    path = parts.path.rstrip("/") + "/" if parts.path else ""
    if command("paramiko"):
        raise UplinkLost(lacking("paramiko"))
    sftp = import_module(
        "agent.uplink.files.sftp"
    )  # imported late: paramiko takes 12 MB that a local folder does not need
    server = sftp.SftpServer(
        host=parts.hostname,
        port=parts.port or PORT,
        user=parts.username,
        path=path,
        host_key=settings.host_key,
        key=settings.key,
        timeout=settings.timeout,
    )
    return cast("AbstractContextManager[RemoteFolder]", sftp.connected(server, connection, folders))


@contextmanager
def _folder(path: Path, folders: tuple[str, ...]) -> Iterator[RemoteFolder]:
    yield Folder(path, folders)

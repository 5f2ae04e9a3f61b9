"""The file with the registry's documents. It is always complete, even after kill -9.

TinyDB's own storage overwrites the file in place; a kill between its write and its truncation
leaves an unreadable file (12 of 100 kills, measured). This storage writes a new file beside the old
one, makes it durable, and renames it.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

from tinydb.storages import Storage

from agent.core.atomic_write import DiskWriter, Reserve
from agent.core.errors import NotRecorded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Documents = dict[str, dict[str, Any]]


class AtomicStorage(Storage):
    """A TinyDB storage whose `write` is durable and complete when it returns.

    `fsync` makes the bytes or names behind a descriptor durable.
    """

    def __init__(self, path: Path, fsync: Callable[[int], None] = os.fsync) -> None:
        self._path = path
        self._fsync = fsync

    def read(self) -> Documents | None:
        """All documents; None if there is no file.

        Raises NotRecorded if the file cannot be read, because then nothing may be recorded over it.
        """
        try:
            documents: Documents = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise NotRecorded(
                f"{self._path}: this is not a registry that can be read ({error}); "
                f"it was left unchanged: restore a copy of it"
            ) from error
        return documents

    def write(self, data: Documents) -> None:
        """Replace all documents; on a full disk in the space of the reserve.

        Raises OSError if the disk does not accept them.
        """
        DiskWriter.make(lambda: self._write(data))

    def _write(self, data: Documents) -> None:
        # a full disk must still accept a withdrawal: it gets the space of the reserve
        reserve = Reserve(self._path.parent)
        reserve.for_(lambda: self._replace(self.stage(data, "new")))
        reserve.stand(self._room())

    def _room(self) -> int:
        """Bytes to reserve for writing the documents once more with additions."""
        return max(Reserve.SIZE, self._path.stat().st_size + Reserve.SIZE // 2)

    def stage(self, data: Documents, name: str) -> Path:
        """Write all documents beside the current ones, durably. Raises OSError.

        May be called in any thread: nobody reads them before `settle`.
        """
        new = self._path.with_suffix(f".{name}")
        DiskWriter.must_answer()
        try:
            with open(new, "wb", opener=_private) as file:
                file.writelines(_encoded(data))
                file.flush()
                self._fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                new.unlink()
            raise
        return new

    def settle(self, new: Path) -> None:
        """Replace the current documents with staged ones. Raises OSError."""
        DiskWriter.make(lambda: self._replace(new))

    def _replace(self, new: Path) -> None:
        try:
            # after an error the staged file must go: a full disk needs its room
            new.replace(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                new.unlink()
            raise
        sync_folder(self._path.parent, self._fsync)


class RegistryFile(Storage):
    """A TinyDB storage that reads the current documents and stages what it writes; the last write
    counts.
    """

    def __init__(self, storage: AtomicStorage, name: str) -> None:
        self._storage, self._name = storage, name
        self.staged: Path | None = None

    def read(self) -> Documents | None:
        """The staged documents, or else the current ones. Raises Refused if they cannot be read."""
        return self._storage.read() if self.staged is None else AtomicStorage(self.staged).read()

    def write(self, data: Documents) -> None:
        """Stage all documents. Raises OSError if the disk does not accept them."""
        self.staged = self._storage.stage(data, self._name)


def _encoded(data: Documents) -> Iterator[bytes]:
    """The documents as JSON, one at a time: encoding a long list at once would block every
    thread.
    """
    separator = "{"
    for table, rows in data.items():
        yield f"{separator}{json.dumps(table)}:".encode()
        between = "{"
        for number, row in rows.items():
            text = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
            yield f"{between}{json.dumps(number)}:{text}".encode()
            between = ","
        yield b"}" if rows else b"{}"
        separator = ","
    yield b"}" if data else b"{}"


def sync_folder(folder: Path, fsync: Callable[[int], None] = os.fsync) -> None:
    """Make the names in a folder durable: a rename changes the folder, not the file."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fsync(descriptor)
    finally:
        os.close(descriptor)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)

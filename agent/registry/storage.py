"""Where the registry's documents lie: one file, always whole, whatever dies.

TinyDB's own storage overwrites in place, and a kill between its write and its truncation leaves a
file nobody can read (12 of 100 kills, measured). Here a new file is written beside the old one,
made durable, and renamed over it.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

from tinydb.storages import Storage

from agent.atomic_write import DiskWriter, Reserve
from agent.errors import NotRecorded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Documents = dict[str, dict[str, Any]]


class AtomicStorage(Storage):
    """A TinyDB storage whose `write` has happened, durably and as a whole, when it returns.

    `fsync` makes the bytes or the names behind a descriptor durable.
    """

    def __init__(self, path: Path, fsync: Callable[[int], None] = os.fsync) -> None:
        self._path = path
        self._fsync = fsync

    def read(self) -> Documents | None:
        """Read all documents; None where there is no file.

        Raises NotRecorded if it is not readable: nothing can be recorded beside what stands then.
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
        """Replace all documents, on a full disk in the room of the reserve.

        Raises OSError when the disk does not take them.
        """
        DiskWriter.make(lambda: self._write(data))

    def _write(self, data: Documents) -> None:
        reserve = Reserve(self._path.parent)
        reserve.for_(lambda: self._replace(self.stage(data, "new")))
        reserve.stand(self._room())

    def _room(self) -> int:
        """Bytes that the documents may need once more, whatever is added to them."""
        return max(Reserve.SIZE, self._path.stat().st_size + Reserve.SIZE // 2)

    def stage(self, data: Documents, name: str) -> Path:
        """Write all documents beside those that stand, durably. Raises OSError.

        Any thread may: nobody reads them before they are settled.
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
        """Let staged documents take the place of those that stand. Raises OSError."""
        DiskWriter.make(lambda: self._replace(new))

    def _replace(self, new: Path) -> None:
        try:
            new.replace(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                new.unlink()
            raise
        sync_folder(self._path.parent, self._fsync)


class RegistryFile(Storage):
    """A TinyDB storage that reads what stands, and writes beside it; its last write counts."""

    def __init__(self, storage: AtomicStorage, name: str) -> None:
        self._storage, self._name = storage, name
        self.staged: Path | None = None

    def read(self) -> Documents | None:
        """Read what was staged, else what stands. Raises Refused if it is not readable."""
        return self._storage.read() if self.staged is None else AtomicStorage(self.staged).read()

    def write(self, data: Documents) -> None:
        """Stage all documents. Raises OSError when the disk does not take them."""
        self.staged = self._storage.stage(data, self._name)


def _encoded(data: Documents) -> Iterator[bytes]:
    """One document after the other: encoded at once, those of a long list hold every thread."""
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
    """Make the names in a folder durable: a rename is in the folder's data, not in the file's."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fsync(descriptor)
    finally:
        os.close(descriptor)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)

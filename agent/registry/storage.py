"""The files with the registry's documents: a snapshot, and a log of what was added since.

`registry.json` is the snapshot, replaced as a whole. It names its log: `registry-ID.log` beside it
has one line for each change since, so a change costs as much as it says, however large the registry
is. A line is a checksum, which also covers all lines before it and the snapshot's ID, and the added
documents as JSON. No log can therefore be taken for the log of another snapshot, and no line can be
missing. Together the two files are complete even after kill -9.

TinyDB's own storage overwrites the file in place; a kill between its write and its truncation
leaves an unreadable file (12 of 100 kills, measured).
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
from contextlib import suppress
from dataclasses import asdict, fields
from decimal import Decimal
from hashlib import sha256
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from tinydb.storages import Storage
from tinydb.table import Table

from agent.core.atomic_write import DiskWriter, Reserve
from agent.core.errors import NotRecorded
from agent.core.i18n import Text
from agent.registry.facts.place import PARTICULARS
from agent.registry.records import (
    Alias,
    Consent,
    ConsentMark,
    Document,
    Duty,
    FactorProof,
    Form,
    Installation,
    Occupancy,
    Place,
    Provenance,
    Withdrawal,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

KINDS: dict[str, type[Document]] = {
    cls.kind: cls
    for cls in (
        Place,
        Alias,
        Occupancy,
        Installation,
        Consent,
        Withdrawal,
        ConsentMark,
        Form,
        Duty,
        FactorProof,
    )
}
NAMES = {kind: tuple(member.name for member in fields(cls)) for kind, cls in KINDS.items()}
NUMBERS = ("multiplier", "offset", "factor", "excludes")
INDEXES = ("opened", "closed")
UNKNOWN_BEFORE = {field.name for field in PARTICULARS}
LISTS = ("channels", "billing", "asked", "after", "answers")
Row = dict[str, Any]
Documents = dict[str, dict[str, Row]]

TABLE, LOG = "documents", "log"
"""tables of the snapshot: the documents; the ID of its log. Versions of gardien that know no log
refuse a file with a second table
"""
ID = re.compile("[0-9a-f]{16}")
WORTH_FOLDING = 256 * 1024
"""bytes of a log; a shorter one needs no new snapshot"""
WRITTEN_AT_ONCE = 1 << 20
"""bytes. A thread that writes every millisecond gives up the interpreter for so short a time that
no other thread gets it: with the usual 8 kB the event loop stood still for up to 150 ms of 230
"""


def to_row(document: Document) -> dict[str, Any]:
    """A document as it is stored."""
    # not `asdict` of all: it copies each member, and a large registry has 100,000 documents
    members = {name: getattr(document, name) for name in NAMES[document.kind]}
    row = {"kind": document.kind, **members, "word": asdict(document.word)}
    for name in NUMBERS:
        if name in row:
            row[name] = _digits(row[name])
    if isinstance(document, Installation):
        for name in INDEXES:
            row[name] = [[channel, _digits(value)] for channel, value in row[name]]
    # the previous version reads a registry without members that it does not know
    for name in UNKNOWN_BEFORE & row.keys():
        if row[name] is None:
            del row[name]
    return row


def _digits(value: Decimal) -> str:
    # as text, without an exponent: a JSON number would be read as a float and lose digits
    return format(value, "f")


def from_row(row: dict[str, Any]) -> Document:
    """A stored document. Raises KeyError, TypeError or ValueError if the row is not one."""
    members = dict(row)
    cls = KINDS[members.pop("kind")]
    provenance = Provenance(**members.pop("word"))
    # an older file lacks members that were added later, and JSON has lists in place of tuples
    for name in LISTS:
        if name in members:
            members[name] = tuple(members[name])
    for name in NUMBERS:
        if name in members:
            members[name] = Decimal(members[name])
    for name in INDEXES:
        if name in members:
            members[name] = tuple((channel, Decimal(value)) for channel, value in members[name])
    return cls(**members, word=provenance)


class Staged(NamedTuple):
    """A snapshot that was written and is not in force yet."""

    path: Path
    id: str
    """names its log; empty: it has none"""


class LogEnd(NamedTuple):
    """Where the next line of a log begins."""

    path: Path
    size: int
    checksum: bytes
    """of the last line"""
    snapshot: tuple[int, ...]
    """identifies the file that the log belongs to"""


class RegistryStorage(Storage):
    """A TinyDB storage whose changes are durable and complete when a call returns.

    `fsync` makes the bytes or names behind a descriptor durable.
    """

    def __init__(self, path: Path, fsync: Callable[[int], None] = os.fsync) -> None:
        self._path = path
        self._fsync = fsync
        self.logs = False
        """whether a snapshot without a log gets one; earlier versions of gardien read none"""
        self._id = ""
        self._end: LogEnd | None = None
        """None: the next change needs a new snapshot"""

    def read(self) -> Documents | None:
        """All documents of snapshot and log; None if there is no file. They are as many tables as
        the file has, the log's own excepted.

        Raises NotRecorded if a file cannot be read, because then nothing may be recorded over it.
        """
        return self._read()[0]

    def load(self) -> Documents | None:
        """As `read`; later changes continue from here."""
        documents, self._id, self._end = self._read()
        return documents

    def _read(self) -> tuple[Documents | None, str, LogEnd | None]:
        while True:
            try:
                snapshot = self._identity()
                documents: Documents = json.loads(self._path.read_bytes())
            except FileNotFoundError:
                return None, "", None
            except (OSError, ValueError) as error:
                raise self._unreadable(self._path, error) from error
            if not isinstance(documents, dict) or LOG not in documents:
                return documents, "", None
            log = self._path
            try:
                id_ = ID.fullmatch(documents.pop(LOG)["1"]["id"])[0]  # type: ignore[index]
                log = self._log(id_)
                content = log.read_bytes()
                whole, checksum = _merge(content, id_, documents[TABLE])
            except (AttributeError, LookupError, OSError, TypeError, ValueError) as error:
                with suppress(OSError):
                    if self._identity() != snapshot:
                        continue  # this is another process, and the agent has replaced both files
                raise self._unreadable(log, error) from error
            # A torn line stays where it is: the next change writes a new snapshot.
            end = LogEnd(log, whole, checksum, snapshot) if whole == len(content) else None
            return documents, id_, end

    def _unreadable(self, path: Path, error: Exception) -> NotRecorded:
        return NotRecorded(
            "{path}: this is not a registry that can be read ({error}); it was left"
            " unchanged: restore a copy of {name} and of its log, both of the same time",
            path=path,
            error=error,
            name=self._path.name,
        )

    def _log(self, id_: str) -> Path:
        return self._path.with_name(f"{self._path.stem}-{id_}.log")

    def _identity(self) -> tuple[int, ...]:
        status = self._path.stat()
        return status.st_ino, status.st_mtime_ns, status.st_size

    @property
    def long(self) -> bool:
        """Whether the log is so long that it should become part of a new snapshot."""
        return self._end is not None and self._end.size > self._longest(self._end)

    @staticmethod
    def _longest(end: LogEnd) -> int:
        """Bytes. In proportion to the snapshot, so that a change costs a few times its own size
        even if the snapshots are counted in.
        """
        return max(WORTH_FOLDING, end.snapshot[2] // 2)

    # changes

    def append(self, rows: Mapping[str, Row]) -> None:
        """Add documents, by number; on a full disk in the space of the reserve.

        Raises OSError if the disk does not accept them, and NotRecorded as `read` does.
        """
        DiskWriter.make(lambda: self._append(rows))

    def write(self, data: Documents) -> None:
        """Replace all documents by a new snapshot, likewise."""
        DiskWriter.make(lambda: self._write(data))

    def _append(self, rows: Mapping[str, Row]) -> None:
        end = self._end
        if end is None or not self._may_follow(end):
            documents = self.read()
            if documents is None:
                documents = {TABLE: {}}
            documents[TABLE].update(rows)
            self._write(documents)
            return
        text = _json(rows)
        checksum = _checksum(end.checksum, text)
        line = b"%b %b\n" % (checksum, text)
        # a full disk must still accept a withdrawal: it gets the space of the reserve
        reserve = Reserve(self._path.parent)
        self._end = None
        reserve.for_(lambda: self._add(line, end))
        self._end = end._replace(size=end.size + len(line), checksum=checksum)
        reserve.stand(self._room())

    def _may_follow(self, end: LogEnd) -> bool:
        """Whether nobody has changed the files, and the log has not grown far beyond its length
        because no agent runs that would begin a new one.
        """
        try:
            unchanged = (self._identity(), end.path.stat().st_size) == (end.snapshot, end.size)
        except OSError:
            return False
        return unchanged and end.size <= 2 * self._longest(end)

    def _add(self, line: bytes, end: LogEnd) -> None:
        handle = os.open(end.path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            if os.pwrite(handle, line, end.size) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._fsync(handle)
        except OSError:
            # who made the change gets an error: it must not be in force after a restart
            with suppress(OSError):
                os.ftruncate(handle, end.size)
                self._fsync(handle)
            raise
        finally:
            os.close(handle)

    def _write(self, data: Documents) -> None:
        reserve, rows = Reserve(self._path.parent), data[TABLE].values()
        reserve.for_(lambda: self._settle(self.stage(rows, "new")))
        reserve.stand(self._room())

    def _room(self) -> int:
        """Bytes to reserve for writing all documents once more with additions."""
        log = self._longest(self._end) if self._end else 0
        return max(Reserve.SIZE, self._path.stat().st_size + log + Reserve.SIZE // 2)

    def stage(self, rows: Iterable[Row], name: str) -> Staged:
        """Write a snapshot beside the current one, durably. Raises OSError.

        May be called in any thread: nobody reads it before `settle`.
        """
        new = self._path.with_suffix(f".{name}")
        id_ = secrets.token_hex(8) if self.logs or self._id else ""
        DiskWriter.must_answer()
        try:
            with open(new, "wb", WRITTEN_AT_ONCE, opener=_private) as file:
                file.writelines(_encoded(rows, id_))
                file.flush()
                self._fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                new.unlink()
            raise
        return Staged(new, id_)

    def settle(self, staged: Staged) -> None:
        """Put a staged snapshot in force in place of the current files. Raises OSError."""
        DiskWriter.make(lambda: self._settle(staged))

    def _settle(self, staged: Staged) -> None:
        log, self._end = self._log(staged.id), None
        try:
            # the snapshot must never name a log that is not there
            if staged.id:
                os.close(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
                sync_folder(self._path.parent, self._fsync)
            staged.path.replace(self._path)
        except OSError:
            # a full disk needs their room
            for path in (staged.path, *((log,) if staged.id else ())):
                with suppress(OSError):
                    path.unlink()
            raise
        self._id = staged.id
        sync_folder(self._path.parent, self._fsync)
        if staged.id:
            self._end = LogEnd(log, 0, staged.id.encode(), self._identity())
        # not before: a power cut may have brought the earlier snapshot back
        for other in self._path.parent.glob(f"{self._path.stem}-*.log"):
            if other != log and ID.fullmatch(other.stem.removeprefix(f"{self._path.stem}-")):
                with suppress(OSError):
                    other.unlink()


class DocumentTable(Table):
    """A TinyDB table to which documents are only added, so that adding one reads none."""

    def __init__(self, storage: RegistryStorage, length: int) -> None:
        super().__init__(storage, TABLE)
        self._append, self._numbers = storage.append, count(length + 1)

    def _get_next_id(self) -> int:
        return next(self._numbers)

    def _update_table(self, updater: Callable[[dict[int, Mapping[str, Any]]], None]) -> None:
        added: dict[int, Mapping[str, Any]] = {}
        updater(added)
        self._append({str(number): dict(row) for number, row in added.items()})


def _merge(content: bytes, id_: str, rows: dict[str, Row]) -> tuple[int, bytes]:
    """Add the documents of a log to `rows`. Return how many bytes of it are whole, and the last
    checksum. Raises ValueError if a line is neither whole nor torn by a power cut.

    Only the last line can be torn, because the next one is written after it is durable. It was
    never acknowledged.
    """
    *lines, rest = content.split(b"\n")
    size, last = 0, id_.encode()
    for number, line in enumerate(lines, 1):
        checksum, _, text = line.partition(b" ")
        if checksum != _checksum(last, text):
            # pieces that did not reach the disk read as zeros, which JSON never contains
            if number == len(lines) and not rest and b"\0" in line:
                break
            raise ValueError(Text("line {number} is damaged", number=number))
        rows.update(json.loads(text))
        size, last = size + len(line) + 1, checksum
    return size, last


def _checksum(last: bytes, text: bytes) -> bytes:
    return sha256(last + text).hexdigest()[:16].encode()


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _encoded(rows: Iterable[Row], id_: str) -> Iterator[bytes]:
    """A snapshot as JSON, a document at a time: encoding a long list at once would block every
    thread.
    """
    yield b'{"%b":{' % TABLE.encode()
    for number, row in enumerate(rows, 1):
        yield b'%b"%d":%b' % (b"," if number > 1 else b"", number, _json(row))
    yield b"}}" if not id_ else b'},"%b":{"1":{"id":"%b"}}}' % (LOG.encode(), id_.encode())


def sync_folder(folder: Path, fsync: Callable[[int], None] = os.fsync) -> None:
    """Make the names in a folder durable: a rename changes the folder, not the file."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fsync(descriptor)
    finally:
        os.close(descriptor)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)

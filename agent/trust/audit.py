"""The audit chain: an append-only record of all decisions, each bound to all records before it.

One line is one record in RFC 8785 form, `{n, t, boot, type, body, prev}`. Its hash is
SHA-256(prev ‖ line). Every batch has the latest hash, so a platform notices if a record is removed
later. Bodies hold ids and accounts, but no readings and no names of occupants.

A folder holds files of 256 KiB, named by their first record. The oldest file is deleted once its
records are five years old or the folder is full, but only after a recipient has receipted a batch
with the hash of a later record.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.core import clock
from agent.core.atomic_write import NO_ROOM, DiskWriter, Reserve, StateFile
from agent.core.clock import stamp
from agent.core.errors import Refused
from agent.core.i18n import N_, Text
from agent.core.log_fields import LogEvent, fields

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

log = logging.getLogger(__name__)

LARGEST = 2**53 - 1
"""the largest integer that all JSON readers represent exactly"""
FOLDER = "audit"
BEGIN = "0" * 64
"""`prev` of the first record"""
SEGMENT = 256 * 1024
"""bytes of one file: a start reads one file"""
MOST_SEGMENTS = 256
OTHERS_SEGMENTS = 192
"""number of files from which senders' records may only displace files older than a year"""
KEPT_FOR = 5 * 366 * 86_400
"""seconds for which a record is kept"""
YEAR = 366 * 86_400
RECEIPTED = "receipted.json"
"""file with the last record whose hash a recipient has receipted"""
LONGEST_LINE = 64 * 1024
MOST_RECORDS = 1_000
"""most records in an answer of `audit.list`"""
NOT_IN_CHAIN = N_(
    "no record here has the hash {hash}: this is another chain, or records were removed"
)
NAME = re.compile(r"\d{12}\.jsonl")


def canonical(value: Any) -> bytes:
    """Encode with members sorted by UTF-16 code units and without spaces.

    Raises ValueError on a fraction, an integer beyond 2⁵³ or a lone surrogate.
    """
    return _text(value).encode("utf-8")


def _text(value: Any) -> str:
    if isinstance(value, dict):
        # Python's order of text differs from RFC 8785 for characters beyond U+FFFF
        members = sorted(value.items(), key=lambda member: _units(member[0]))
        return "{" + ",".join(f"{_text(name)}:{_text(inner)}" for name, inner in members) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_text(inner) for inner in value) + "]"
    # before numbers: for Python True is an int, and `True` is not JSON
    if isinstance(value, bool | str) or value is None:
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int) and abs(value) <= LARGEST:
        return str(value)
    raise ValueError(Text("{value!r} has no canonical form here", value=value))


def _units(name: object) -> bytes:
    if not isinstance(name, str):
        raise ValueError(Text("{name!r} is not a member name", name=name))  # noqa: TRY004 -- one kind of fault
    return name.encode("utf-16-be")


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One decision."""

    n: int
    t: str
    type: str
    body: dict[str, Any]
    hash: str


class Broken(Refused):
    """The chain is broken; the message names the first wrong record."""


class Chain:
    """The chain of one state directory, open for appending by one process only."""

    def __init__(
        self,
        state: Path,
        now: Callable[[], float],
        fsync: Callable[[int], None] = os.fsync,
        segment: int = SEGMENT,
    ) -> None:
        self._folder, self._now, self._fsync, self._segment = state / FOLDER, now, fsync, segment
        self._boot = clock.boot_id()
        self._n, self.last = 0, BEGIN
        self._latest: dict[str, AuditRecord] = {}
        self.torn = 0
        """bytes of an unfinished last line, left by a kill or a power cut"""
        self.thinned = 0
        """records deleted for space before a recipient had receipted a later hash"""
        self._receipted_file, self._receipted = _receipted(self._folder), 0
        self._unsure = False
        """a write failed: its record may still be in the file, so it is read again before the next
        one
        """
        try:
            DiskWriter.make(self._open)
        except OSError:  # it may still be readable
            self._unsure = True
            self._read()

    def _open(self) -> None:
        """Make the chain ready for its next record, and read it."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if files := segments(self._folder):
            self.torn = _cut_torn_line(files[-1], self._fsync)
            if not files[-1].stat().st_size:
                # a kill came between the creation of a file and its first line
                files[-1].unlink()
        self._read()

    def _read(self) -> None:
        """Read the last file that has a record."""
        self._receipted = self._receipted_file.load(partial(setattr, self, "_receipted"))
        for file in reversed(segments(self._folder)):
            last = None
            try:
                for record in _records(file, None):
                    self._latest[record.type] = last = record
            except Broken as error:
                self._begin_anew(error)
                return
            if last is not None:
                self._n, self.last = last.n, last.hash
                return
        self._n, self.last = 0, BEGIN

    def _begin_anew(self, error: Broken) -> None:
        """Move a chain that the disk has damaged to another folder for inspection, and begin a new
        chain with a record of that.
        """
        damaged = self._folder.with_name(f"{FOLDER}.damaged-{stamp(self._now())}")
        self._folder.rename(damaged)
        self._folder.mkdir(mode=0o700)
        self._n, self.last, self._latest, self._receipted = 0, BEGIN, {}, 0
        log.error(
            "%s: the audit chain was moved to %s and a new one begun", error, damaged,
            extra=fields(LogEvent.STORE_DAMAGED, store=FOLDER),
        )  # fmt: skip
        self.append("audit.begun", {"aside": damaged.name})

    @property
    def length(self) -> int:
        """Number of the last record."""
        return self._n

    def latest(self, type_: str) -> dict[str, Any] | None:
        """The body of the last record of a type; None: there is none here."""
        if type_ not in self._latest:
            for file in reversed(segments(self._folder)[:-1]):
                of_type = [one for one in _records(file, None) if one.type == type_]
                if of_type:
                    self._latest[type_] = of_type[-1]
                    break
        record = self._latest.get(type_)
        return record.body if record else None

    def append(self, type_: str, body: Mapping[str, Any]) -> str:
        """Write a record durably and return its hash. Raises OSError if the disk fails.

        A number with a fraction is written as text, since RFC 8785 is used for integers only.
        """
        # a failed write may have reached the disk: its number must not be used twice
        if self._unsure:
            DiskWriter.make(self._open)
            self._unsure = False
        record: dict[str, Any] = {
            "n": self._n + 1,
            "t": stamp(self._now()),
            "boot": self._boot,
            "type": type_,
            "body": _plain(body),
            "prev": self.last,
        }
        line = canonical(record)
        if len(line) >= LONGEST_LINE:
            raise ValueError(Text("a record of {number} bytes", number=len(line)))
        self._write_durably(line + b"\n")
        self._n, self.last = self._n + 1, _hash(self.last, line)
        self._latest[type_] = AuditRecord(self._n, record["t"], type_, record["body"], self.last)
        return self.last

    def _write_durably(self, line: bytes) -> None:
        try:
            DiskWriter.make(lambda: Reserve(self._folder.parent).for_(lambda: self._write(line)))
        except OSError as error:
            # a full disk has taken nothing, since `_write` cuts off what it took
            self._unsure = error.errno not in NO_ROOM
            raise

    def observe(self, type_: str, body: dict[str, Any]) -> bool:
        """Record an observation at start if it differs from the last one; returns whether
        it does.
        """
        differs = self.latest(type_) != body
        if differs:
            self.append(type_, body)
        return differs

    def _write(self, line: bytes) -> None:
        files = segments(self._folder)
        path = files[-1] if files else None
        if path is None or path.stat().st_size + len(line) > self._segment:
            path = self._folder / f"{self._n + 1:012}.jsonl"
            self._delete_old(files)
        size = path.stat().st_size if path.exists() else 0
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            try:
                # one write: a kill leaves at most the beginning of a line, which a start cuts off
                written = os.write(handle, line)
                if written != len(line):
                    raise OSError(28, "no space for a complete record")
                self._fsync(handle)
            except OSError:
                # a later record must not follow half of this one on the same line
                os.truncate(handle, size)
                raise
        finally:
            os.close(handle)
        # a power cut could otherwise remove the new file with an acknowledged record in it
        if not size:
            _sync_folder(self._folder, self._fsync)

    def receipted(self, digest: str) -> None:
        """Note that a recipient has receipted a batch with this hash.

        Records up to that one are now provable outside, and may be deleted when they are old
        enough. Raises NotRecorded.
        """
        n = self._number_of(digest)
        if n > self._receipted:
            self._receipted_file.save({"hash": digest, "n": n})
            self._receipted = n

    def _number_of(self, digest: str) -> int:
        """The number of the record with this hash, by the record after it; 0: it is not among those
        that are not receipted.
        """
        if digest == self.last:
            return self._n
        mark = f'"prev":"{digest}"'.encode()
        for file in reversed(segments(self._folder)):
            content = file.read_bytes()
            for line in content[: content.rfind(b"\n") + 1].splitlines():
                # a quick test first: a file may have a megabyte
                if mark in line and (record := _record(line, str(file)))["prev"] == digest:
                    return int(record["n"]) - 1
            # all earlier files are receipted already
            if int(file.stem) <= self._receipted:
                break
        return 0

    @property
    def has_room_for_senders(self) -> bool:
        """Whether records that senders of signed objects cause may be written.

        They must not displace records younger than a year, or records that no recipient can prove.
        """
        files = segments(self._folder)
        if len(files) < OTHERS_SEGMENTS:
            return True
        return self._may_go(files) and self._age(files[0]) > YEAR

    def _may_go(self, files: list[Path]) -> bool:
        """Whether all records of the oldest file are receipted."""
        return len(files) > 1 and int(files[1].stem) <= self._receipted

    def _age(self, path: Path) -> float:
        return self._now() - path.stat().st_mtime

    def _delete_old(self, files: list[Path]) -> None:
        while len(files) > 1:
            full, may_go = len(files) >= MOST_SEGMENTS, self._may_go(files)
            if not full and not (may_go and self._age(files[0]) > KEPT_FOR):
                return
            if not may_go:
                self.thinned += int(files[1].stem) - int(files[0].stem)
            files.pop(0).unlink()


def segments(folder: Path) -> list[Path]:
    """The files of a chain, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if NAME.fullmatch(path.name))


def _receipted(folder: Path) -> StateFile[int]:
    """The number of the last receipted record; 0: unknown."""
    compact = (",", ":")
    return StateFile(folder / RECEIPTED, lambda stored: int(stored["n"]), int, separators=compact)


def bodies(folder: Path, type_: str) -> Iterator[dict[str, Any]]:
    """The bodies of all records of a type, oldest first. They are not verified: see `verify`."""
    mark = f'"type":"{type_}"'.encode()
    for file in segments(folder):
        try:
            lines = file.read_bytes().splitlines()
        except FileNotFoundError:
            continue  # deleted meanwhile because of its age
        for line in lines:
            # a quick test first: a chain may have 64 MB
            if mark in line:
                with suppress(ValueError, LookupError, TypeError):
                    record = json.loads(line)
                    if record["type"] == type_:
                        yield dict(record["body"])


@dataclass(frozen=True, slots=True)
class ChainVerdict:
    """Result of a verification."""

    first: int
    last: int
    begun: str | None
    """time of the first record here"""
    hash: str
    """of the last record, as in the batches sent since"""
    torn: int
    """bytes of an unfinished last line"""
    hashes: frozenset[str] = frozenset()
    """which of the wanted hashes are in the chain"""


def verification_report(place: Path, wanted: str | None) -> dict[str, Any]:
    """The result of `verify` as plain data. Raises Refused if the wanted hash is missing."""
    verdict = verify(place, [wanted] if wanted else ())
    if wanted is not None and wanted not in verdict.hashes:
        raise Refused(NOT_IN_CHAIN, hash=wanted)
    return {name: one for name, one in asdict(verdict).items() if name != "hashes"}


def verify(place: Path, wanted: Collection[str] = ()) -> ChainVerdict:
    """Verify a chain from its first record here to its last; `place`: a file or a folder.

    Memory use does not grow with the chain. Raises Broken, which names the first wrong record, and
    OSError if a file cannot be read.
    """
    files = [place] if place.is_file() else segments(place)
    if not files:
        raise Refused("{place}: there is no audit chain", place=place)
    expected, hashes = frozenset(wanted), set()
    first: AuditRecord | None = None
    previous: AuditRecord | None = None
    torn = 0
    for file in files:
        torn = _torn(file)
        if torn and file != files[-1]:
            raise Broken(
                "{file}: its last line is incomplete, although another file follows", file=file
            )
        for record in _records(file, previous):
            first, previous = first or record, record
            if record.hash in expected:
                hashes.add(record.hash)
    if first is None or previous is None:
        return ChainVerdict(0, 0, None, BEGIN, torn)
    return ChainVerdict(first.n, previous.n, first.t, previous.hash, torn, frozenset(hashes))


def newest(place: Path, most: int, wanted: Callable[[AuditRecord], bool]) -> list[AuditRecord]:
    """The last `most` records for which `wanted` is true, newest last. Raises Broken, OSError."""
    records: list[AuditRecord] = []
    for file in reversed(segments(place)):
        records = [one for one in _records(file, None) if wanted(one)][-most:] + records
        if len(records) >= most:
            break
    return records[-most:]


def _records(path: Path, previous: AuditRecord | None) -> Iterator[AuditRecord]:
    """Each complete record of a file, verified against the record before. Raises Broken."""
    content = path.read_bytes()
    for number, line in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), start=1):
        record = _record(line, f"{path}:{number}")
        # without this, records could be removed from the beginning of the oldest file unnoticed
        if number == 1 and NAME.fullmatch(path.name) and record["n"] != int(path.stem):
            raise Broken(
                "{path}:1: record {stem} is missing, the first one is {n}",
                path=path,
                stem=int(path.stem),
                n=record["n"],
            )
        if previous is None:
            _begins(record, f"{path}:{number}")
        elif record["prev"] != previous.hash or record["n"] != previous.n + 1:
            raise Broken(
                "{path}:{number}: record {n} does not follow from {n_2}: one of them was"
                " changed, or records between them were removed",
                path=path,
                number=number,
                n=record["n"],
                n_2=previous.n,
            )
        previous = AuditRecord(
            record["n"], record["t"], record["type"], record["body"], _hash(record["prev"], line)
        )
        yield previous


def _record(line: bytes, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
        datetime.fromisoformat(record["t"])
        bytes.fromhex(record["prev"])
        # the same content in another spelling has another hash, so the bytes are compared
        complete = record.keys() == {"n", "t", "boot", "type", "body", "prev"}
        if not complete or not isinstance(record["n"], int) or canonical(record) != line:
            raise ValueError(Text("its bytes have changed"))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Broken(
            "{where}: not a record of the chain: {error}", where=where, error=error
        ) from None
    return dict(record)


def _begins(record: dict[str, Any], where: str) -> None:
    if (record["n"] == 1) != (record["prev"] == BEGIN):
        raise Broken("{where}: record {n} cannot be the first", where=where, n=record["n"])


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, bool | int):
        return value
    return str(value)


def _hash(previous: str, line: bytes) -> str:
    return hashlib.sha256(bytes.fromhex(previous) + line).hexdigest()


def _torn(path: Path) -> int:
    content = path.read_bytes()
    return len(content) - (content.rfind(b"\n") + 1)


def _cut_torn_line(path: Path, fsync: Callable[[int], None]) -> int:
    """Cut off an unfinished last line; its write was never confirmed. Returns its bytes."""
    torn = _torn(path)
    if torn:
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size - torn)
            fsync(file.fileno())
    return torn


def _sync_folder(folder: Path, fsync: Callable[[int], None]) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fsync(handle)
    finally:
        os.close(handle)

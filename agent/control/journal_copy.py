"""The copy of the journal's open rows that survives kill -9 and needs no disk (docs/control.md).

One file a row, in the volatile folder of the state (agent/storage.py), named by the journal's
random id and the row's number. A row is put there by a rename, and closed by a rename, which takes
no room: whatever dies at whatever byte, a file is there whole or not at all. What is closed stays
until the disk has it too.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.control.hold_record import HoldRecord, Phase, decode, encode
from agent.log_fields import LogEvent, fields
from agent.state import dying
from agent.storage import made

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

log = logging.getLogger(__name__)

NAME = re.compile(r"([0-9a-f]{16})-(\d{1,18})\.(open|closed|left)")
OPEN, CLOSED, LEFT = "open", "closed", "left"
LOCK = "lock"


@dataclass(frozen=True, slots=True)
class Copied:
    """One row as the copy has it."""

    journal: str
    """id of its journal"""
    record: HoldRecord
    state: str
    """OPEN, CLOSED, or LEFT: closed, and what stands there is somebody else's"""
    how: str = ""
    """how it was closed"""


class JournalCopy:
    """See the module. One process at a time has it open for writing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: int | None = None

    def lock(self) -> bool:
        """Be the only writer, until `close` or the end of the process; False: another one is. One
        that was killed and cannot end, for a disk holds it, writes no more.
        """
        if self._lock is None:
            path = made(self.folder) / LOCK
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not dying(_pid(handle)):
                    os.close(handle)
                    return False
            os.truncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
            self._lock = handle
        return True

    def close(self) -> None:
        """Let go; a folder in which nothing is left to do is removed."""
        if self._lock is None:
            return
        if not self.records():
            with suppress(OSError):
                (self.folder / LOCK).unlink()
                self.folder.rmdir()
        os.close(self._lock)
        self._lock = None

    def save(self, journal: str, record: HoldRecord) -> None:
        """Note an open row, in the place of what was noted of it. Raises OSError, Refused."""
        self._write(f"{journal}-{record.number}", OPEN, {"row": encode(record)})

    def close_row(self, journal: str, record: HoldRecord, *, left: bool) -> None:
        """Note that the device is free; what cannot be noted is logged, for nothing else helps."""
        name, state = f"{journal}-{record.number}", LEFT if left else CLOSED
        try:
            before = self.folder / f"{name}.{OPEN}"
            if before.exists():
                before.rename(self.folder / f"{name}.{state}")
            self._write(name, state, {"row": encode(record), "words": record.words})
        except OSError as error:  # no room for the words; the rename needed none
            log.warning(
                "how %s was closed could not be noted: %s", record.control, error,
                extra=fields(LogEvent.RECORD_NOT_WRITTEN, control=record.control),
            )  # fmt: skip

    def _write(self, name: str, state: str, body: dict[str, str]) -> None:
        new = made(self.folder) / f"{name}.new"
        new.write_text(json.dumps(body), encoding="utf-8")
        new.rename(self.folder / f"{name}.{state}")

    def drop(self, journal: str, record: HoldRecord) -> None:
        """Forget a closed row: the disk has it."""
        for state in (CLOSED, LEFT):
            (self.folder / f"{journal}-{record.number}.{state}").unlink(missing_ok=True)

    def forget(self, entries: Iterable[Copied]) -> None:
        """Drop what the disk has now."""
        for entry in entries:
            (self.folder / f"{entry.journal}-{entry.record.number}.{entry.state}").unlink(
                missing_ok=True
            )

    def records(self) -> list[Copied]:
        """All that is noted, closed before open; what cannot be read is logged, and left."""
        if not self.folder.is_dir():
            return []
        entries = [self._read(path) for path in sorted(self.folder.iterdir())]
        return sorted(filter(None, entries), key=lambda one: one.state == OPEN)

    def _read(self, path: Path) -> Copied | None:
        name = NAME.fullmatch(path.name)
        if name is None:
            return None
        try:
            body = json.loads(path.read_text(encoding="utf-8"))
            record = decode(int(name[2]), body["row"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error(  # noqa: TRY400 -- no bug
                "%s cannot be read, and is left: %s", path, error,
                extra=fields(LogEvent.STORE_DAMAGED, store=path.name),
            )  # fmt: skip
            return None
        if name[3] != OPEN:
            record = replace(record, phase=Phase.CLOSED)
        return Copied(name[1], record, name[3], str(body.get("words", "")))


def _pid(handle: int) -> int:
    text = os.pread(handle, 20, 0)
    return int(text) if text.isdigit() else 0

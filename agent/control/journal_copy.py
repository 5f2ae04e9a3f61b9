"""A copy of the journal's open hold records, which survives kill -9 and needs no disk.

Each record is one file in the volatile folder of the state (agent/core/storage.py), named by the
random id of the journal and the number of the record. A file appears and is closed by a rename,
which needs no space: at any moment it is complete or absent. A closed file stays until the disk has
the change too. See docs/control.md.
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
from agent.core.log_fields import LogEvent, fields
from agent.core.state import dying
from agent.core.storage import made

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

log = logging.getLogger(__name__)

NAME = re.compile(r"([0-9a-f]{16})-(\d{1,18})\.(open|closed|left)")
OPEN, CLOSED, LEFT = "open", "closed", "left"
LOCK = "lock"


@dataclass(frozen=True, slots=True)
class Copied:
    """One hold record of the copy."""

    journal: str
    """the id of its journal"""
    record: HoldRecord
    state: str
    """OPEN, CLOSED, or LEFT: closed, and somebody else's value was left at the point"""
    how: str = ""
    """how it was closed"""


class JournalCopy:
    """See the module. Only one process at a time writes to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: int | None = None

    def lock(self) -> bool:
        """Become the only writer, until `close` or the end of the process. False: another one is.

        A process that was killed, and cannot end because a disk blocks it, writes nothing more. Its
        lock is ignored.
        """
        if self._lock is None:
            path = made(self.folder) / LOCK
            # the kernel drops this lock when the process ends, also after kill -9
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
        """Release the lock. Remove the folder if it contains no record."""
        if self._lock is None:
            return
        if not self.records():
            with suppress(OSError):
                (self.folder / LOCK).unlink()
                self.folder.rmdir()
        os.close(self._lock)
        self._lock = None

    def save(self, journal: str, record: HoldRecord) -> None:
        """Write an open record; it replaces the earlier state. Raises OSError, Refused."""
        self._write(f"{journal}-{record.number}", OPEN, {"row": encode(record)})

    def close_record(self, journal: str, record: HoldRecord, *, left: bool) -> None:
        """Record that the device is released. A failure is logged: nothing else would help.

        `left`: somebody else's value was left at the point.
        """
        name, state = f"{journal}-{record.number}", LEFT if left else CLOSED
        try:
            # the rename comes first: it needs no space, and then the record counts as closed
            before = self.folder / f"{name}.{OPEN}"
            if before.exists():
                before.rename(self.folder / f"{name}.{state}")
            self._write(name, state, {"row": encode(record), "words": record.words})
        except OSError as error:  # no space for the content; the rename needed none
            log.warning(
                "it could not be recorded how %s was released: %s", record.control, error,
                extra=fields(LogEvent.RECORD_NOT_WRITTEN, control=record.control),
            )  # fmt: skip

    def _write(self, name: str, state: str, body: dict[str, str]) -> None:
        new = made(self.folder) / f"{name}.new"
        new.write_text(json.dumps(body), encoding="utf-8")
        new.rename(self.folder / f"{name}.{state}")

    def drop(self, journal: str, record: HoldRecord) -> None:
        """Delete a closed record, because the disk has it."""
        for state in (CLOSED, LEFT):
            (self.folder / f"{journal}-{record.number}.{state}").unlink(missing_ok=True)

    def forget(self, entries: Iterable[Copied]) -> None:
        """Delete these entries, because the disk has them."""
        for entry in entries:
            (self.folder / f"{entry.journal}-{entry.record.number}.{entry.state}").unlink(
                missing_ok=True
            )

    def records(self) -> list[Copied]:
        """All entries, closed ones first. A file that cannot be read is logged, and left."""
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
                "%s cannot be read, and was left as it is: %s", path, error,
                extra=fields(LogEvent.STORE_DAMAGED, store=path.name),
            )  # fmt: skip
            return None
        if name[3] != OPEN:
            record = replace(record, phase=Phase.CLOSED)
        return Copied(name[1], record, name[3], str(body.get("words", "")))


def _pid(handle: int) -> int:
    text = os.pread(handle, 20, 0)
    return int(text) if text.isdigit() else 0

"""The access log: who looked at which data of a dwelling on this gateway. Entries are kept for five
years, without values.

The log has one entry per day, account, place and command. Further looks on the same day add none,
so a program that asks every minute writes once a day. Only the owner of the state directory writes
it.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from agent.core.atomic_write import DiskWriter
from agent.core.clock import stamp
from agent.core.i18n import N_

if TYPE_CHECKING:
    from pathlib import Path

YEARS = 5 * 366 * 86_400
"""seconds for which entries are kept"""
EVERYBODY = "*"
"""place of an entry about all dwellings together"""
ACCESSES = {
    "privacy.person": N_("letter on personal data"),
    "read": N_("reading of a meter"),
    "trace": N_("trace of a line"),
    "status": N_("status with values"),
    "meter.verify": N_("verification of a meter"),
    "meter.load": N_("load test of a meter"),
}
"""by the call that showed data of a dwelling"""


@dataclass(frozen=True, slots=True)
class AccessEntry:
    """One account looked at one place with one command."""

    when: str
    """RFC 3339, UTC: the first time on that day"""
    who: str
    what: str
    """the call: `read`, `status`, `privacy.person`"""
    place: str
    """a place id, or `*`"""
    occupancy: str = ""
    """the occupants whose data was seen, if the call named them; empty: those of that day"""

    @property
    def at(self) -> int:
        """When, as a Unix second."""
        return int(datetime.fromisoformat(self.when).timestamp())

    @property
    def key(self) -> tuple[str, ...]:
        """Two looks with the same key share one entry."""
        return (self.when[:10], self.who, self.what, self.place, self.occupancy)


class AccessLog:
    """The access log, in memory and on the disk."""

    def __init__(self, path: Path, now: float) -> None:
        self._path = path
        self._entries = _read(path)
        kept = [entry for entry in self._entries if entry.when >= stamp(now - YEARS)]
        if len(kept) < len(self._entries):
            _replace(path, kept)
            self._entries = kept
        self._known = {entry.key for entry in kept}

    def note(self, who: str, what: str, place: str, now: float, occupancy: str = "") -> None:
        """Record a look; its entry is on the disk when this returns. Raises OSError."""
        entry = AccessEntry(stamp(now), who, what, place, occupancy)
        if entry.key in self._known:
            return
        DiskWriter.make(lambda: _append(self._path, entry))
        # only after it is on the disk: a look that could not be recorded is tried again
        self._known.add(entry.key)
        self._entries.append(entry)

    def of(self, place: str | None = None) -> list[AccessEntry]:
        """All entries, or those about one place, oldest first."""
        return [
            # a look at all dwellings together is also one at this dwelling
            entry
            for entry in self._entries
            if place is None or entry.place in (place, EVERYBODY)
        ]


def _read(path: Path) -> list[AccessEntry]:
    """All entries in the file, without a last line that a power cut left incomplete."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    entries: list[AccessEntry] = []
    for line in lines:
        try:
            entry = AccessEntry(**json.loads(line))
        except (ValueError, TypeError):  # empty, or cut short by a power cut
            continue
        # the line before is the same look for versions that know no occupancy
        if entry.occupancy and entries[-1:] == [replace(entry, occupancy="")]:
            entries.pop()
        entries.append(entry)
    return entries


def _append(path: Path, entry: AccessEntry) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, _line(entry))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(path: Path, entries: list[AccessEntry]) -> None:
    new = path.with_suffix(".new")
    new.touch(0o600)
    new.write_bytes(b"".join(_line(entry) for entry in entries))
    # in one step: a kill in between must not lose the entries that are kept
    new.replace(path)


def _line(entry: AccessEntry) -> bytes:
    # begin with a line break: a power cut may have left the line before incomplete
    old = asdict(entry)
    del old["occupancy"]  # a version that does not know it skips a line that has it
    lines = [old, asdict(entry)] if entry.occupancy else [old]
    return b"".join(b"\n" + json.dumps(one, ensure_ascii=False).encode() + b"\n" for one in lines)

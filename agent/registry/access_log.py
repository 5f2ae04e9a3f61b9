"""The access log: who looked at which data of a dwelling on this gateway. Entries are kept for five
years, without values.

The log has one entry per day, account, place, command and reason. Further looks on the same day add
none, so a program that asks every minute writes once a day. Only the owner of the state directory
writes it.
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
    "report": N_("commissioning report with indexes"),
    "meter.list": N_("list of meters with indexes"),
    "meter.assign": N_("recording of a meter"),
    "meter.exchange": N_("recording of a change of meters"),
    "meter.remove": N_("recording of a meter's removal"),
    "meter.correct": N_("correction of a meter's multiplier"),
    "meter.import": N_("recording of a list of meters"),
    "occupancy.list": N_("list of occupancies"),
    "occupancy.proposed": N_("moves that the syndic's software reports"),
    "consent.list": N_("list of consents"),
    "consent.count": N_("number of consents"),
    "consent.marks": N_("order of withdrawals"),
    "consent.due": N_("forms without an answer"),
    "consent.forms": N_("making of consent forms"),
    "duty.list": N_("list of duties"),
    "audit.list": N_("records of the audit chain"),
    "privacy.explain": N_("explanation of what is sent"),
    "privacy.disclosures": N_("number of values sent"),
    "privacy.access": N_("access log"),
    "privacy.breach.new": N_("recording of a breach"),
    "privacy.breach.add": N_("recording of a breach"),
    "privacy.breach.close": N_("recording of a breach"),
    "privacy.breach.list": N_("list of breaches"),
    "privacy.breach.show": N_("record of a breach"),
    "privacy.breach.notification": N_("notification of a breach"),
    "privacy.breach.letters": N_("letters about a breach"),
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
    reason: str = ""
    """why, as the person of the web page wrote; empty: nobody was asked"""

    @property
    def at(self) -> int:
        """When, as a Unix second."""
        return int(datetime.fromisoformat(self.when).timestamp())

    @property
    def key(self) -> tuple[str, ...]:
        """Two looks with the same key share one entry."""
        return (self.when[:10], self.who, self.what, self.place, self.occupancy, self.reason)


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

    def note(  # noqa: PLR0913, PLR0917 -- the last two have defaults
        self, who: str, what: str, place: str, now: float, occupancy: str = "", reason: str = ""
    ) -> None:
        """Record a look; its entry is on the disk when this returns. Raises OSError."""
        entry = AccessEntry(stamp(now), who, what, place, occupancy, reason)
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
        # the line before is the same look for versions that know no occupancy or no reason
        if (entry.occupancy or entry.reason) and entries[-1:] == [_short(entry)]:
            entries.pop()
        entries.append(entry)
    return entries


def _short(entry: AccessEntry) -> AccessEntry:
    return replace(entry, occupancy="", reason="")


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
    # a version that does not know one of these skips a line that has it
    later = ("occupancy", "reason")
    old = {name: value for name, value in asdict(entry).items() if name not in later}
    whole = old | {name: getattr(entry, name) for name in later if getattr(entry, name)}
    lines = [old] if whole == old else [old, whole]
    return b"".join(b"\n" + json.dumps(one, ensure_ascii=False).encode() + b"\n" for one in lines)

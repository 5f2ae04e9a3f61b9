"""What the registry keeps: small facts with dates and an author.

A document is never changed: a later one with the same id takes its place, and the earlier one
stays as what was known then. Intervals are half-open, [since, until), in seconds since 1970 UTC;
`until` None: open.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from agent.registry.place import PLACES


@dataclass(frozen=True, slots=True)
class Word:
    """By whose word a document stands."""

    who: str
    when: int
    source: str
    """the command, or file and line"""
    revision: int
    """number of the change to the registry that brought it"""


@dataclass(frozen=True, slots=True)
class Place:
    """What a reading is about; its label is what people call it."""

    kind: ClassVar[str] = "place"
    id: str
    label: str
    word: Word

    @property
    def type(self) -> str:
        """`dwelling`, `common` or `building`."""
        return PLACES[self.id[0]]


@dataclass(frozen=True, slots=True)
class Occupancy:
    """Somebody lives in a dwelling; nobody's name is known here."""

    kind: ClassVar[str] = "occupancy"
    id: str
    place: str
    since: int
    until: int | None
    word: Word


@dataclass(frozen=True, slots=True)
class Installation:
    """Which meter measures which place; it names a device, a serial number, or both."""

    kind: ClassVar[str] = "installation"
    id: str
    place: str
    device: str | None
    serial: str | None
    pinned: bool
    """the serial number is the one that the device first said, not one that people recorded"""
    channel: str | None
    """None: all channels of the meter"""
    since: int
    until: int | None
    word: Word

    @property
    def meter(self) -> str:
        """What people call it: its serial number if known."""
        if self.serial is None:
            return str(self.device)
        return f"{self.serial} ({self.device})" if self.device else self.serial


@dataclass(frozen=True, slots=True)
class Consent:
    """What the people of one occupancy let one recipient have, for one purpose."""

    kind: ClassVar[str] = "consent"
    id: str
    occupancy: str
    place: str
    recipient: str
    channels: tuple[str, ...]
    step: int
    """seconds; nothing finer"""
    purpose: str
    since: int
    until: int
    word: Word


Document = Place | Occupancy | Installation | Consent

KINDS: dict[str, type[Document]] = {
    cls.kind: cls for cls in (Place, Occupancy, Installation, Consent)
}


def to_row(document: Document) -> dict[str, Any]:
    """Write a document as it is stored."""
    return {"kind": document.kind, **asdict(document)}


def from_row(row: dict[str, Any]) -> Document:
    """Read a stored document. Raises KeyError, TypeError or ValueError on what is none."""
    members = dict(row)
    cls = KINDS[members.pop("kind")]
    word = Word(**members.pop("word"))
    if "channels" in members:
        members["channels"] = tuple(members["channels"])
    return cls(**members, word=word)


def serial_key(serial: str) -> str:
    """Make serial numbers comparable: a spreadsheet drops leading zeros, people add spaces."""
    return "".join(serial.upper().split()).translate(_SEPARATORS).lstrip("0") or "0"


_SEPARATORS = str.maketrans(dict.fromkeys("-_."))


def covers(document: Occupancy | Installation | Consent, t: int) -> bool:
    """Whether t lies in the document's interval."""
    return document.since <= t and (document.until is None or t < document.until)

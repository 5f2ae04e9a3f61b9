"""What the registry keeps: small facts with dates and an author.

A document is never changed: a later one with the same id takes its place, and the earlier one
stays as what was known then. Intervals are half-open, [since, until), in seconds since 1970 UTC;
`until` None: open; an empty one: this never was. Members that came with a later version of gardien
have a default, so that older files still load.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from agent.registry.place import PLACES

if TYPE_CHECKING:
    from collections.abc import Container

EXACT = Context(prec=80)
"""a meter's 20 digits times a multiplier's nine, nothing rounded"""


Indexes = tuple[tuple[str, Decimal], ...]
"""by channel, in its unit, as the meter showed them"""


@dataclass(frozen=True, slots=True)
class Provenance:
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
    word: Provenance

    @property
    def type(self) -> str:
        """`dwelling`, `common` or `building`."""
        return PLACES[self.id[0]]


@dataclass(frozen=True, slots=True)
class Alias:
    """Another system's name of a place (schemes.py says which there are)."""

    kind: ClassVar[str] = "alias"
    id: str
    place: str
    scheme: str
    value: str
    since: int
    until: int | None
    word: Provenance
    note: str = ""
    """what people said of it: of a lot, `cave` or `parking`"""


@dataclass(frozen=True, slots=True)
class Occupancy:
    """Somebody lives in a dwelling; nobody's name is known here."""

    kind: ClassVar[str] = "occupancy"
    id: str
    place: str
    since: int
    until: int | None
    word: Provenance
    reference: str | None = None
    """the manager's own, such as the number of a lease"""


class OccupancyState(StrEnum):
    """How a dwelling is known at a time."""

    OCCUPIED = "occupied"
    """somebody lives there"""
    VACANT = "vacant"
    """those who lived there have moved out, and nobody has moved in since"""
    UNKNOWN = "unknown"
    """nobody has said whether somebody lives there"""


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
    word: Provenance
    multiplier: Decimal = Decimal(1)
    """of what the meter shows (current transformers); other than 1 only with a channel"""
    offset: Decimal = Decimal(0)
    """added after multiplying, in the channel's unit"""
    opened: Indexes = ()
    """what the meter showed at `since`"""
    closed: Indexes = ()
    """what it showed at `until`; nothing: nobody knows"""
    verified: str = "none"
    """`display` or `load`: how a person made sure of it (`proof` knows about `serial`)"""

    @property
    def meter(self) -> str:
        """What people call it: its serial number if known."""
        if self.serial is None:
            return str(self.device)
        return f"{self.serial} ({self.device})" if self.device else self.serial

    def proof(self, serials: Container[str]) -> str:
        """How sure it is that this meter measures this place: `display` or `load`, as a person
        tried; `serial`: the number that people recorded is the one it says itself; `none`.

        `said`: the serial numbers, in their comparable form, that devices say.
        """
        if self.verified != "none" or self.serial is None or self.pinned:
            return self.verified
        return "serial" if serial_key(self.serial) in serials else "none"

    def measured(self, shown: Decimal) -> Decimal:
        """What an index that the meter shows means for the place, exact."""
        if self.multiplier == 1 and not self.offset:
            return shown
        return EXACT.add(EXACT.multiply(shown, self.multiplier), self.offset)


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
    word: Provenance
    given: int | None = None
    """when the people said it; None: when it was recorded"""
    method: str = ""
    """`paper`, `web`, `app`, `oral-recorded`"""
    proof: str = ""
    """the collector's reference of what was signed"""
    withdrawn: int | None = None
    """since when it counts no more, for whatever time"""
    replaced: str | None = None
    """by which consent it was replaced, from its `until` on"""

    @property
    def given_at(self) -> int:
        """When the people gave it."""
        return self.word.when if self.given is None else self.given


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A consent was withdrawn before it was ever heard of: it will not be taken."""

    kind: ClassVar[str] = "withdrawal"
    id: str
    """of the consent"""
    word: Provenance


@dataclass(frozen=True, slots=True)
class ConsentMark:
    """The people of an occupancy have withdrawn or refused, or this state was restored: a consent
    counts from here on only if it was given knowing of that (marks.py).
    """

    kind: ClassVar[str] = "mark"
    id: str
    """random: who names it has heard of it"""
    occupancy: str
    recipient: str | None
    """None: all recipients"""
    cause: str
    """`withdrawn`, `refused` or `restored`"""
    word: Provenance
    number: str = ""
    """`jti` of the signed object that said so, by its issuer"""


@dataclass(frozen=True, slots=True)
class Form:
    """A consent form that was printed for the people of an occupancy, and their answer."""

    kind: ClassVar[str] = "form"
    id: str
    """`F…`, as it is printed"""
    occupancy: str
    place: str
    asked: tuple[str, ...]
    """each box, as JSON: recipient, purpose, channels, step, months (see forms.py)"""
    after: tuple[str, ...]
    """the marks that the page told them of"""
    printed: int
    word: Provenance
    answers: tuple[str, ...] = ()
    """of each box `yes`, `no` or empty; none: it was not answered yet"""
    signed: int | None = None


@dataclass(frozen=True, slots=True)
class Duty:
    """What the law or a contract lets the building manager have of all dwellings.

    The index at the end of each month, and at 00:00 of a change of occupant or a billing date.
    """

    kind: ClassVar[str] = "duty"
    id: str
    recipient: str
    """the building manager; one at a time"""
    reference: str
    """`décret 2020-886`, or the contract"""
    channels: tuple[str, ...]
    since: int
    until: int | None
    word: Provenance
    billing: tuple[str, ...] = ()
    """days of the year, as `06-30`"""


Document = (
    Place | Alias | Occupancy | Installation | Consent | Withdrawal | ConsentMark | Form | Duty
)

Dated = Alias | Occupancy | Installation | Consent | Duty
"""what holds for an interval"""


def serial_key(serial: str) -> str:
    """Make serial numbers comparable: a spreadsheet drops leading zeros, people add spaces."""
    return "".join(serial.upper().split()).translate(_SEPARATORS).lstrip("0") or "0"


_SEPARATORS = str.maketrans(dict.fromkeys("-_."))


def covers(document: Dated, t: int) -> bool:
    """Whether t lies in the document's interval."""
    return document.since <= t and (document.until is None or t < document.until)

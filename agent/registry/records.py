"""The types of facts in the registry: small documents with dates and provenance.

A document never changes. A later one with the same id takes its place, and the earlier one remains
as what was known at the time. Intervals are half-open, [since, until), in seconds since 1970 UTC;
`until` None means open, and an empty interval means that this never was. Members added by later
versions of gardien have a default, so that older files can be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from agent.core.i18n import Text
from agent.registry.facts.place import Particulars
from agent.registry.place import PLACES

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

EXACT = Context(prec=80)
"""enough digits for a meter's 20 times a multiplier's 9, without rounding"""


Indexes = tuple[tuple[str, Decimal], ...]
"""(channel, value) as the meter showed it, in the channel's unit"""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Who recorded a document, when and from which source."""

    who: str
    when: int
    source: str
    """the command, or file and line"""
    revision: int
    """number of the change to the registry that added it"""


@dataclass(frozen=True, slots=True)
class Place(Particulars):
    """A place with its label and what else is recorded of it."""

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
    """Another system's name for a place (the systems are in schemes.py)."""

    kind: ClassVar[str] = "alias"
    id: str
    place: str
    scheme: str
    value: str
    since: int
    until: int | None
    word: Provenance
    note: str = ""
    """a remark: of a lot, `cave` or `parking`"""


@dataclass(frozen=True, slots=True)
class Occupancy:
    """Somebody lives in a dwelling; the registry has no names of people."""

    kind: ClassVar[str] = "occupancy"
    id: str
    place: str
    since: int
    until: int | None
    word: Provenance
    reference: str | None = None
    """the manager's own reference, such as the number of a lease"""


class OccupancyState(StrEnum):
    """What is known of a dwelling's occupancy at a time."""

    OCCUPIED = "occupied"
    """somebody lives there"""
    VACANT = "vacant"
    """the last occupants have moved out, and nobody has moved in since"""
    UNKNOWN = "unknown"
    """no occupants have ever been recorded"""


RECORD_OCCUPANCY = "gardien occupancy import FILE"
"""the command that ends an unknown occupancy; `gardien occupancy move-in` for one dwelling"""


def occupancy_unknown(dwellings: Sequence[str] | int) -> Text:
    """Return the sentence for dwellings of unknown occupancy: their labels, or how many they are.

    Every command, letter and status uses it.
    """
    of: object = dwellings
    if isinstance(dwellings, int):
        of = Text("1 dwelling") if dwellings == 1 else Text("{number} dwellings", number=dwellings)
    return Text("{dwellings}: occupancy unknown, so no personal data is sent", dwellings=of)


@dataclass(frozen=True, slots=True)
class Installation:
    """Which meter measures which place. It names a device, a serial number, or both."""

    kind: ClassVar[str] = "installation"
    id: str
    place: str
    device: str | None
    serial: str | None
    pinned: bool
    """the serial number is the first that the device reported, not one that people recorded"""
    channel: str | None
    """None: all channels of the meter"""
    since: int
    until: int | None
    word: Provenance
    multiplier: Decimal = Decimal(1)
    """factor of the meter's index (current transformers); other than 1 only with a channel"""
    offset: Decimal = Decimal(0)
    """added after multiplying, in the channel's unit"""
    opened: Indexes = ()
    """what the meter showed at `since`"""
    closed: Indexes = ()
    """what it showed at `until`; empty: not known"""
    verified: str = "none"
    """`display` or `load`: how a person verified it; else `none` (see `proof`)"""

    @property
    def meter(self) -> str:
        """The meter's name for people: its serial number if known."""
        if self.serial is None:
            return str(self.device)
        return f"{self.serial} ({self.device})" if self.device else self.serial

    def proof(self, serials: Container[str]) -> str:
        """How well it is known that this meter measures this place: `display` or `load`, as a
        person verified it; `serial`: the number that people recorded is the one that a device
        reports; `none`.

        `serials`: the serial numbers that devices report, in comparable form.
        """
        if self.verified != "none" or self.serial is None or self.pinned:
            return self.verified
        return "serial" if serial_key(self.serial) in serials else "none"

    def measured(self, shown: Decimal) -> Decimal:
        """The place's index for an index that the meter shows, exact."""
        if self.multiplier == 1 and not self.offset:
            return shown
        return EXACT.add(EXACT.multiply(shown, self.multiplier), self.offset)


@dataclass(frozen=True, slots=True)
class Consent:
    """What one occupancy lets one recipient have, for one purpose."""

    kind: ClassVar[str] = "consent"
    id: str
    occupancy: str
    place: str
    recipient: str
    channels: tuple[str, ...]
    step: int
    """seconds; no finer step is allowed"""
    purpose: str
    since: int
    until: int
    word: Provenance
    given: int | None = None
    """when it was signed; None: when it was recorded"""
    method: str = ""
    """`paper`, `web`, `app`, `oral-recorded`"""
    proof: str = ""
    """the collector's reference of the signed document"""
    withdrawn: int | None = None
    """since when it no longer counts, for any time"""
    replaced: str | None = None
    """id of the consent that replaces it from its `until` on"""

    @property
    def given_at(self) -> int:
        """When it was signed, or else first recorded."""
        return self.word.when if self.given is None else self.given


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A consent was withdrawn before it arrived; it will not be recorded."""

    kind: ClassVar[str] = "withdrawal"
    id: str
    """id of the consent"""
    word: Provenance


@dataclass(frozen=True, slots=True)
class ConsentMark:
    """An occupancy withdrew or refused, or this state was restored. From here on a consent counts
    only if it knows this mark (marks.py).
    """

    kind: ClassVar[str] = "mark"
    id: str
    """random: only those who were told of the mark can name it"""
    occupancy: str
    recipient: str | None
    """None: all recipients"""
    cause: str
    """`withdrawn`, `refused` or `restored`"""
    word: Provenance
    number: str = ""
    """`jti` of the signed object, by its issuer"""


@dataclass(frozen=True, slots=True)
class Form:
    """A consent form that was printed for an occupancy, with its answers."""

    kind: ClassVar[str] = "form"
    id: str
    """`F…`, as printed"""
    occupancy: str
    place: str
    asked: tuple[str, ...]
    """each box as JSON: recipient, purpose, channels, step, months (see forms.py)"""
    after: tuple[str, ...]
    """marks that the page mentions"""
    printed: int
    word: Provenance
    answers: tuple[str, ...] = ()
    """for each box `yes`, `no` or empty; no answers: not answered yet"""
    signed: int | None = None


@dataclass(frozen=True, slots=True)
class Duty:
    """What a law or a contract entitles the building manager to receive of all dwellings: the index
    at the end of each month, and at 00:00 of a change of occupants or a billing date.
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


@dataclass(frozen=True, slots=True)
class FactorProof:
    """What shows that the factor of a meter's channel is right, or how wrong it is (rule F16)."""

    kind: ClassVar[str] = "factor"
    id: str
    """installation/channel/method: a later proof of the same kind takes its place"""
    installation: str
    place: str
    channel: str
    method: str
    """one of METHODS"""
    factor: Decimal
    """how many times too high the values are; 1: the factor is right"""
    excludes: Decimal
    """the smallest error of the factor that the comparison excludes"""
    point: str
    """`Point.to_prove`: another register, unit, factor or profile ends the proof"""
    serial: str | None
    """of the meter; another number ends the proof"""
    multiplier: Decimal
    """of the installation; another one ends the proof"""
    evidence: str
    """what the comparison gave: ratios, and no quantity"""
    word: Provenance

    def of(self, meter: Installation, point: str) -> bool:
        """Whether it is still about this meter, as it is read and recorded now."""
        same = self.serial is None or meter.serial is None or (
            serial_key(self.serial) == serial_key(meter.serial)
        )  # fmt: skip
        return same and (self.point, self.multiplier) == (point, meter.multiplier)


METHODS = ("display", "load", "power", "sum")
"""how a factor is proven, the strongest first: where two differ, the stronger counts"""


Document = (
    Place | Alias | Occupancy | Installation | Consent | Withdrawal | ConsentMark | Form | Duty
    | FactorProof
)  # fmt: skip

Dated = Alias | Occupancy | Installation | Consent | Duty
"""documents with an interval"""


def serial_key(serial: str) -> str:
    """A serial number in comparable form: spreadsheets drop leading zeros, people add spaces."""
    # a number of zeros only keeps one
    return "".join(serial.upper().split()).translate(_SEPARATORS).lstrip("0") or "0"


_SEPARATORS = str.maketrans(dict.fromkeys("-_."))


def covers(document: Dated, t: int) -> bool:
    """Whether t is in the document's interval."""
    return document.since <= t and (document.until is None or t < document.until)

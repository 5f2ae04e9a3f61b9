"""No two documents may state different things about the same thing at the same time.

Each document claims something for an interval: a meter, the occupants of a dwelling, an alias, a
purpose. A claim that overlaps another one is refused, naming both documents.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from agent.core.clock import stamp
from agent.registry.marks import sentence
from agent.registry.place import shown
from agent.registry.records import (
    Alias,
    Consent,
    ConsentMark,
    Duty,
    Installation,
    Occupancy,
    Withdrawal,
    serial_key,
)
from agent.registry.schemes import Cardinality, scheme

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from agent.registry.index import RegistryIndex
    from agent.registry.records import Document

Thing = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim on one thing for [since, until), made by a document."""

    thing: Thing
    since: int
    until: int | None
    channel: str | None
    """None: all channels"""
    by: Document

    def meets(self, other: Claim) -> bool:
        """Whether both claim the same for some time."""
        # a later version takes the place of the earlier one, and does not contradict it
        if self.by.id == other.by.id:
            return False
        if self.channel != other.channel and None not in (self.channel, other.channel):
            return False
        return (other.until is None or self.since < other.until) and (
            self.until is None or other.since < self.until
        )


class Conflicts:
    """The claims of all documents in force, and of those about to be added."""

    def __init__(self, index: RegistryIndex) -> None:
        self._index = index
        self._added: dict[str, Document] = {}
        """by id"""
        self._claims: dict[Thing, list[Claim]] = {}
        """of these"""

    def add(self, document: Document) -> str | None:
        """Add the claims of a document, in place of those of its earlier version. If another
        document contradicts it, add nothing and return a sentence about that one.
        """
        against = self.against(document)
        if against is not None:
            return self.sentence(against)
        # else what a correction has given up would still refuse other documents
        if (earlier := self._added.get(document.id)) is not None:
            for claim in _claims_of(earlier):
                self._claims[claim.thing].remove(claim)
        self._added[document.id] = document
        for claim in _claims_of(document):
            self._claims.setdefault(claim.thing, []).append(claim)
        return None

    def against(self, document: Document) -> Document | None:
        """A document that contradicts this one; None: there is none."""
        for claim in _claims_of(document):
            for other in chain(self._in_force(claim.thing), self._claims.get(claim.thing, ())):
                if claim.meets(other):
                    return other.by
        return None

    def _in_force(self, thing: Thing) -> Iterator[Claim]:
        """The claims on a thing, but for those of documents with a later version here."""
        for document in _claimants(self._index, *thing):
            if document.id not in self._added:
                yield from (one for one in _claims_of(document) if one.thing == thing)

    def sentence(self, document: Document) -> str:
        """What a document states and who recorded it."""
        return f"{self.statement(document)} ({_provenance(document)})"

    def statement(self, document: Document) -> str:
        """What a document states, as text."""
        if isinstance(document, Installation):
            what = f" {document.channel}" if document.channel else ""
            text = f"meter {document.meter} measures{what} {self._named(document.place)}"
        elif isinstance(document, Occupancy):
            reference = f" ({document.reference})" if document.reference else ""
            text = f"{self._named(document.place)} is occupied by {shown(document.id)}{reference}"
        elif isinstance(document, Consent):
            channels = ", ".join(document.channels)
            text = (
                f"{self._named(document.place)} lets {document.recipient} have {channels} for "
                f'"{document.purpose}"'
            )
        elif isinstance(document, Alias):
            name = scheme(document.scheme).title
            text = f"{self._named(document.place)} is {name} {document.value}"
        elif isinstance(document, Duty):
            text = f"{document.recipient} is building manager by {document.reference}"
        elif isinstance(document, Withdrawal):
            return f"consent {document.id} was withdrawn"
        elif isinstance(document, ConsentMark):
            return f"{shown(document.occupancy)}: {sentence(document)}"
        else:
            return f"{self._named(document.id)} is a place"
        until = "" if document.until is None else f" until {stamp(document.until)}"
        return f"{text} from {stamp(document.since)}{until}"

    def _named(self, place: str) -> str:
        known = self._index.places.get(place)
        return f"{known.label} ({shown(place)})" if known else shown(place)


def _provenance(document: Document) -> str:
    provenance = document.word
    return f"{provenance.who} on {stamp(provenance.when)[:10]}, {provenance.source}"


def _claimants(index: RegistryIndex, what: str, *names: str) -> Sequence[Document]:  # noqa: PLR0911 -- one each
    """Documents in force among which are all that claim a thing (`_things`)."""
    match what:
        case "device":
            return index.known_as(names[0])
        case "serial":
            return index.meters_called(None, names[0])
        case "measures":
            return index.meters_of(names[0])
        case "lives in":
            return index.occupancies_of(names[0])
        case "consents":
            return index.consents_of(names[0], names[1])
        case "means":
            return index.aliases_meaning(names[0], names[1])
        case "is called":
            return index.aliases_of(names[0])
    return index.duties


def _claims_of(document: Document) -> Iterator[Claim]:
    if isinstance(document, Installation | Occupancy | Consent | Alias | Duty):
        until = document.until
        if until is not None and until <= document.since:
            return  # an empty interval means that this never was, so it claims nothing
        channels: Iterable[str | None] = (None,)
        if isinstance(document, Installation):
            channels = (document.channel,)
        elif isinstance(document, Consent):
            channels = document.channels
        for thing in _things(document):
            for channel in channels:
                yield Claim(thing, document.since, until, channel, document)


def _things(document: Installation | Occupancy | Consent | Alias | Duty) -> Iterator[Thing]:
    if isinstance(document, Installation):
        yield from _meter_things(document)
    elif isinstance(document, Occupancy):
        yield ("lives in", document.place)
    elif isinstance(document, Consent):
        # after a withdrawal the people may consent anew to the same
        if document.withdrawn is None:
            yield ("consents", document.occupancy, document.recipient, document.purpose)
    elif isinstance(document, Alias):
        names = scheme(document.scheme).names
        if names is not Cardinality.SHARED:
            yield ("means", document.scheme, document.value)
        if names is not Cardinality.PARTS:
            yield ("is called", document.place, document.scheme)
    else:
        yield ("duty", document.reference)


def _meter_things(document: Installation) -> Iterator[Thing]:
    if document.device:
        yield ("device", document.device)
    if document.serial:
        yield ("serial", serial_key(document.serial))
    # two meters that both measure "heat" of one dwelling would give one series two values
    if document.channel:
        yield ("measures", document.place)

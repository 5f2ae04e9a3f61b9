"""Checks of every input before it is recorded: no two documents may contradict each other."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from datetime import date
from itertools import chain
from typing import TYPE_CHECKING

from agent.core.clock import stamp
from agent.core.errors import Refused
from agent.core.i18n import Text
from agent.registry.dates import sane
from agent.registry.doubts import NeedsConfirmation, grouped_otherwise
from agent.registry.index import sentence
from agent.registry.labels import Cardinality, scheme
from agent.registry.place import PLACES, agrees, parse, shown, squeeze
from agent.registry.records import (
    Alias,
    Consent,
    ConsentMark,
    Duty,
    Installation,
    Occupancy,
    Provenance,
    Withdrawal,
    serial_key,
)
from agent.registry.sheet import Problems

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import TypeVar

    from agent.registry.doubts import DoubtfulValue
    from agent.registry.index import RegistryIndex
    from agent.registry.inputs import Input
    from agent.registry.records import Document, Place

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
        return Text("{said} ({who})", said=self.statement(document), who=_provenance(document))

    def statement(self, document: Document) -> str:
        """What a document states, as text."""
        if isinstance(document, Installation):
            what = f" {document.channel}" if document.channel else ""
            text = Text(
                "meter {meter} measures{what} {named}",
                meter=document.meter,
                what=what,
                named=self._named(document.place),
            )
        elif isinstance(document, Occupancy):
            reference = f" ({document.reference})" if document.reference else ""
            text = Text(
                "{named} is occupied by {id}{reference}",
                named=self._named(document.place),
                id=shown(document.id),
                reference=reference,
            )
        elif isinstance(document, Consent):
            channels = ", ".join(document.channels)
            text = Text(
                '{named} lets {recipient} have {channels} for "{purpose}"',
                named=self._named(document.place),
                recipient=document.recipient,
                channels=channels,
                purpose=document.purpose,
            )
        elif isinstance(document, Alias):
            name = scheme(document.scheme).title
            text = Text(
                "{named} is {name} {value}",
                named=self._named(document.place),
                name=name,
                value=document.value,
            )
        elif isinstance(document, Duty):
            text = Text(
                "{recipient} is building manager by {reference}",
                recipient=document.recipient,
                reference=document.reference,
            )
        elif isinstance(document, Withdrawal):
            return Text("consent {id} was withdrawn", id=document.id)
        elif isinstance(document, ConsentMark):
            return Text("{id}: {said}", id=shown(document.occupancy), said=sentence(document))
        else:
            return Text("{named} is a place", named=self._named(document.id))
        until = (
            "" if document.until is None else Text(" until {stamp}", stamp=stamp(document.until))
        )
        return Text(
            "{text} from {stamp}{until}", text=text, stamp=stamp(document.since), until=until
        )

    def _named(self, place: str) -> str:
        known = self._index.places.get(place)
        return f"{known.label} ({shown(place)})" if known else shown(place)


def _provenance(document: Document) -> str:
    provenance = document.word
    return Text(
        "{who} on {stamp}, {source}",
        who=provenance.who,
        stamp=date.fromisoformat(stamp(provenance.when)[:10]),
        source=provenance.source,
    )


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


if TYPE_CHECKING:
    R = TypeVar("R", bound=Input)


@dataclass(frozen=True, slots=True)
class Author:
    """Who records the rows of one call, from which source and when."""

    who: str
    source: str
    now: float
    revision: int

    def provenance(self, where: str) -> Provenance:
        """The provenance of one row; its line in the file is more precise than the file's name."""
        return Provenance(self.who, int(self.now), where or self.source, self.revision)

    def since(self, given: int | None) -> int:
        """When a row's fact begins; now if the row does not say. Raises ValueError on a wrong
        year.
        """
        return int(self.now) if given is None else sane(given)


def admit_rows(
    rows: Sequence[R],
    admit: Callable[[R], Iterator[Document]],
    first: Callable[[R], bool] = lambda row: True,  # noqa: ARG005 -- all are
    doubts: Callable[[R, Sequence[Document]], Iterable[DoubtfulValue]] = lambda *_: (),
) -> list[Document]:
    """Admit all rows, or raise Refused with the fault of each wrong row, in the order of the rows;
    NeedsConfirmation if no row is wrong, but values are doubtful and not confirmed.

    Rows for which `first` is true are admitted before the others, for example ends before
    beginnings. `doubts`: those about a row and its documents.
    """
    wrong: list[tuple[int, str, Exception]] = []
    doubtful: list[tuple[int, DoubtfulValue]] = []
    documents: list[Document] = []
    numbered = list(enumerate(rows))
    # a stable sort: the rows of each half keep their order
    for number, row in sorted(numbered, key=lambda one: not first(one[1])):
        try:
            if row.fault:
                raise Refused(row.fault)
            made = list(admit(row))
        except (Refused, ValueError) as error:
            wrong.append((number, row.where, error))
            continue
        # a row that repeats what is recorded is not questioned again
        if made and row.confirmed is not None:
            raised = list(doubts(row, made))
            doubtful += [(number, one) for one in raised if one.value not in row.confirmed]
            if kept := ", ".join(one.value for one in raised if one.value in row.confirmed):
                made = [_confirmed(document, kept) for document in made]
        documents += made
    if len(wrong) == 1 and not wrong[0][1]:
        # a single command gets the error itself: its caller may react to the error's class
        only = wrong[0][2]
        raise only if isinstance(only, Refused) else Refused("{error}", error=only) from only
    problems = Problems()
    for fault in sorted(wrong, key=lambda one: one[:2]):
        problems.add(fault[1], fault[2])
    # one pass over the file is enough for both
    questions = [pair[1] for pair in sorted(doubtful, key=lambda pair: pair[0])]
    for doubt in questions if wrong else ():
        problems.add(doubt.where, doubt.question)
    problems.settle()
    if questions:
        raise NeedsConfirmation(list(dict.fromkeys(questions)))
    return documents


def _confirmed(document: Document, values: str) -> Document:
    """The document with the values that its author has confirmed, in its source."""
    source = f"{document.word.source}; confirmed: {values}"
    return replace(document, word=replace(document.word, source=source))


def place_of(index: RegistryIndex, text: str) -> Place:
    """Find a place. Raises Refused also if the digits of its label are grouped otherwise in
    `text`, because that may be the label of another place.
    """
    id_ = squeeze(text)
    if agrees(id_) and id_[0] not in PLACES:
        parse(text)  # refuses it: the id of an occupancy, for example
    place = index.labels.find(text)
    regrouped = grouped_otherwise(text, place.label) and id_ != place.id
    if regrouped and all(alias.value != text for alias in index.aliases_of(place.id)):
        raise Refused(
            'there is no place "{text}"; did you mean "{label}"?', text=text, label=place.label
        )
    return place


def current_claims(index: RegistryIndex) -> Conflicts:
    """The claims of all documents in force."""
    return Conflicts(index)


def claim(claims: Conflicts, document: Document) -> Document:
    """Add the claims of a document and return it. Raises Refused if another document contradicts
    it, naming both.
    """
    against = claims.add(document)
    if against:
        raise Refused(
            "{statement}, but {against}", statement=claims.statement(document), against=against
        )
    return document


def dwelling(index: RegistryIndex, text: str, what: str) -> Place:
    """Find a dwelling. Raises Refused if there is none, or if it is a common area; `what` then
    completes "only dwellings …".
    """
    place = place_of(index, text)
    if place.id[0] != "D":
        raise Refused(
            "{label_and_id} is a {places}; only dwellings {what}",
            label_and_id=label_and_id(place),
            places=PLACES[place.id[0]],
            what=what,
        )
    return place


def label_and_id(place: Place) -> str:
    """A place as people read it: label first, then id."""
    return f"{place.label} ({shown(place.id)})"


def new_id() -> str:
    """A random id for a document; people need not read it."""
    return secrets.token_hex(8)


def in_order(documents: Iterable[Document]) -> list[Document]:
    """Each document once, in its latest version: rows of one call may change it twice."""
    latest = {(document.kind, document.id): document for document in documents}
    return list(latest.values())

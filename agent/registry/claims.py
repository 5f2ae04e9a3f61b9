"""No two documents may say different things about the same thing at the same time.

Every document claims something for an interval: a meter, a dwelling's inhabitants, a purpose. A
claim that meets a standing one is refused, and both sides are named.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.clock import stamp
from agent.registry.documents import Consent, Installation, Occupancy, serial_key
from agent.registry.place import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent.registry.documents import Document, Place

Thing = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing, claimed for [since, until) by the document of this id."""

    thing: Thing
    since: int
    until: int | None
    channel: str | None
    """None: all channels"""
    by: Document

    def meets(self, other: Claim) -> bool:
        """Whether both claim the same for some time."""
        if self.by.id == other.by.id:
            return False
        if self.channel != other.channel and None not in (self.channel, other.channel):
            return False
        return (other.until is None or self.since < other.until) and (
            self.until is None or other.since < self.until
        )


class Claims:
    """All claims of the documents in force, and those of the ones about to be added."""

    def __init__(self, places: Mapping[str, Place]) -> None:
        self._places = places
        self._claims: dict[Thing, list[Claim]] = {}

    def add(self, document: Document) -> str | None:
        """Claim what the document claims; else say, for people, which other document stands
        against it.
        """
        claims = list(_claims(document))
        for claim in claims:
            for other in self._claims.get(claim.thing, ()):
                if claim.meets(other):
                    return self.sentence(other.by)
        for claim in claims:
            self._claims.setdefault(claim.thing, []).append(claim)
        return None

    def sentence(self, document: Document) -> str:
        """Add by whose word a document stands to what it states."""
        return f"{self.statement(document)} ({_word(document)})"

    def statement(self, document: Document) -> str:
        """Say for people what a document states."""
        if isinstance(document, Installation):
            what = f" {document.channel}" if document.channel else ""
            said = f"meter {document.meter} measures{what} {self._named(document.place)}"
        elif isinstance(document, Occupancy):
            said = f"{self._named(document.place)} is occupied by {shown(document.id)}"
        elif isinstance(document, Consent):
            channels = ", ".join(document.channels)
            said = (
                f"{self._named(document.place)} lets {document.recipient} have {channels} for "
                f'"{document.purpose}"'
            )
        else:
            return f"{self._named(document.id)} is a place"
        until = "" if document.until is None else f" until {stamp(document.until)}"
        return f"{said} from {stamp(document.since)}{until}"

    def _named(self, place: str) -> str:
        known = self._places.get(place)
        return f"{known.label} ({shown(place)})" if known else shown(place)


def _word(document: Document) -> str:
    word = document.word
    return f"{word.who} on {stamp(word.when)[:10]}, {word.source}"


def _claims(document: Document) -> Iterator[Claim]:
    if isinstance(document, Installation):
        for thing in _meter_things(document):
            yield Claim(thing, document.since, document.until, document.channel, document)
    elif isinstance(document, Occupancy):
        yield Claim(("lives in", document.place), document.since, document.until, None, document)
    elif isinstance(document, Consent):
        thing = ("consents", document.occupancy, document.recipient, document.purpose)
        for channel in document.channels:
            yield Claim(thing, document.since, document.until, channel, document)


def _meter_things(document: Installation) -> Iterator[Thing]:
    if document.device:
        yield ("device", document.device)
    if document.serial:
        yield ("serial", serial_key(document.serial))
    # two meters that both deliver "heat" of one dwelling would be one series with two values
    if document.channel:
        yield ("measures", document.place)

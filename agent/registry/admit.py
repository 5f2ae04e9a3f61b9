"""One set of checks for whatever door a fact comes in by: all of it is admitted, or nothing.

Pure but for the ids it draws. Each function takes the state of the registry and the rows, and
returns documents, or raises Refused that names every wrong row.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.clock import stamp
from agent.errors import Refused
from agent.registry import fields
from agent.registry.claims import Claims
from agent.registry.dates import sane
from agent.registry.documents import Consent, Installation, Occupancy, Place, Word
from agent.registry.labels import label_key
from agent.registry.place import OCCUPANCY, PLACES, agrees, mint, parse, shown, squeeze
from agent.registry.problems import Problems

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TypeVar

    from agent.registry.documents import Document
    from agent.registry.entries import NewConsent, NewInstallation, NewPlace
    from agent.registry.gate import Policy
    from agent.registry.index import Index

    R = TypeVar("R", NewPlace, NewInstallation, NewConsent)


@dataclass(frozen=True, slots=True)
class Author:
    """By whose word, and when, the rows of one call come in."""

    who: str
    source: str
    now: float
    revision: int

    def word(self, where: str) -> Word:
        """Sign one row; its line says more than the name of its file."""
        return Word(self.who, int(self.now), where or self.source, self.revision)


def admit_places(index: Index, rows: Sequence[NewPlace], author: Author) -> list[Document]:
    """Documents for places, and for each dwelling an occupancy that begins at `since`."""
    labels = {key: _place_said(place) for key, place in index.labels.by_label.items()}
    ids = {place.id: _place_said(place) for place in index.places.values()}

    def admit(row: NewPlace) -> Iterator[Document]:
        label = " ".join(fields.text(row.label, "label", fields.LONGEST_LABEL).split())
        if agrees(squeeze(label)):
            raise Refused(f'label: "{label}" is an id; a label is what people call the place')
        prefix = fields.prefix(row.type)
        place = parse(row.id, prefix) if row.id else mint(prefix)
        said = f'"{label}" of {row.where or "this call"}'
        for known, key in ((labels, label_key(label)), (ids, place)):
            if key in known:
                raise Refused(f'"{label}": there is already {known[key]}')
        labels[label_key(label)] = ids[place] = said
        yield Place(place, label, author.word(row.where))
        if prefix == "D":
            since = _since(row.since, author)
            yield Occupancy(mint(OCCUPANCY), place, since, None, author.word(row.where))

    return _each(rows, admit)


def admit_installations(
    index: Index, rows: Sequence[NewInstallation], author: Author
) -> list[Document]:
    """Documents for meters; one that meets a standing one is refused with both named."""
    claims = _standing(index)

    def admit(row: NewInstallation) -> Iterator[Document]:
        device = fields.text(row.device, "device", fields.LONGEST_LABEL) if row.device else None
        serial = fields.text(row.serial, "serial", fields.LONGEST_LABEL) if row.serial else None
        if not device and not serial:
            raise Refused("a meter needs a serial number or the name of its device")
        installation = Installation(
            id=secrets.token_hex(8),
            place=index.labels.find(row.place).id,
            device=device,
            serial=serial,
            pinned=False,
            channel=fields.channel(row.channel) if row.channel else None,
            since=_since(row.since, author),
            until=None,
            word=author.word(row.where),
        )
        yield _claimed(claims, installation)

    return _each(rows, admit)


def admit_consents(
    index: Index, rows: Sequence[NewConsent], author: Author, policy: Policy
) -> list[Document]:
    """Documents for consents: each hangs on who lives in the dwelling when it begins."""
    claims = _standing(index)

    def admit(row: NewConsent) -> Iterator[Document]:
        since = _since(row.since, author)
        home = _home(index, row.place, since)
        consent = Consent(
            id=secrets.token_hex(8),
            occupancy=home.id,
            place=home.place,
            recipient=fields.recipient(row.recipient),
            channels=fields.channels(row.channels),
            step=fields.step(row.step, policy),
            purpose=fields.text(row.purpose, "purpose", fields.LONGEST_WORD),
            since=since,
            until=fields.until(row.until, since),
            word=author.word(row.where),
        )
        yield _claimed(claims, consent)

    return _each(rows, admit)


def admit_pin(index: Index, device: str, serial: str, author: Author) -> list[Document]:
    """Renew the device's installations without a serial number, with the one it said."""
    claims = _standing(index)
    said = fields.text(serial, "serial", fields.LONGEST_LABEL)
    loose = [doc for doc in index.installations if doc.device == device and doc.serial is None]
    word = author.word("")
    return [_claimed(claims, replace(doc, serial=said, pinned=True, word=word)) for doc in loose]


def _each(rows: Sequence[R], admit: Callable[[R], Iterator[Document]]) -> list[Document]:
    """Admit all rows, or raise Refused with what is wrong with each."""
    problems, documents = Problems(), []
    for row in rows:
        try:
            if row.fault:
                raise Refused(row.fault)
            documents += list(admit(row))
        except (Refused, ValueError) as error:
            problems.add(row.where, str(error))
    problems.settle()
    return documents


def _standing(index: Index) -> Claims:
    claims = Claims(index.places)
    standing: list[Document] = [*index.installations, *index.occupancies, *index.consents]
    for document in standing:
        claims.add(document)
    return claims


def _claimed(claims: Claims, document: Document) -> Document:
    against = claims.add(document)
    if against:
        raise Refused(f"{claims.statement(document)}, but {against}")
    return document


def _place_said(place: Place) -> str:
    return f"{place.label} ({shown(place.id)})"


def _since(since: int | None, author: Author) -> int:
    return int(author.now) if since is None else sane(since)


def _home(index: Index, text: str, since: int) -> Occupancy:
    place = index.labels.find(text)
    if place.id[0] != "D":
        raise Refused(f"{_place_said(place)} is a {PLACES[place.id[0]]}: only dwellings consent")
    home = index.occupancy_at(place.id, since)
    if home is None:
        raise Refused(f"{_place_said(place)}: nobody is known to live there at {stamp(since)}")
    return home

"""Documents as rows of the registry's file, and back: JSON; decimal numbers keep their digits."""

from __future__ import annotations

from dataclasses import asdict, fields
from decimal import Decimal
from typing import Any

from agent.registry.facts.place import PARTICULARS
from agent.registry.records import (
    Alias,
    Consent,
    ConsentMark,
    Document,
    Duty,
    Form,
    Installation,
    Occupancy,
    Place,
    Provenance,
    Withdrawal,
)

KINDS: dict[str, type[Document]] = {
    cls.kind: cls
    for cls in (Place, Alias, Occupancy, Installation, Consent, Withdrawal, ConsentMark, Form, Duty)
}
NAMES = {kind: tuple(member.name for member in fields(cls)) for kind, cls in KINDS.items()}
NUMBERS = ("multiplier", "offset")
INDEXES = ("opened", "closed")
UNKNOWN_BEFORE = {field.name for field in PARTICULARS}
LISTS = ("channels", "billing", "asked", "after", "answers")


def to_row(document: Document) -> dict[str, Any]:
    """A document as it is stored."""
    # not `asdict` of all: it copies each member, and a large registry has 100,000 documents
    members = {name: getattr(document, name) for name in NAMES[document.kind]}
    row = {"kind": document.kind, **members, "word": asdict(document.word)}
    if isinstance(document, Installation):
        for name in NUMBERS:
            row[name] = _digits(row[name])
        for name in INDEXES:
            row[name] = [[channel, _digits(value)] for channel, value in row[name]]
    # the previous version reads a registry without members that it does not know
    for name in UNKNOWN_BEFORE & row.keys():
        if row[name] is None:
            del row[name]
    return row


def _digits(value: Decimal) -> str:
    # as text, without an exponent: a JSON number would be read as a float and lose digits
    return format(value, "f")


def from_row(row: dict[str, Any]) -> Document:
    """A stored document. Raises KeyError, TypeError or ValueError if the row is not one."""
    members = dict(row)
    cls = KINDS[members.pop("kind")]
    provenance = Provenance(**members.pop("word"))
    # an older file lacks members that were added later, and JSON has lists in place of tuples
    for name in LISTS:
        if name in members:
            members[name] = tuple(members[name])
    for name in NUMBERS:
        if name in members:
            members[name] = Decimal(members[name])
    for name in INDEXES:
        if name in members:
            members[name] = tuple((channel, Decimal(value)) for channel, value in members[name])
    return cls(**members, word=provenance)

"""The registry: an append-only list of documents in one file, and answers from memory.

One owner, one thread. Every change is one atomic write of all its documents, and is in every
answer when the call returns.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tinydb import TinyDB

from agent.errors import Refused
from agent.registry.admit import (
    Author,
    admit_consents,
    admit_installations,
    admit_pin,
    admit_places,
)
from agent.registry.documents import Consent, Installation, Occupancy, Place, from_row, to_row
from agent.registry.index import Index, Unknown
from agent.registry.storage import AtomicStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from agent.registry.documents import Document
    from agent.registry.entries import NewConsent, NewInstallation, NewPlace
    from agent.registry.gate import Policy

TABLE = "documents"


class Registry:
    """Who, whose and since when, with the author of every fact."""

    def __init__(self, path: Path, fsync: Callable[[int], None] = os.fsync) -> None:
        self._path = path
        self._storage = AtomicStorage(path, fsync)
        self._table = TinyDB(storage=lambda: self._storage).table(TABLE)
        self._load()

    @classmethod
    def open(cls, path: Path) -> Registry:
        """Read the registry; one that is not there yet is empty, and is made by the first change.

        Raises Refused on a file that is no registry, which is left as it is.
        """
        return cls(path)

    @property
    def revision(self) -> int:
        """Number of the last change; 0 before the first. Each change's documents carry its own."""
        return self._documents[-1].word.revision if self._documents else 0

    def places(self) -> list[Place]:
        """All places, by label."""
        return sorted(self._index.places.values(), key=lambda place: place.label)

    def place(self, text: str) -> Place:
        """Find a place by id or label, forgivingly. Raises Refused on none or several, with
        candidates.
        """
        return self._index.labels.find(text)

    def installations(self) -> list[Installation]:
        """All installations in their latest version, by label and date."""
        return list(self._index.installations)

    def occupancies(self) -> list[Occupancy]:
        """All occupancies in their latest version, by label and date."""
        return list(self._index.occupancies)

    def consents(self) -> list[Consent]:
        """All consents, the one that lasts longest first."""
        return list(self._index.consents)

    def add_places(
        self, rows: Sequence[NewPlace], who: str, source: str, now: float
    ) -> list[Place]:
        """Record places, and an occupancy from `since` for each dwelling: all rows or none.

        Raises Refused, naming every wrong row, on a label or an id that is taken, too.
        """
        added = self._record(admit_places(self._index, rows, self._author(who, source, now)))
        return [document for document in added if isinstance(document, Place)]

    def would_add(self, rows: Sequence[NewPlace], who: str, source: str, now: float) -> list[Place]:
        """What `add_places` would record, without doing it; ids that are to be minted will be
        others. Raises Refused as it does.
        """
        would = admit_places(self._index, rows, self._author(who, source, now))
        return [document for document in would if isinstance(document, Place)]

    def would_install(
        self, rows: Sequence[NewInstallation], who: str, source: str, now: float
    ) -> list[Installation]:
        """What `install` would record, without doing it. Raises Refused as it does."""
        would = admit_installations(self._index, rows, self._author(who, source, now))
        return [document for document in would if isinstance(document, Installation)]

    def install(
        self, rows: Sequence[NewInstallation], who: str, source: str, now: float
    ) -> list[Installation]:
        """Record which meter measures which place: all rows or none.

        Raises Refused, naming every wrong row and what stands against it.
        """
        author = self._author(who, source, now)
        added = self._record(admit_installations(self._index, rows, author))
        return [document for document in added if isinstance(document, Installation)]

    def consent(
        self, rows: Sequence[NewConsent], who: str, source: str, now: float, policy: Policy
    ) -> list[Consent]:
        """Record what the people of dwellings agreed to, within the policy: all rows or none.

        Raises Refused, naming every wrong row and what stands against it.
        """
        author = self._author(who, source, now)
        added = self._record(admit_consents(self._index, rows, author, policy))
        return [document for document in added if isinstance(document, Consent)]

    def pin(
        self, device: str, serial: str, who: str, source: str, now: float
    ) -> list[Installation]:
        """Bind the device's installations that have no serial number to the one it said first.

        Nothing is written where there is none. Raises Refused if that meter is installed elsewhere.
        """
        added = self._record(admit_pin(self._index, device, serial, self._author(who, source, now)))
        return [document for document in added if isinstance(document, Installation)]

    def whose(
        self, device: str, serial: str | None, channel: str, t: int
    ) -> Installation | Unknown:
        """Which installation a value of slot t (seconds UTC) belongs to, or why nobody knows.

        `serial` is what the device itself says; None: it says none. Where the device has an
        installation of its own name, that one alone decides; a serial number that differs from it
        is Unknown, whatever else is installed (design.md 2, invariant 4).
        """
        return self._index.whose(device, serial, channel, t)

    def occupancy_at(self, place: str, t: int) -> Occupancy | None:
        """Who lives in a place (by id) at t; None: nobody, or nobody knows."""
        return self._index.occupancy_at(place, t)

    def lived_in_before(self, place: str, t: int) -> bool:
        """Whether any occupancy of the place began at or before t."""
        return self._index.lived_in_before(place, t)

    def consents_of(self, occupancy: str, recipient: str) -> Sequence[Consent]:
        """List the consents of an occupancy to a recipient, the one that lasts longest first."""
        return self._index.consents_of(occupancy, recipient)

    def turns(self, start: int, end: int) -> list[int]:
        """Instants in (start, end], sorted, at which an answer may change: every since and until.

        A policy's own `common.since` is not among them.
        """
        return self._index.turns(start, end)

    def _author(self, who: str, source: str, now: float) -> Author:
        return Author(who, source, now, self.revision + 1)

    def _record(self, documents: list[Document]) -> list[Document]:
        if documents:
            try:
                self._table.insert_multiple(to_row(document) for document in documents)
            except OSError as error:
                # what the file says now is what a restart would believe
                self._load()
                raise Refused(
                    f"{self._path} could not be written ({error}): look whether it was recorded "
                    f"before you do it again"
                ) from error
            self._documents += documents
            self._index = Index(self._documents)
        return documents

    def _load(self) -> None:
        stored = self._storage.read()
        try:
            tables = {TABLE: {}} if stored is None else dict(stored)
            rows = tables.pop(TABLE)
            if tables:
                raise ValueError(f"unknown tables {sorted(tables)}")
            self._documents = [from_row(row) for row in rows.values()]
            self._index = Index(self._documents)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise Refused(
                f"{self._path}: this is not a registry that this version can read "
                f"({type(error).__name__}: {error}); it was left as it is"
            ) from error

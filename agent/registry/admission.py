"""The checks that every input passes before it is recorded, whichever way it arrives. Either all
rows are admitted or none.

People import a whole list whenever something in it has changed: a row that repeats what is recorded
changes nothing and is not an error, and an empty cell contradicts nothing.

Here is what all kinds of documents share; admit_*.py has the checks of each kind. Pure except for
new ids: the functions take the state of the registry and rows, and return documents or raise
Refused, which names every wrong row.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.core.errors import Refused
from agent.registry.conflicts import Conflicts
from agent.registry.dates import sane
from agent.registry.place import PLACES, shown
from agent.registry.problems import Problems
from agent.registry.records import Provenance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import TypeVar

    from agent.registry.index import RegistryIndex
    from agent.registry.inputs import Input
    from agent.registry.records import Document, Place

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
) -> list[Document]:
    """Admit all rows, or raise Refused with the fault of each wrong row, in the order of the rows.

    Rows for which `first` is true are admitted before the others, for example ends before
    beginnings.
    """
    wrong: list[tuple[int, str, Exception]] = []
    documents: list[Document] = []
    numbered = list(enumerate(rows))
    # a stable sort: the rows of each half keep their order
    for number, row in sorted(numbered, key=lambda one: not first(one[1])):
        try:
            if row.fault:
                raise Refused(row.fault)
            documents += list(admit(row))
        except (Refused, ValueError) as error:
            wrong.append((number, row.where, error))
    if len(wrong) == 1 and not wrong[0][1]:
        # a single command gets the error itself: its caller may react to the error's class
        only = wrong[0][2]
        raise only if isinstance(only, Refused) else Refused(str(only)) from only
    problems = Problems()
    for _, where, what in sorted(wrong, key=lambda one: one[:2]):
        problems.add(where, str(what))
    problems.settle()
    return documents


def current_claims(index: RegistryIndex) -> Conflicts:
    """The claims of all documents in force."""
    return Conflicts(index)


def claim(claims: Conflicts, document: Document) -> Document:
    """Add the claims of a document and return it. Raises Refused if another document contradicts
    it, naming both.
    """
    against = claims.add(document)
    if against:
        raise Refused(f"{claims.statement(document)}, but {against}")
    return document


def dwelling(index: RegistryIndex, text: str, what: str) -> Place:
    """Find a dwelling. Raises Refused if there is none, or if it is a common area; `what` then
    completes "only dwellings …".
    """
    place = index.labels.find(text)
    if place.id[0] != "D":
        raise Refused(f"{label_and_id(place)} is a {PLACES[place.id[0]]}; only dwellings {what}")
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

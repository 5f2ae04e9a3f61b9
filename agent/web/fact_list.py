"""Lists that managers upload: which there are, what is read of a file, and by which call."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from agent.core.i18n import N_
from agent.registry.facts import alias, consent, meter, occupancy, place
from agent.registry.facts.declaration import Kind
from agent.registry.forms import is_answer_list
from agent.registry.workbook import text_of

if TYPE_CHECKING:
    from agent.registry.facts.declaration import FactCommand


class ListKind(Enum):
    """A kind of list; its value: the title, the command, and the name of its rows in the answer."""

    LEASES = (N_("List of leases"), occupancy.IMPORT, "occupancies")
    CONSENTS = (N_("Consents, or answers to forms"), consent.GIVE, "consents")
    PLACES = (N_("Dwellings and other places"), place.IMPORT, "places")
    NAMES = (N_("Further names of places"), alias.IMPORT, "aliases")
    METERS = (N_("Meters of the dwellings"), meter.IMPORT, "meters")

    @staticmethod
    def named(name: str) -> ListKind | None:
        """Return the kind that stands in an address."""
        return next((kind for kind in ListKind if kind.name.lower() == name), None)

    @property
    def title(self) -> str:
        """Its name for people."""
        return self.value[0]

    @property
    def command(self) -> FactCommand:
        """The command that records it."""
        return self.value[1]

    @property
    def columns(self) -> tuple[str, ...]:
        """Every heading that it may have."""
        return next(one.headings for one in self.command.fields if one.kind is Kind.FILE)

    def call(self, text: str, name: str) -> tuple[str, dict[str, Any]]:
        """Return the call that records a list, and its arguments."""
        answers = self is ListKind.CONSENTS and is_answer_list(text)
        return "consent.answers" if answers else self.command.call, {"text": text, "name": name}

    def rows(self, answer: dict[str, Any]) -> list[dict[str, Any]]:
        """Return what a list changes for occupants, with the dwelling and the days."""
        shown: list[dict[str, Any]] = []
        if self in {ListKind.LEASES, ListKind.CONSENTS}:
            shown = answer.get(self.value[2], shown)
        return shown

    def counted(self, answer: dict[str, Any]) -> int:
        """Return how many rows a list changes."""
        if "answers" in answer:
            return int(answer["given"]) + int(answer["ended"]) + int(answer["replaced"])
        return len(answer.get(self.value[2], ()))


def read_list(kind: ListKind, content: bytes, name: str) -> tuple[str, str]:
    """Return the text of an uploaded CSV or .xlsx file, and its name. Raises Refused."""
    plain = "".join(letter for letter in name if letter.isprintable())[-80:] or "list"
    return text_of(content, plain, kind.columns), plain

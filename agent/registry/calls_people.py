"""Calls of the commands about who lives where. As in calls.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core.errors import Refused
from agent.registry import answers, parsers, sheet
from agent.registry.inputs import NewOccupancy

if TYPE_CHECKING:
    from agent.registry.answers import Answer
    from agent.registry.registry import Registry

COLUMNS = {
    **{name: name for name in ("dwelling", "reference", "since", "until", "occupancy")},
    **dict.fromkeys(
        ("logement", "appartement", "label", "libellé", "désignation", "place"), "dwelling"
    ),
    **dict.fromkeys(
        ("bail", "n° de bail", "numéro de bail", "référence", "lease", "contrat"), "reference"
    ),
    **dict.fromkeys(("depuis", "entrée", "date d'entrée", "move in", "début"), "since"),
    **dict.fromkeys(("sortie", "date de sortie", "jusqu'au", "move out", "fin"), "until"),
}


def move_in(  # noqa: PLR0913 -- as many options
    registry: Registry,
    *,
    who: str,
    now: float,
    place: str,
    since: str | None = None,
    until: str | None = None,
    reference: str | None = None,
    id: str | None = None,  # noqa: A002 -- the word people write
    zone: str | None = None,
) -> Answer:
    """Record that occupants move into a dwelling; `reference` is the manager's own."""
    begins, ends = parsers.when(since, zone, "since"), parsers.when(until, zone, "until")
    row = NewOccupancy("move_in", place, id, begins, ends, reference)
    return _occupied(registry, row, who, now, "gardien occupancy move-in")


def move_out(  # noqa: PLR0913
    registry: Registry,
    *,
    who: str,
    now: float,
    place: str = "",
    at: str | None = None,
    id: str | None = None,  # noqa: A002
    zone: str | None = None,
) -> Answer:
    """Record that the occupants of a dwelling move out, or moved out."""
    row = NewOccupancy("move_out", place, id, None, parsers.when(at, zone, "at"))
    return _occupied(registry, row, who, now, "gardien occupancy move-out")


def correct(  # noqa: PLR0913
    registry: Registry,
    *,
    who: str,
    now: float,
    place: str = "",
    id: str | None = None,  # noqa: A002
    since: str | None = None,
    until: str | None = None,
    reference: str | None = None,
    stays: bool = False,
    zone: str | None = None,
) -> Answer:
    """Record other dates of an occupancy than before; if both are the same, it never existed.

    `stays`: the occupants have not moved out.
    """
    begins, ends = parsers.when(since, zone, "since"), parsers.when(until, zone, "until")
    if stays and until:
        raise Refused("until: occupants who have not moved out have no end date; leave it out")
    row = NewOccupancy("correct", place, id, begins, ends, reference, stays)
    return _occupied(registry, row, who, now, "gardien occupancy correct")


def import_(  # noqa: PLR0913
    registry: Registry,
    *,
    who: str,
    now: float,
    text: str,
    name: str,
    zone: str | None = None,
    preview: bool = False,
) -> Answer:
    """Record the manager's list of leases, `dwelling;reference;since;until`: all rows or none.

    A recorded lease is updated. An occupancy without a reference becomes the lease that overlaps
    it. Rows that change nothing are ignored.
    """
    rows = []
    for line in sheet.read(text, name, COLUMNS, ("dwelling", "reference")):
        (since, until), fault = parsers.dated(line, zone, "since", "until")
        row = NewOccupancy(
            "lease", line.cells.get("dwelling", ""), line.cells.get("occupancy"), since, until,
            line.cells.get("reference"), where=line.where, fault=fault,
        )  # fmt: skip
        rows.append(row)
    changed = registry.occupy(rows, who, name, now, preview=preview)
    unread = {"not_read": sheet.unread(text, name, COLUMNS)}
    return answers.occupancies(registry, changed, now) | unread


def list_(registry: Registry, *, who: str, now: float, place: str = "") -> Answer:  # noqa: ARG001
    """List all occupancies, or those of one dwelling, including ended ones; and which dwellings are
    vacant or unknown now.
    """
    id_ = registry.place(place).id if place else None
    rows = [one for one in registry.occupancies() if id_ in (None, one.place)]
    rest = answers.not_occupied(registry, now, id_)
    return answers.occupancies(registry, rows, now) | {"not_occupied": rest}


def _occupied(registry: Registry, row: NewOccupancy, who: str, now: float, source: str) -> Answer:
    return answers.occupancies(registry, registry.occupy([row], who, source, now), now)

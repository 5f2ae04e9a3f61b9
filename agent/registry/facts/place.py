"""A place: a dwelling, a common area or a building, with what is recorded of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.core.errors import Refused
from agent.registry.facts.declaration import (
    CONFIRM,
    FILE,
    PREVIEW,
    REQUIRED,
    SINCE,
    Field,
    Kind,
    argument,
    columns,
    flag,
    listed,
    number,
    stated,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGEST_AREA = 100_000


@dataclass(frozen=True, kw_only=True)
class Particulars:
    """What people state of a place and the registry keeps as it is. Nobody is sent any of it.

    Each member has a field of the same name below, and None for what was never stated.
    """

    # a base with slots of its own could not be combined with another
    __slots__ = ()

    area_m2: float | None = None
    """living area"""


def area(text: str) -> float:
    """A living area in m². Raises Refused."""
    value = number(text.casefold().replace("m²", "").replace("m2", ""))
    if value is None or not 0 < value <= LARGEST_AREA or value != round(value, 2):
        raise Refused('area_m2: "{text}" is not an area in m² such as 67.5', text=text)
    return float(value)


PARTICULARS = (
    Field(
        "area_m2",
        "The living area in m², such as 67.5.",
        headings=("area", "area (m²)", "surface", "surface (m²)"),
        read=area,
        exact=True,
        titles=("surface habitable (m²)", "living area (m²)"),
    ),
)


def particulars(place: Particulars) -> dict[str, Any]:
    """What is recorded of a place, by the name of the field; None: it was never stated."""
    return {field.name: getattr(place, field.name) for field in PARTICULARS}


def described(recorded: Mapping[str, Any], language: str) -> dict[str, str]:
    """All that is recorded of a place (see `particulars`), by title, in `fr` or `en`."""
    point = "," if language == "fr" else "."
    return {
        field.titles[language != "fr"]: f"{value}".removesuffix(".0").replace(".", point)
        for field in PARTICULARS
        if (value := recorded.get(field.name)) is not None
    }


LABEL = argument(
    "label",
    "What people call it, such as A-3-12.",
    headings=("libellé", "logement", "appartement", "désignation", "dwelling"),
    spoilt_as="date",
)
TYPE = Field(
    "type", "The type: dwelling, common or building.", default=REQUIRED, assumed="dwelling"
)
ID = Field("id", "An id that was created elsewhere.", headings=("identifiant", "place"))
BEGINS = SINCE._replace(
    help="When the present occupants moved in; default: occupancy unknown.",
    headings=(
        "depuis",
        "date d'entrée",
        "date entrée",
        "entrée",
        "entré le",
        "date d'arrivée",
        "depuis le",
        "date d'entrée locataire",
        "date d'entrée occupant",
        "occupé depuis",
    ),
)
LOT = Field(
    "lot",
    headings=("n° de lot", "numéro de lot", "n° lot", "no lot", "num lot", "code lot", "lots"),
)
"""of a row; it becomes an alias"""
WHERE = (
    Field("building", headings=("bât.", "bât", "bâtiment", "bloc", "tour")),
    Field("staircase", headings=("escalier", "esc.", "esc", "cage", "cage d'escalier", "montée")),
    Field("floor", headings=("étage", "ét.", "etg", "niveau")),
    Field(
        "door",
        headings=(
            "porte", "n° porte", "n° de porte", "n° appartement", "n° appt", "n° d'appartement",
            "n° logement", "n° de logement", "appt", "apt", "n° apt",
        ),
    ),
)  # fmt: skip
"""columns that together make a label where there is no column for it"""
NATURE = Field(
    "nature",
    headings=(
        "nature du lot", "type de lot", "type lot", "usage", "destination", "catégorie",
        "type de bien", "nature du bien", "type de logement", "type logement", "typologie",
        "description",
    ),
)  # fmt: skip
"""says what a lot is, beside or instead of `type`"""
LEAVES = Field(
    "until", headings=("sortie", "date de sortie", "date sortie", "départ", "date de départ")
)
PEOPLE = (
    Field("occupant", headings=("occupants", "nom de l'occupant", "nom occupant", "occupé par")),
    Field("tenant", headings=("locataire", "locataires", "nom du locataire", "nom locataire")),
    Field(
        "owner",
        headings=("copropriétaire", "propriétaire", "nom du copropriétaire", "nom copropriétaire"),
    ),
    Field(
        "status",
        headings=("occupation", "statut", "statut d'occupation", "type d'occupation", "situation"),
    ),
)
"""columns that show whether a dwelling is vacant; no name in them is kept"""
LOTS = (LOT, *WHERE, NATURE, LEAVES, *PEOPLE)
"""further columns of a list of lots as a syndic's software exports it (agent/registry/lots.py)"""
NEW = stated(
    "place.new",
    "Record one place and create its id.",
    LABEL,
    TYPE,
    ID,
    BEGINS._replace(prefixed=False),
    *PARTICULARS,
    CONFIRM,
)
SHEET = (LABEL, TYPE, ID, BEGINS, *PARTICULARS)
IMPORT = stated(
    "place.import",
    "Record the places in a spreadsheet and create their ids: all rows or none.\n\n"
    "With a column `lot`, cellars and parking spaces become additional names of their "
    "dwelling.",
    FILE._replace(
        headings=tuple(columns((*SHEET, *LOTS))),
        help="CSV or .xlsx with the columns label;type. An optional column since: when the"
        " present occupants moved in.",
    ),
    flag(
        "reviewed",
        "Skip confirmation of what gardien made of the list: labels, rows that are left out.",
        option="yes",
    ),
    Field(
        "types",
        "Import only rows of this type, such as appartement; may be repeated.",
        Kind.TEXTS,
        option="only",
    ),
    PREVIEW,
    CONFIRM,
)
LIST = listed("place.list", "List all places.")

"""A place: a dwelling, a common area or a building, with what is recorded of it."""

from __future__ import annotations

from agent.registry.facts.declaration import (
    FILE,
    PREVIEW,
    REQUIRED,
    SINCE,
    FactCommand,
    Field,
    Kind,
)

LABEL = Field(
    "label",
    "What people call it, such as A-3-12.",
    default=REQUIRED,
    argument=True,
    headings=("libellé", "logement", "appartement", "désignation", "dwelling"),
    spoilt_as="date",
)
TYPE = Field(
    "type",
    "The type: dwelling, common or building.",
    default=REQUIRED,
    assumed="dwelling",
)
ID = Field("id", "An id that was created elsewhere.", headings=("identifiant", "place"))
BEGINS = SINCE._replace(
    help="When the present occupants moved in; default: occupancy unknown.",
    headings=("depuis", "date d'entrée", "entrée"),
)
LOT = Field("lot", headings=("n° de lot", "numéro de lot", "n° lot"))
"""of a row; it becomes an alias (agent/registry/lots.py)"""
PARTICULARS: tuple[Field, ...] = ()
NEW = FactCommand("place.new", (LABEL, TYPE, ID, BEGINS._replace(prefixed=False), *PARTICULARS))
SHEET = (LABEL, TYPE, ID, BEGINS, *PARTICULARS)
IMPORT = FactCommand(
    "place.import",
    (
        FILE._replace(
            help="CSV or .xlsx with the columns label;type. An optional column since: when the"
            " present occupants moved in."
        ),
        Field(
            "types",
            "Import only rows of this type, such as appartement; may be repeated.",
            Kind.TEXTS,
            option="only",
        ),
        PREVIEW,
    ),
)
LIST = FactCommand("place.list", changes=False)

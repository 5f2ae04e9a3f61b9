"""An occupancy: from when to when somebody lives in a dwelling; no names of people."""

from __future__ import annotations

from agent.registry.facts.declaration import (
    AT,
    FILE,
    PREVIEW,
    REQUIRED,
    SINCE,
    UNSET,
    UNTIL,
    FactCommand,
    Field,
    Kind,
)

DWELLING = Field(
    "place",
    "The dwelling's label or id.",
    default="",
    assumed=REQUIRED,
    argument=True,
    option="dwelling",
)
ID = Field("id", "Only this occupancy.", metavar="H…")
REFERENCE = Field("reference", "Your own reference, such as the lease number.")
SHEET = (
    Field(
        "dwelling",
        default="",
        headings=("logement", "appartement", "label", "libellé", "désignation", "place"),
        member="place",
    ),
    REFERENCE._replace(
        headings=("bail", "n° de bail", "numéro de bail", "référence", "lease", "contrat")
    ),
    SINCE._replace(headings=("depuis", "entrée", "date d'entrée", "move in", "début")),
    UNTIL._replace(headings=("sortie", "date de sortie", "jusqu'au", "move out", "fin")),
    Field("occupancy", member="id"),
)
MOVE_IN = FactCommand(
    "occupancy.move_in",
    (
        DWELLING._replace(default=REQUIRED),
        SINCE,
        UNTIL,
        REFERENCE,
        ID._replace(help="An id that was created elsewhere."),
    ),
)
MOVE_OUT = FactCommand("occupancy.move_out", (DWELLING, AT._replace(member="until"), ID))
CORRECT = FactCommand(
    "occupancy.correct",
    (
        DWELLING,
        SINCE._replace(help="The day on which they moved in."),
        UNTIL._replace(
            help="The day on which they moved out. If it is the day of --since, they never lived"
            " there."
        ),
        Field("stays", "They have not moved out; it was a mistake.", Kind.FLAG, default=False),
        REFERENCE,
        ID,
    ),
)
IMPORT = FactCommand(
    "occupancy.import",
    (FILE._replace(help="CSV or .xlsx with the columns dwelling;reference;since;until."), PREVIEW),
)
LIST = FactCommand(
    "occupancy.list", (DWELLING._replace(help="Only this dwelling.", assumed=UNSET),), changes=False
)

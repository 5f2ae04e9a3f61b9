"""An occupancy: from when to when somebody lives in a dwelling; no names of people."""

from __future__ import annotations

from agent.registry.facts.declaration import (
    AT,
    CONFIRM,
    FILE,
    PREVIEW,
    REQUIRED,
    SINCE,
    UNSET,
    UNTIL,
    Field,
    argument,
    columns,
    flag,
    listed,
    stated,
)

DWELLING = argument(
    "place", "The dwelling's label or id.", default="", assumed=REQUIRED, option="dwelling"
)
ID = Field("id", "Only this occupancy.", metavar="H…")
REFERENCE = Field("reference", "Your own reference, such as the lease number.")
SHEET = (
    Field(
        "dwelling",
        default=REQUIRED,
        headings=("logement", "appartement", "label", "libellé", "désignation", "place"),
        member="place",
    ),
    REFERENCE._replace(
        default=REQUIRED,
        headings=("bail", "n° de bail", "numéro de bail", "référence", "lease", "contrat"),
    ),
    SINCE._replace(headings=("depuis", "entrée", "date d'entrée", "move in", "début")),
    UNTIL._replace(headings=("sortie", "date de sortie", "jusqu'au", "move out", "fin")),
    Field("occupancy", member="id"),
)
TYPE = Field("type")
"""of the lot: a lease of a garage is not that of a dwelling"""
MOVE_IN = stated(
    "occupancy.move_in",
    "Record that somebody moves in. The occupants before them must have moved out.",
    DWELLING._replace(default=REQUIRED),
    SINCE,
    UNTIL,
    REFERENCE,
    ID._replace(help="An id that was created elsewhere."),
    CONFIRM,
)
MOVE_OUT = stated(
    "occupancy.move_out",
    "Record that the occupants move out or have moved out.\n\n"
    "Recipients are asked to erase what was sent since they moved out.",
    DWELLING,
    AT._replace(member="until"),
    ID,
    CONFIRM,
)
CORRECT = stated(
    "occupancy.correct",
    "Correct the recorded dates of an occupancy.",
    DWELLING,
    SINCE._replace(help="The day on which they moved in."),
    UNTIL._replace(
        help="The day on which they moved out. If it is the day of --since, they never lived there."
    ),
    flag("stays", "They have not moved out; it was a mistake."),
    REFERENCE,
    ID,
    CONFIRM,
)
IMPORT = stated(
    "occupancy.import",
    "Record your list of leases, and update those that are known: all rows or none.",
    FILE._replace(
        headings=tuple(columns(SHEET)),
        help="CSV or .xlsx with the columns dwelling;reference;since;until.",
    ),
    PREVIEW,
    CONFIRM,
)
LIST = listed(
    "occupancy.list",
    "List all occupancies, and the dwellings that are vacant or of which nothing is known.",
    DWELLING._replace(help="Only this dwelling.", assumed=UNSET),
)
ROW = argument("row", "The row's id, from: gardien occupancy proposed.", option="id")
"""of an export of the manager's software (agent/registry/syndic_export.py)"""
PROPOSED = listed(
    "occupancy.proposed",
    "List rows of the manager's exports that wait for your decision: accept or dismiss.",
)
ACCEPT = stated(
    "occupancy.accept",
    "Record what a row of an export states.\n\n"
    "Recipients are asked to erase readings that were sent under the wrong occupancy.",
    ROW,
)
DISMISS = stated(
    "occupancy.dismiss", "Ignore a row. The same row is ignored in later exports, too.", ROW
)

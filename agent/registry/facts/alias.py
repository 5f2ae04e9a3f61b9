"""An alias: the name that another system uses for a place."""

from __future__ import annotations

from agent.registry.facts.declaration import (
    AT,
    CONFIRM,
    FILE,
    PREVIEW,
    SINCE,
    UNTIL,
    Field,
    argument,
    columns,
    listed,
    stated,
)

PLACE = argument(
    "place",
    "The place's label or id.",
    headings=("place_id", "label", "logement", "appartement", "dwelling"),
)
SCHEME = argument(
    "scheme",
    "The scheme: PRM, PCE, lot, RNB, fr.invariant, bis:desigo, …",
    metavar="SCHEME",
    headings=("référentiel", "système"),
)
VALUE = argument(
    "value",
    "The name in that system.",
    headings=("valeur", "identifiant", "numéro"),
    spoilt_as="number",
)
SHEET = (
    PLACE,
    SCHEME,
    VALUE,
    SINCE._replace(headings=("valid_from", "depuis")),
    UNTIL._replace(headings=("valid_to", "jusqu'au")),
    Field("note", default=""),
)
ADD = stated(
    "alias.add",
    "Record an alias: the name that another system uses for a place.",
    PLACE,
    SCHEME,
    VALUE,
    SINCE,
    UNTIL,
    CONFIRM,
    group="place alias",
)
END = stated(
    "alias.end",
    "Record that an alias of a place is no longer valid.",
    PLACE,
    SCHEME,
    VALUE._replace(help="Which alias, if there are several.", default=None, absent=""),
    AT._replace(member="until"),
    group="place alias",
)
IMPORT = stated(
    "alias.import",
    "Record the aliases in a spreadsheet: all rows or none.",
    FILE._replace(
        headings=tuple(columns(SHEET)), help="CSV or .xlsx with the columns place;scheme;value."
    ),
    PREVIEW,
    CONFIRM,
)
LIST = listed(
    "alias.list",
    "List all aliases of places, including those that are no longer valid.",
    argument("place", "Only this place.", default=""),
)

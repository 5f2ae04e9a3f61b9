"""An alias: the name that another system uses for a place."""

from __future__ import annotations

from agent.registry.facts.declaration import (
    AT,
    FILE,
    PREVIEW,
    REQUIRED,
    SINCE,
    UNTIL,
    FactCommand,
    Field,
)

PLACE = Field(
    "place",
    "The place's label or id.",
    default=REQUIRED,
    argument=True,
    headings=("place_id", "label", "logement", "appartement", "dwelling"),
)
SCHEME = Field(
    "scheme",
    "The scheme: PRM, PCE, lot, RNB, fr.invariant, bis:desigo, …",
    default=REQUIRED,
    argument=True,
    metavar="SCHEME",
    headings=("référentiel", "système"),
)
VALUE = Field(
    "value",
    "The name in that system.",
    default=REQUIRED,
    argument=True,
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
ADD = FactCommand("alias.add", (PLACE, SCHEME, VALUE, SINCE, UNTIL), group="place alias")
END = FactCommand(
    "alias.end",
    (
        PLACE,
        SCHEME,
        VALUE._replace(help="Which alias, if there are several.", default=None, absent=""),
        AT._replace(member="until"),
    ),
    group="place alias",
)
IMPORT = FactCommand(
    "alias.import",
    (FILE._replace(help="CSV or .xlsx with the columns place;scheme;value."), PREVIEW),
)
LIST = FactCommand(
    "alias.list", (Field("place", "Only this place.", default="", argument=True),), changes=False
)

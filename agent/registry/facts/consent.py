"""A consent: what the occupants of a dwelling let a recipient have, for one purpose."""

from __future__ import annotations

from agent.registry.facts.declaration import (
    CONFIRM,
    FILE,
    REQUIRED,
    SINCE,
    UNTIL,
    Field,
    Kind,
    argument,
    columns,
    flag,
    given,
    listed,
    stated,
)

DWELLING = ("label", "logement", "appartement", "dwelling", "libellé", "désignation")
"""headings of the column `place`"""
RECIPIENT = Field("recipient", "The recipient, by its DNS name.", headings=("destinataire",))
CHANNELS = Field(
    "channels",
    "A channel, such as heat; may be repeated.",
    Kind.TEXTS,
    option="channel",
    headings=("channel", "grandeur", "grandeurs", "données"),
)
SCOPE = Field(
    "scope",
    "How often: monthly, daily or loadcurve (the default).",
    headings=("portée", "granularité"),
)
STEP = Field(
    "step",
    "The shortest interval of a load curve, at least 10min; default: 30min.",
    headings=("pas",),
)
PURPOSE = Field("purpose", "The purpose; exactly one.", headings=("finalité", "but"))
BEGINS = SINCE._replace(help="Start; default: now.", headings=("depuis", "début"))
ENDS = UNTIL._replace(
    help="End; default and latest: 36 months after the signature.", headings=("jusqu'au", "fin")
)
GIVEN = Field(
    "given",
    "When it was signed, such as 2026-07-12; default: now.",
    Kind.MOMENT,
    headings=("donné le", "signé le", "date de signature"),
)
LEASE = Field(
    "lease",
    "For people who signed before they moved in: the reference of their lease, or their occupancy"
    " (H…).",
    headings=("bail", "n° de bail", "n° bail", "numéro de bail"),
)
AFTER = Field(
    "after",
    "The mark of a withdrawal that they knew of; may be repeated. See: consent marks.",
    Kind.TEXTS,
    headings=("après", "marque", "mark"),
)
COMMON = (RECIPIENT, CHANNELS, SCOPE, STEP, PURPOSE, BEGINS, ENDS, GIVEN, LEASE, AFTER)
"""fields that an option states for all rows, and a column for one"""
SHEET = (
    Field("place", default=REQUIRED, headings=DWELLING),
    *COMMON,
    Field("method"),
    Field("proof", headings=("preuve",)),
    Field("reference"),
)
POLICY = given("policy", "str", "FR-1")
RECIPIENTS = given("recipients", "Sequence[str]", ())
"""those in the configuration"""
GIVE = stated(
    "consent.give",
    "Record what the occupants of one or more dwellings have agreed to.\n\n"
    "If they withdrew a consent before, the command shows it and asks whether they agree "
    "again.",
    argument("places", "Labels or ids of dwellings.", default=None, kind=Kind.TEXTS),
    RECIPIENT,
    CHANNELS,
    PURPOSE,
    SCOPE,
    STEP,
    FILE._replace(
        headings=tuple(columns(SHEET)),
        help="CSV or .xlsx with a column `place`; cells of further columns (recipient, …)"
        " take precedence over the options.",
        default=None,
        argument=False,
    ),
    BEGINS,
    ENDS,
    GIVEN,
    LEASE,
    AFTER,
    flag(
        "replace", "End existing consents that conflict, even if they permit more than the new one."
    ),
    CONFIRM,
)
WITHDRAW = stated(
    "consent.withdraw",
    "Record that the occupants withdraw their consent.\n\n"
    "Sending stops at once, and the recipient is asked to erase all that it received "
    "under the consent.",
    argument("place", "The dwelling's label or id.", default=""),
    Field(
        "id",
        "The id of one consent. Without --purpose and --channel, all consents of its occupants"
        " for its recipient end.",
    ),
    RECIPIENT._replace(help="Only for this recipient."),
    PURPOSE._replace(help="Only for this purpose."),
    CHANNELS._replace(help="Only this channel; may be repeated."),
    CONFIRM,
)
MARKS = listed(
    "consent.marks",
    "Show what the occupants have withdrawn or refused, the latest at the end.\n\n"
    "A new consent is valid only if it names the latest mark: this shows that the "
    "occupants knew of that withdrawal or refusal.",
    argument("places", "Labels or ids of dwellings.", kind=Kind.TEXTS),
    RECIPIENT._replace(help="Only for this recipient."),
)
LIST = listed(
    "consent.list",
    "List all consents, including those that are no longer in force.",
    argument("place", "Only this dwelling.", default=""),
)

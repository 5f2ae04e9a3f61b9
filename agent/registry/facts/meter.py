"""An installation: which meter measures which place."""

from __future__ import annotations

from decimal import Decimal

from agent.core.errors import Refused
from agent.registry.facts.declaration import (
    AT,
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
    given,
    listed,
    number,
    stated,
)

MOST = Decimal(10) ** 15
"""no meter shows this much"""


def multiplier(text: str) -> Decimal:
    """The factor of a meter's index."""
    value = number(text)
    if value is None or not Decimal("0.000001") <= value <= 1_000_000:  # noqa: PLR2004 -- sane
        raise Refused('multiplier: "{text}" is not a number such as 10 or 0.1', text=text)
    return value


def offset(text: str) -> Decimal:
    """What is added to a meter's index."""
    value = number(text)
    if value is None or abs(value) >= MOST:
        raise Refused('offset: "{text}" is not a number such as -120.5', text=text)
    return value


PLACE = argument("place", "The dwelling's label or id.")
OLD = Field(
    "old",
    "The old or removed meter, by serial number or device; required if the place has several.",
)
CHANNEL = Field("channel", "Only this channel.", headings=("grandeur",))
MULTIPLIER = Field(
    "multiplier",
    "Multiply the index by this; needs --channel.",
    headings=("coefficient", "rapport tc"),
    read=multiplier,
)
OFFSET = Field("offset", "Add this to the index, after --multiplier.", read=offset)
INDEX = Field(
    "index",
    "The index (cumulative reading): 8412,5 or heat=8412.5; may be repeated.",
    Kind.INDEXES,
    headings=("index de pose", "index à la pose"),
)
CLOSING = Field(
    "closing",
    "The last index of the old or removed meter: 8412,5 or heat=8412.5; may be repeated.",
    Kind.INDEXES,
)
SHEET = (
    Field(
        "serial",
        headings=(
            "serial number", "n° de série", "numéro de série", "n° série", "n° compteur",
            "numéro de compteur", "matricule",
        ),
        spoilt_as="number",
    ),
    Field("device", headings=("appareil",)),
    Field(
        "dwelling",
        default=REQUIRED,
        headings=("logement", "appartement", "label", "place"),
        member="place",
    ),
    CHANNEL,
    SINCE._replace(headings=("depuis", "date de pose", "pose")),
    MULTIPLIER,
    OFFSET,
    INDEX,
)  # fmt: skip
KNOWN = given("known", "Sequence[str]", ())
"""the channels that the device measures"""
ALL = given("all_channels", "Sequence[str]", ())
"""the channels that the device measures, momentary ones too"""
LAST = given("last", "Mapping[str, LastReading] | None", None)
"""the last readings of the meter, by channel (agent/registry/doubts.py)"""
ASSIGN = stated(
    "meter.assign",
    "Record which place a device measures.",
    argument("device", "A configured device."),
    PLACE._replace(name="dwelling", member="place"),
    Field("serial", "The serial number on the meter; default: the first that the device reports."),
    CHANNEL,
    SINCE._replace(prefixed=False),
    MULTIPLIER,
    OFFSET,
    INDEX,
    CONFIRM,
)
EXCHANGE = stated(
    "meter.exchange",
    "Record a meter exchange, with the indexes of both meters if they are known.",
    PLACE,
    Field("serial", "The new meter's serial number; default: the first that its device reports."),
    OLD,
    CHANNEL,
    Field("device", "The configured device of the new meter; default: that of the old one."),
    AT,
    CLOSING,
    Field("opening", "The new meter's first index: 0 or heat=0.5; may be repeated.", Kind.INDEXES),
    MULTIPLIER,
    OFFSET,
    CONFIRM,
)
CORRECT = stated(
    "meter.correct",
    "Correct the multiplier of a meter, from now on or from a given time.",
    PLACE,
    CHANNEL._replace(default=REQUIRED),
    MULTIPLIER._replace(help="The right multiplier of the index.", default=REQUIRED),
    OLD._replace(help="The meter, by serial number or device; required if several fit."),
    SINCE._replace(member="at", prefixed=False),
    flag(
        "always", "The multiplier was never right: have the readings made with it erased."
    )._replace(member="never"),
    CLOSING._replace(help="What the meter showed at that time: 8412,5.", option="index"),
    CONFIRM,
)
REMOVE = stated(
    "meter.remove",
    "Record that a meter no longer measures a place, or never did.",
    PLACE,
    OLD,
    CHANNEL,
    AT,
    flag("never", "The meter never measured the place: have all its readings erased."),
    CLOSING,
    CONFIRM,
)
IMPORT = stated(
    "meter.import",
    "Record the meters in a spreadsheet: all rows or none.",
    FILE._replace(
        headings=tuple(columns(SHEET)),
        help="CSV or .xlsx with the columns serial;dwelling or device;dwelling.",
    ),
    flag("join_lines", "Do not read the meters' serial numbers.", default=True, option="offline"),
    PREVIEW,
    CONFIRM,
)
LIST = listed("meter.list", "List all meters and the places that they measure.")

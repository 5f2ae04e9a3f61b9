"""The terms of docs/rules as types: what a driver read, what is stored, and what is sent.

Times are seconds since 1970 UTC: whole seconds (`int`) for slots, `float` for moments. A step is a
whole number of seconds. Values are exact decimals in the unit given with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from agent.core.i18n import EMPTY, Text

Value = Decimal | str


class ValueKind(StrEnum):
    """What a value states about its slot `t` (rule R4)."""

    REG = "REG"
    """cumulative index at t"""
    INT = "INT"
    """quantity over (t − step, t]"""
    AVG = "AVG"
    """mean over (t − step, t]"""
    INS = "INS"
    """instantaneous at t"""
    EVT = "EVT"
    """a state from t until the next row of its series; sent when it changes, not for each slot"""


class Quality(StrEnum):
    """How far a value can be trusted (rule R5)."""

    MEASURED = "V"
    RAW = "R"
    SUSPECT = "S"
    ESTIMATED = "E"
    CORRECTED = "C"
    CALCULATED = "K"
    MISSING = "M"
    WITHHELD = "W"


class Flag(StrEnum):
    """Remarks on a value in addition to its quality, in the order in which they are written."""

    CLOCK = "CLK"
    """dated afterwards, because our clock was untrusted when the value was read (`ver` then says
    when); or the meter's own clock is wrong
    """
    ROLLED = "ROLL"
    """the index has rolled over to 0 since the previous reading"""
    EXCHANGED = "EXCH"
    """the meter was exchanged since the previous reading"""
    RESET = "RST"
    """the index fell without rolling over"""
    RANGE = "RNG"
    """outside the possible range of the quantity or its sensor"""
    FROZEN = "FRZ"
    """unchanged for longer than is likely"""
    SPIKE = "SPK"
    """changed faster than is possible"""
    LATE = "LATE"
    """read after its slot was declared missing"""
    DAYLIGHT = "DST"
    """the day that ends here has 23 or 25 hours"""
    MANUAL = "MAN"
    """entered by a person"""
    PART = "PART"
    """read so late that it covers another time than its slot"""
    UNPROVEN = "UNPR"
    """nothing has proven yet that the meter's factor is right (rule F15)"""


class Why(StrEnum):
    """Why a slot has no value: first the reasons of M, then those of W (rule R6)."""

    SILENT = "silent"
    LINK = "link"
    AGENT = "agent"
    BAD = "bad"
    EARLY = "early"
    BUSY = "busy"
    SHED = "shed"
    CLOCK = "clock"
    UPLINK = "uplink"
    """the operator had removed the recipient's uplink"""
    CONSENT = "consent"
    OCCUPANCY = "occupancy"
    VACANT = "vacant"
    FEW = "few"
    FACTOR = "factor"
    """the recipient takes no values whose factor is not proven"""


@dataclass(frozen=True, slots=True)
class Channel:
    """A quantity with its stable name and canonical unit: one row of channels.toml."""

    name: str
    kind: ValueKind
    unit: str
    obis: str | None
    personal: bool
    least: Decimal | None = None
    """smallest plausible value; for momentary values only, as the three below"""
    most: Decimal | None = None
    """greatest plausible value"""
    jump: Decimal | None = None
    """greatest possible change in a minute"""
    still: float | None = None
    """seconds for which the same value is plausible; after that the sensor counts as frozen"""
    en: str | None = None
    """its name for people, in English; None: values of a dwelling are never sent"""
    fr: str | None = None
    """its name for people, in French"""

    @property
    def derived(self) -> ValueKind:
        """The kind of value derived from it: from an index the quantity of a step, else a mean."""
        return ValueKind.INT if self.kind is ValueKind.REG else ValueKind.AVG

    @property
    def at_changes(self) -> bool:
        """Whether a row is made at each change and not for each slot."""
        return self.kind is ValueKind.EVT


@dataclass(frozen=True, slots=True)
class Point:
    """One value on a device, as configured."""

    device: str
    name: str
    address: str
    """address of the device on its line, in the driver's notation (Modbus: the unit id)"""
    at: str
    """address of the value in the device, in the driver's notation (`input/72/float32`)"""
    every: int
    """seconds between slots"""
    channel: str | None = None
    """None: shown to people or used as identity, never sent as a reading"""
    unit: str = "1"
    """unit of raw × scale"""
    scale: Decimal = Decimal(1)
    """value = raw × scale"""
    place: str | None = None
    """common plant that the configuration names; None: the registry knows the place"""
    rating: Decimal | None = None
    """greatest quantity in an hour, in the channel's unit; indexes only"""
    rolls_at: Decimal | None = None
    """where the index rolls over to 0, in the channel's unit; indexes only"""
    writable: bool = False
    """may be commanded; a driver writes to no other point"""
    derived: bool = False
    """calculated, not read: the quantity of a step from an index (kind INT), or the mean of a
    momentary value over a longer step (kind AVG)"""
    of: str = ""
    """name of the point from which a derived point is calculated"""
    to_prove: str = ""
    """identifies register, unit, factor and profile of a dwelling's index; else empty"""
    confirmed: bool = False
    """its factor needs no proof, unless a comparison contradicts it (rule F15)"""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a driver read: the raw value before `Point.scale`, or why there is none."""

    point: Point
    at: float
    """when the answer arrived, or when waiting for it ended"""
    value: Value | None = None
    why: Why | None = None
    """SILENT or BAD; None: the value is good"""
    detail: Text = EMPTY
    """for people: such as "illegal data address", or a remark on a good value"""
    absent: bool = False
    """whether the device refused the address (Modbus): it has no such value"""
    quality: str = Quality.RAW
    """of a good value, after agent/acquisition/values.py"""
    flags: tuple[str, ...] = ()
    """remarks on the value (`Flag`)"""
    delta: Decimal | None = None
    """quantity since the last good value, in the channel's unit; None if they do not compare"""


class Series(NamedTuple):
    """What all rows of one point for one recipient have in common."""

    place: str
    channel: str
    kind: str
    unit: str
    step: int
    meter: str | None
    occupancy: str | None
    basis: str
    """id of a consent or duty, `common`, or `rest`; empty: there is no basis (W)"""


@dataclass(frozen=True, slots=True)
class Reading:
    """The value of one slot, or why there is none: one row of a batch."""

    series: Series
    t: int
    value: Decimal | None
    quality: str
    delay: int = 0
    """whole seconds from the slot to the actual read"""
    why: str | None = None
    span: int = 1
    """number of slots t, t + step, … that this row covers; more than 1 only with M"""
    ver: int | None = None
    """Unix second at which the row was made, if it was not made on schedule"""
    again: bool = False
    """already sealed once, and now sealed again (rule T6)"""
    flags: str = ""
    """`Flag`s joined by +"""
    n: int | None = None
    """number of dwellings in a sum"""
    method: str = ""
    """how a calculated value was made: SUM"""


Told = tuple[tuple[str, str], ...]
"""states by name, as they were last sent to one recipient (agent/acquisition/slots.py)"""


class SlotMark(NamedTuple):
    """How far the slots of one device at one step are closed, for one spool."""

    slot: int
    """the last closed slot"""
    heard: bool
    """whether the device has ever answered; if not, a missing slot is `early`"""
    serial: str | None = None
    """the serial number it last gave, so that a silent device is still known after a restart"""
    states: Told = ()
    """its states as they were last sent; in memory also which slot is left to the disk"""


MarkKey = tuple[str, int]
"""device name and step in seconds"""


FOR_GOOD = 2**53 - 1
"""the highest `ver`: the largest integer that every JSON parser keeps exactly"""


class Range(NamedTuple):
    """All rows of a channel of a place in [since, until), as `Retraction.covers` counts them."""

    place: str
    channel: str
    since: int
    until: int


@dataclass(frozen=True, slots=True)
class Retraction:
    """The demand to erase rows: the spool destroys them, and the platform erases them and refuses
    them from then on, except rows with a higher `ver` (rule T19). A field that is None matches all.
    """

    id: str
    """a function of the change in the registry, so that it is the same whenever it is computed"""
    recipient: str | None
    """None: every recipient that may have such rows"""
    place: str
    channel: str | None
    occupancy: str | None
    basis: str | None
    meter: str | None
    """as in `Series`; rows of another meter of the same place stay"""
    since: int
    until: int | None
    """None: open"""
    ver: int
    """Unix second; a row made again needs a higher one. FOR_GOOD: none is made again"""
    reason: str
    """`withdrawn`, `moved`, `exchanged`, `corrected`, `clock`"""
    asked: int = 0
    """Unix second at which it was made"""
    former: str = ""
    """the id that version 0.1 gave it; empty if it is the same"""

    def covers(self, recipient: str, series: Series, t: int) -> bool:
        """Whether a row of slot t is retracted, whatever its `ver` (rule I10).

        INT and AVG cover (t − step, t], so their slots are those in (since, until]. All other kinds
        are of the instant t, so their slots are those in [since, until).
        """
        # One second less turns the slots in (since, until] into times in [since, until).
        at = t - 1 if series.kind in (ValueKind.INT, ValueKind.AVG) else t
        return (
            self.since <= at
            and (self.until is None or at < self.until)
            and self.place == series.place
            and self.recipient in (None, recipient)
            and self.channel in (None, series.channel)
            and self.occupancy in (None, series.occupancy)
            and self.basis in (None, series.basis)
            and self.meter in (None, series.meter)
        )


class Lane(StrEnum):
    """Live: slots of the last two seal intervals, committed in time. Backfill: all others."""

    LIVE = "live"
    BACKFILL = "backfill"


class Void(StrEnum):
    """Why the content of a batch was destroyed (rules T4, T5, T10)."""

    WITHDRAWN = "withdrawn"
    RETRACTED = "retracted"
    EXPIRED = "expired"
    REJECTED = "rejected"
    GONE = "gone"


class BatchId(NamedTuple):
    """The id of one delivery (rule T1)."""

    gateway: str
    recipient: str
    epoch: str
    seq: int


@dataclass(frozen=True, slots=True)
class SealedBatch:
    """One batch as it is sent. It is the same byte for byte each time (rule T1)."""

    id: BatchId
    lane: Lane
    payload: bytes
    """the bytes that are sent, and whose hash is `sha256`"""
    sha256: str
    rows: int
    form: str = ""
    """how the transport has packed it; empty: zstd-compressed JSON, as it was sealed"""
    void: Void | None = None
    """why the content was destroyed; `payload` then says only that (rule T5)"""
    original: str | None = None
    """sha256 of the content that a void replaces, if it is known"""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The recipient's statement of what it has stored (rule T3)."""

    gateway: str
    recipient: str
    epoch: str
    stored: tuple[tuple[int, str], ...] = ()
    rejected: tuple[tuple[int, str, str], ...] = ()
    retracted: tuple[tuple[str, int], ...] = ()
    """ids of applied retractions, and how many rows each has removed"""
    slow_down: int = 0
    """seconds to leave between batches, as the platform asks"""
    by_broker: bool = False
    """made from a broker's acknowledgement; it proves nothing about the recipient (rule T11)"""
    kid: str = ""
    """of the recipient's key that has signed it; empty: unsigned (rule T35)"""

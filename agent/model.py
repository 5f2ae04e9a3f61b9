"""The words of docs/rules as types: what a driver read, what the building did, what leaves.

Times are whole seconds since 1970 UTC (`int`) where they are slots, and the same in `float` where
they are moments; a step is a whole number of seconds. Values are exact decimals in the unit named
beside them.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

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
    """a state from t on until the next row of its series: told when it changes, not each slot"""


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
    """What must be known of a value beside its quality, in the order they are written."""

    CLOCK = "CLK"
    """dated after the fact, our clock was not to be believed when it was read (then `ver` says
    when); or the meter's own clock is wrong
    """
    ROLLED = "ROLL"
    """the index has begun again at 0 since the reading before"""
    EXCHANGED = "EXCH"
    """another meter measures since the reading before"""
    RESET = "RST"
    """the index fell, and not because it rolled over"""
    RANGE = "RNG"
    """outside what the quantity or its sensor can be"""
    FROZEN = "FRZ"
    """has not changed for longer than is likely"""
    SPIKE = "SPK"
    """changed faster than is possible"""
    LATE = "LATE"
    """read after its slot had been declared missing"""
    DAYLIGHT = "DST"
    """the day that ends here has 23 or 25 hours"""
    MANUAL = "MAN"
    """written down by a person"""
    PART = "PART"
    """read so late that it speaks for another time than its slot's"""


class Why(StrEnum):
    """Why a slot has no value: M first, then W (rule R6)."""

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


@dataclass(frozen=True, slots=True)
class Channel:
    """A quantity in our stable name, with its canonical unit; one row of channels.yaml."""

    name: str
    kind: ValueKind
    unit: str
    obis: str | None
    personal: bool
    least: Decimal | None = None
    """no smaller value is believed; momentary ones only, as the three below"""
    most: Decimal | None = None
    """no greater value is believed"""
    jump: Decimal | None = None
    """the most by which it can change in a minute"""
    still: float | None = None
    """seconds for which a sensor may say the very same before it is said to be frozen"""
    en: str | None = None
    """what people are told it is, in English; None: of a dwelling it never leaves"""
    fr: str | None = None
    """the same in French"""

    @property
    def derived(self) -> ValueKind:
        """What is derived of it: of an index what flowed, else the mean."""
        return ValueKind.INT if self.kind is ValueKind.REG else ValueKind.AVG

    @property
    def at_changes(self) -> bool:
        """Whether rows come when it changes, and not in each slot."""
        return self.kind is ValueKind.EVT


@dataclass(frozen=True, slots=True)
class Point:
    """One value on a device, as configured."""

    device: str
    name: str
    address: str
    """of the device on its link, in the driver's notation (Modbus: the unit id)"""
    at: str
    """of the value on the device, in the driver's notation (`input/72/float32`)"""
    every: int
    """seconds between slots"""
    channel: str | None = None
    """None: read by people and for identity, never a reading"""
    unit: str = "1"
    """of raw × scale"""
    scale: Decimal = Decimal(1)
    """value = raw × scale"""
    place: str | None = None
    """common plant named in the configuration; None: the registry says whose it is"""
    rating: Decimal | None = None
    """the most that can flow in an hour, in the channel's unit; registers only"""
    rolls_at: Decimal | None = None
    """where the index begins again at 0, in the channel's unit; registers only"""
    writable: bool = False
    """may be commanded; a driver writes to no other point"""
    derived: bool = False
    """not read: what flowed in the step of an index (kind INT), or the mean over a longer step of a
    momentary value (kind AVG)"""
    of: str = ""
    """of a derived one: the name of the point that it is derived from"""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a driver read: the raw value before `Point.scale`, or why there is none."""

    point: Point
    at: float
    """when the answer (or the end of waiting for it) came"""
    value: Value | None = None
    why: Why | None = None
    """SILENT or BAD; None: the value is good"""
    detail: str = ""
    """for people: "illegal data address"; of a good value, what must be known of it"""
    quality: str = Quality.RAW
    """of a good value; judged by pipeline/judge.py"""
    flags: tuple[str, ...] = ()
    """what speaks against it, or must be known of it (`Flag`)"""
    delta: Decimal | None = None
    """what flowed since the last good value, in the channel's unit, where the two compare"""


class Series(NamedTuple):
    """What the rows of one point have in common on their way to one recipient."""

    place: str
    channel: str
    kind: str
    unit: str
    step: int
    meter: str | None
    occupancy: str | None
    basis: str
    """id of a consent or duty, `common`, or `rest`; empty: there is none (W)"""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the building did in one slot, or why nobody knows. One row of a batch."""

    series: Series
    t: int
    value: Decimal | None
    quality: str
    delay: int = 0
    """whole seconds from the slot to the actual read"""
    why: str | None = None
    span: int = 1
    """this row stands for so many slots t, t + step, …; only on M"""
    ver: int | None = None
    """Unix second at which a row out of schedule was made; None: made on schedule"""
    again: bool = False
    """sealed before, and sealed anew (rule T6)"""
    flags: str = ""
    """`Flag`s joined by +"""
    n: int | None = None
    """of a sum over dwellings: how many are in it"""
    method: str = ""
    """how a calculated value came about: SUM"""


Told = tuple[tuple[str, str], ...]
"""states by name, each as it was last told to one recipient (pipeline/states.py)"""


class SlotMark(NamedTuple):
    """How far the slots of one device at one step are closed, for one spool."""

    slot: int
    """the last closed slot"""
    heard: bool
    """has the device ever answered? (else a missing slot is `early`)"""
    serial: str | None = None
    """the serial number it last said, so that a silent device is still known after a restart"""
    states: Told = ()
    """what was last told of its states"""


MarkKey = tuple[str, int]
"""device name and step in seconds"""


FOR_GOOD = 2**53 - 1
"""the highest `ver` of all: the largest whole number that every reader of JSON keeps"""


class Range(NamedTuple):
    """All rows of a channel of a place in [since, until), as `Retraction.covers` reckons it."""

    place: str
    channel: str
    since: int
    until: int


@dataclass(frozen=True, slots=True)
class Retraction:
    """Rows that are taken back: the spool destroys them, the platform erases and refuses them for
    ever, save those whose `ver` is higher (rule T19). A member that is None: whatever it is.
    """

    id: str
    """the same change gives the same id, whoever works it out, and whenever"""
    recipient: str | None
    """None: all that may have any of them"""
    place: str
    channel: str | None
    occupancy: str | None
    basis: str | None
    meter: str | None
    """as in `Series`: what another meter of the same place measured stays"""
    since: int
    until: int | None
    """None: open"""
    ver: int
    """Unix second; a row made anew needs a higher one. FOR_GOOD: none is made anew"""
    reason: str
    """`withdrawn`, `moved`, `exchanged`, `corrected`, `clock`"""
    asked: int = 0
    """Unix second: since when"""
    former: str = ""
    """the id that version 0.1 gave it; empty: the same"""

    def covers(self, recipient: str, series: Series, t: int) -> bool:
        """Whether a row of slot t is taken back, whatever its `ver`.

        INT and AVG are of (t − step, t], so theirs are the slots in (since, until]; all others are
        of the instant t, in [since, until) (rule I10).
        """
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
    """Live = slots, and fresh readings committed, in the last two seal intervals; backfill = all
    others.
    """

    LIVE = "live"
    BACKFILL = "backfill"


class Void(StrEnum):
    """Why a batch was destroyed under its id (rules T4, T5, T10)."""

    WITHDRAWN = "withdrawn"
    RETRACTED = "retracted"
    EXPIRED = "expired"
    REJECTED = "rejected"
    GONE = "gone"


class BatchId(NamedTuple):
    """The id of one delivery, everywhere (rule T1)."""

    gateway: str
    recipient: str
    epoch: str
    seq: int


@dataclass(frozen=True, slots=True)
class SealedBatch:
    """One batch as it is sent, byte for byte, however often it is sent."""

    id: BatchId
    lane: Lane
    payload: bytes
    """the bytes that are sent, and that `sha256` and a receipt speak of"""
    sha256: str
    rows: int
    form: str = ""
    """how the transport packed it; empty: zstd-compressed JSON, as it was sealed"""
    void: Void | None = None
    """why the id has no payload any more: `payload` says just that (rule T5)"""
    original: str | None = None
    """of a void: the sha256 of what was sealed under this id before, where that is known"""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The recipient's word on what it holds (rule T3)."""

    gateway: str
    recipient: str
    epoch: str
    stored: tuple[tuple[int, str], ...] = ()
    rejected: tuple[tuple[int, str, str], ...] = ()
    retracted: tuple[tuple[str, int], ...] = ()
    """id of a retraction, and how many rows it removed there"""
    slow_down: int = 0
    """seconds the far side asks us to leave between batches"""
    by_broker: bool = False
    """a broker's word for what it took: it never says what the recipient holds (rule T11)"""

"""A hold record: the value of ours that stands, or may stand, at one point, and how it is released.

It is on the disk before anything is written to the device (rules H14, H15). Its fields are the
members of a JSON object in the journal: to rename one is to change the file format.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from agent.control.model import OrderState
from agent.control.record_versions import understood
from agent.control.stamps import Moment

if TYPE_CHECKING:
    from agent.core.model import Value


class Phase(StrEnum):
    """How far a hold is."""

    WRITING = "WRITING"
    """`target` may stand at the device already"""
    APPLIED = "APPLIED"
    """`target` was read back"""
    RELEASING = "RELEASING"
    """the release is tried until the device confirms it"""
    CLOSED = "CLOSED"


@dataclass(frozen=True, slots=True)
class WriteTarget:
    """Where a value was written. It is enough to find the point under another configuration."""

    link: str
    driver: str
    settings: str
    """the settings of the line, as JSON"""
    device: str
    point: str
    address: str
    at: str
    unit: str = "1"
    scale: str = "1"
    serial: str = ""
    """the address of the device's serial number; empty: it has none"""

    @property
    def name(self) -> str:
        """The point as DEVICE/POINT."""
        return f"{self.device}/{self.point}"

    @property
    def spot(self) -> tuple[str, str, str]:
        """Line, device address and register or object: the same point under any name."""
        return self.link, self.address, self.at


@dataclass(frozen=True, slots=True)
class WatchdogTarget:
    """A device's own watchdog, as written during a hold (rule H23).

    While it is refreshed, the device follows us. Once we are gone, it falls back by itself
    (agent/drivers/watchdog.py).
    """

    place: WriteTarget
    word: Decimal
    """the value that refreshes it, in its unit"""
    pause: float
    """seconds between two refreshes: half its timeout"""
    fallback: WriteTarget | None = None
    """the register with the value to which the device falls back; None: it has none"""


@dataclass(frozen=True, slots=True)
class HoldRecord:
    """A chain of holds on one point and slot. An order that supersedes another inherits it."""

    control: str
    jti: str
    """the id of the order in force; `failsafe`, `test` or `handed` if it is none"""
    place: WriteTarget
    slot: int | None
    """our priority; None: a register, which has none"""
    pre: Value | None
    """the value in our slot, or in the register, before the first write"""
    target: Value
    """the value that must stand there now"""
    known: tuple[Value, ...]
    """each value of ours in this chain: as committed, and as read back from the device"""
    restore: Value | None
    """the value that the release writes; None: it empties our slot"""
    begun: Moment
    end: float
    """wall time at which it ends at the latest"""
    lasts: float
    """seconds after `begun` at which it ends at the latest"""
    base: Decimal | None = None
    """the value that the device followed before the first write, if that is a number"""
    tolerance: Decimal = Decimal(0)
    identity: str = ""
    """the serial number that the device gave; empty: it gives none"""
    phase: Phase = Phase.WRITING
    outcome: OrderState = OrderState.COMPLETED
    """the state that is reported after the release"""
    words: str = ""
    """why it is released, for people"""
    pending: bool = False
    """RELEASE_PENDING was reported"""
    alarm: str = ""
    """what a person must attend to; empty: nothing"""
    measured: str = ""
    """the power before the hold, for the report"""
    failsafe: Decimal | None = None
    """of a limit: the value that is written instead of a release if the agent has died"""
    fallback: Value | None = None
    """the value to which the device's own watchdog falls back"""
    dog: WatchdogTarget | None = None
    """the device's own watchdog, refreshed during the hold"""
    dog_pre: Value | None = None
    """the value in the watchdog's register before the hold"""
    moved: Moment | None = None
    """when `target` last changed; a ramp goes on from there"""
    agreed: str = ""
    """version of the control sheet when `target` was written"""
    number: int = 0

    @property
    def first(self) -> bool:
        """Whether no value of ours was read there yet: the first write replaces `pre`."""
        return self.phase is Phase.WRITING and len(self.known) == 1

    @property
    def key(self) -> tuple[str, str]:
        """The point, by device and name."""
        return self.place.device, self.place.point

    def ours(self, value: Value | None) -> bool:
        """Whether a value at the point is one of ours.

        The failsafe and the watchdog's fallback count as ours too: the releaser and the device set
        them without a record on the disk.
        """
        beside = [one for one in (self.fallback, self.failsafe) if one is not None]
        return value is not None and any(
            same(value, one, self.tolerance) for one in (*self.known, *beside)
        )

    def knowing(self, *values: Value | None) -> HoldRecord:
        """The record with further values of ours."""
        new = [value for value in values if value is not None and value not in self.known]
        return replace(self, known=(*self.known, *new)) if new else self

    def releasing(self, outcome: OrderState, reason: str) -> HoldRecord:
        """The record as being released. If it is already, its first reason is kept."""
        if self.phase is Phase.RELEASING:
            return self
        return replace(self, phase=Phase.RELEASING, outcome=outcome, words=reason)


def same(value: Value | None, other: Value | None, tolerance: Decimal) -> bool:
    """Whether two values are equal, within the tolerance for rounding by a device."""
    if isinstance(value, Decimal) and isinstance(other, Decimal):
        return abs(value - other) <= tolerance
    return value == other


def encode(record: HoldRecord) -> str:
    """The record as JSON for the journal. Its number is the key of the row."""
    body = asdict(record)
    del body["number"]
    return json.dumps(body, default=_plain)


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return {"n": str(value)}
    raise TypeError(type(value).__name__)


def _value(pairs: dict[str, Any]) -> Any:
    return Decimal(pairs["n"]) if pairs.keys() == {"n"} else pairs


def _dog(body: dict[str, Any]) -> WatchdogTarget:
    fallback = understood(WriteTarget, body["fallback"]) if body["fallback"] else None
    return WatchdogTarget(
        understood(WriteTarget, body["place"]), body["word"], body["pause"], fallback
    )


def decode(number: int, text: str) -> HoldRecord:
    """Read a record. Raises ValueError, KeyError or TypeError if the text is none."""
    body = json.loads(text, object_hook=_value)
    record: HoldRecord = understood(
        HoldRecord,
        body
        | {
            "number": number,
            "place": understood(WriteTarget, body["place"]),
            "dog": _dog(body["dog"]) if body["dog"] else None,
            "begun": Moment(**body["begun"]),
            "moved": Moment(**body["moved"]) if body.get("moved") else None,
            "known": tuple(body["known"]),
            "phase": Phase(body["phase"]),
            "outcome": OrderState(body["outcome"]),
        },
    )
    return record

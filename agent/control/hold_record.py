"""One row of the journal: what stands, or may stand, at one point by our doing, and how it is
given back (rules H14, H15). It is on the disk before anything is written to the device.
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
    from agent.model import Value


class Phase(StrEnum):
    """How far a row is."""

    WRITING = "WRITING"
    """`target` may stand at the device, or not yet"""
    APPLIED = "APPLIED"
    """`target` was read back"""
    RELEASING = "RELEASING"
    """it is given back until the device confirms"""
    CLOSED = "CLOSED"


@dataclass(frozen=True, slots=True)
class WriteTarget:
    """Where a value was written, so that it is found again whatever the configuration says then."""

    link: str
    driver: str
    settings: str
    """of the line, as JSON"""
    device: str
    point: str
    address: str
    at: str
    unit: str = "1"
    scale: str = "1"
    serial: str = ""
    """where the device says which one it is; empty: it does not"""

    @property
    def name(self) -> str:
        """The point, as people write it."""
        return f"{self.device}/{self.point}"

    @property
    def spot(self) -> tuple[str, str, str]:
        """Where on which line, whatever it is called."""
        return self.link, self.address, self.at


@dataclass(frozen=True, slots=True)
class WatchdogTarget:
    """A device's own watchdog: what it is told again and again, so that it falls back once we are
    gone (agent/drivers/watchdog.py).
    """

    place: WriteTarget
    word: Decimal
    """what it is told, in its unit"""
    pause: float
    """seconds from one word to the next"""
    fallback: WriteTarget | None = None
    """holds the value to which it falls back"""


@dataclass(frozen=True, slots=True)
class HoldRecord:
    """One chain of holds on one point and slot: who supersedes inherits it."""

    control: str
    jti: str
    """the order in force; `failsafe` or `test` where it is none"""
    place: WriteTarget
    slot: int | None
    """our priority; None: a register, which has none"""
    pre: Value | None
    """what stood in our slot, or in the register, before the first write"""
    target: Value
    """what is to stand there now"""
    known: tuple[Value, ...]
    """every value of ours in this chain: as journaled, and as the device read it back"""
    restore: Value | None
    """what is written to give back; None: our slot is emptied"""
    begun: Moment
    end: float
    """wall time by which it must be over"""
    lasts: float
    """seconds after `begun` by which it must be over"""
    base: Decimal | None = None
    """what the device followed before the first write, where that is a number"""
    tolerance: Decimal = Decimal(0)
    identity: str = ""
    """which device it is, as it said; empty: it does not say"""
    phase: Phase = Phase.WRITING
    outcome: OrderState = OrderState.COMPLETED
    """what is reported once it is given back"""
    words: str = ""
    """why it is given back, for people"""
    pending: bool = False
    """RELEASE_PENDING was reported"""
    alarm: str = ""
    """what somebody must look at"""
    measured: str = ""
    """what the power was before, for the report"""
    failsafe: Decimal | None = None
    """of a limit: what is written instead of giving back when the agent has died"""
    fallback: Value | None = None
    """what the device's own watchdog falls back to"""
    dog: WatchdogTarget | None = None
    """the device's own watchdog, told again and again"""
    dog_pre: Value | None = None
    """what stood in it before"""
    moved: Moment | None = None
    """when `target` last became another, for a ramp that goes on from there"""
    agreed: str = ""
    """version of what had been agreed when `target` was written"""
    number: int = 0

    @property
    def first(self) -> bool:
        """Whether nothing of ours has been seen there yet: the first write goes over `pre`."""
        return self.phase is Phase.WRITING and len(self.known) == 1

    @property
    def key(self) -> tuple[str, str]:
        """The point, by device and name."""
        return self.place.device, self.place.point

    def ours(self, value: Value | None) -> bool:
        """Whether a value found there is one of ours: also the failsafe, which a releaser writes
        that cannot note it on the disk before.
        """
        beside = [one for one in (self.fallback, self.failsafe) if one is not None]
        return value is not None and any(
            same(value, one, self.tolerance) for one in (*self.known, *beside)
        )

    def knowing(self, *values: Value | None) -> HoldRecord:
        """The same, with further values of ours."""
        new = [value for value in values if value is not None and value not in self.known]
        return replace(self, known=(*self.known, *new)) if new else self

    def releasing(self, outcome: OrderState, reason: str) -> HoldRecord:
        """The same, to be given back; the first reason stays."""
        if self.phase is Phase.RELEASING:
            return self
        return replace(self, phase=Phase.RELEASING, outcome=outcome, words=reason)


def same(value: Value | None, other: Value | None, tolerance: Decimal) -> bool:
    """Whether two values are one, within what a device may round."""
    if isinstance(value, Decimal) and isinstance(other, Decimal):
        return abs(value - other) <= tolerance
    return value == other


def encode(record: HoldRecord) -> str:
    """As it stands in the file."""
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
    """Read a row. Raises ValueError, KeyError or TypeError where it is none."""
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

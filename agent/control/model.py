"""The words of demand response: what may be adjusted, who allowed it, what was ordered, what came.

Values are in the unit of the control's point; durations are seconds; moments are Unix seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.control.stamps import Moment


class LossRule(StrEnum):
    """What a loss of the agent, the centre or the clock means for a control."""

    SHIFT = "shift"
    """a comfort shift: any loss gives back"""
    LIMIT = "limit"
    """a capacity limit: a lost centre means the failsafe value"""


class OrderState(StrEnum):
    """What became of an order (rule H11)."""

    RECEIVED = "RECEIVED"
    REJECTED = "REJECTED"
    ACCEPTED = "ACCEPTED"
    SCHEDULED = "SCHEDULED"
    STARTED = "STARTED"
    RESTORING = "RESTORING"
    COMPLETED = "COMPLETED"
    CANCELLED = "CANCELLED"
    SUPERSEDED = "SUPERSEDED"
    ABORTED = "ABORTED"
    OPTED_OUT = "OPTED_OUT"
    EXPIRED = "EXPIRED"
    FAILED = "FAILED"
    RELEASE_PENDING = "RELEASE_PENDING"


class OrderCode(StrEnum):
    """Why an order was refused (rule H13)."""

    SIG = "E_SIG"
    KID = "E_KID"
    AUD = "E_AUD"
    TYP = "E_TYP"
    REPLAY = "E_REPLAY"
    EXPIRED = "E_EXPIRED"
    NOT_YET = "E_NOTYET"
    CLOCK = "E_CLOCK"
    ASSET = "E_ASSET"
    ACTION = "E_ACTION"
    RANGE = "E_RANGE"
    DURATION = "E_DURATION"
    NOTICE = "E_NOTICE"
    WINDOW = "E_WINDOW"
    QUOTA = "E_QUOTA"
    TIMER = "E_TIMER"
    GRANT_MISSING = "E_GRANT_MISSING"
    GRANT_LIMIT = "E_GRANT_LIMIT"
    REVOKED = "E_REVOKED"
    GUARD = "E_GUARD"
    INHIBITED = "E_INHIBITED"
    UNTESTED = "E_UNTESTED"
    OVERRIDDEN = "E_OVERRIDDEN"
    DEVICE = "E_DEVICE"
    STORAGE = "E_STORAGE"


@dataclass(frozen=True, slots=True)
class No:
    """A refusal: the code for programs, and for people what is missing or too much."""

    code: OrderCode
    reason: str
    role: str = ""
    """the role whose grant is missing, or whose limit is too narrow"""
    field: str = ""
    """the limit of that grant"""

    def __str__(self) -> str:
        inside = ",".join(part for part in (self.role, self.field) if part)
        return f"{self.code}({inside})" if inside else str(self.code)


@dataclass(frozen=True, slots=True)
class Window:
    """Hours of some days on the building's wall clock; 0 is Monday, minutes count from midnight."""

    days: frozenset[int]
    since: int
    until: int
    """before `since`: it goes over midnight, and belongs to the day on which it begins"""


Season = tuple[tuple[int, int], tuple[int, int]]
"""first and last day of a year, (month, day) each; the first after the last: over New Year"""


@dataclass(frozen=True, slots=True)
class Limits:
    """How far, how long, how often: of a modality, or of one grant. None: says nothing."""

    least: Decimal | None = None
    most: Decimal | None = None
    duration: float | None = None
    gap: float | None = None
    """seconds between the end of one event and the start of the next"""
    a_day: int | None = None
    """events on one day of the building"""
    time_a_day: float | None = None
    """seconds of events on one day"""
    notice: float | None = None
    windows: tuple[Window, ...] = ()
    """empty: at any hour"""
    season: Season | None = None
    emergency: bool = False
    """emergency orders are allowed"""


@dataclass(frozen=True, slots=True)
class Guard:
    """A point that must stay within bounds while a control is held."""

    name: str
    device: str
    point: str
    every: int
    least: Decimal | None
    most: Decimal | None
    unit: str


@dataclass(frozen=True, slots=True)
class Failsafe:
    """What a capacity limit falls back to while the centre is not heard."""

    value: Decimal
    lasts: float
    """seconds for which it is applied at least (2 h to 24 h by LPC)"""
    heartbeat: float
    """seconds between two words of the centre; twice that without one is a loss. 0: not used"""


@dataclass(frozen=True, slots=True)
class Modality:
    """What may be adjusted at one point, as agreed with those concerned."""

    name: str
    action: str
    """offset, setpoint, pause, mode or limit"""
    kind: LossRule
    unit: str
    limits: Limits
    equipment: str
    """what it is, for grants of a kind: `heating`"""
    choices: tuple[Decimal, ...] = ()
    """the only values it takes; empty: any within the limits"""
    step: Decimal | None = None
    """values are whole multiples of it"""
    on: float = 0.0
    """seconds for which a hold lasts at least"""
    off: float = 0.0
    """seconds between a give-back and the next begin"""
    ramp: Decimal | None = None
    """the most by which the value changes in a minute"""
    spread: float = 0.0
    """seconds over which the planned give-back is drawn"""
    guards: tuple[Guard, ...] = ()
    inhibit: tuple[str, str] | None = None
    """device and point of the operator's own off switch"""
    require: tuple[str, ...] = ()
    """the roles all of which must have granted"""
    failsafe: Failsafe | None = None
    tolerance: Decimal = Decimal("0.01")
    """by which a value read back may differ"""
    version: str = ""
    """of what was agreed, as it stands on the page that was signed"""


@dataclass(frozen=True, slots=True)
class Grant:
    """The standing word of a role-holder: who may order what, within which limits."""

    jti: str
    role: str
    by: str
    """who granted"""
    to: str
    """who may order"""
    since: float
    until: float
    assets: tuple[str, ...]
    """controls by name, or `kind:heating`"""
    actions: tuple[str, ...]
    limits: Limits
    unit: str | None = None
    revoked: float | None = None
    """when; None: stands"""
    kid: str = ""
    occupancy: str | None = None
    evidence: str = ""
    """on which vote, contract or form it stands, for people"""

    def covers(self, name: str, equipment: str) -> bool:
        """Whether it is about a control of this name or equipment."""
        return name in self.assets or f"kind:{equipment}" in self.assets


@dataclass(frozen=True, slots=True)
class ControlOrder:
    """A signed order as it concerns one control."""

    jti: str
    control: str
    by: str
    """whose key signed"""
    role: str
    action: str
    value: Decimal | None
    unit: str | None
    start: float
    duration: float
    rand: float = 0.0
    seq: int = 0
    prio: int = 50
    emergency: bool = False
    resume: bool = False
    auth: tuple[str, ...] = ()
    ref: str = ""
    why: str = ""
    kid: str = ""
    received: float = 0.0

    @property
    def latest_end(self) -> float:
        """The last moment at which it could be in force, whatever is drawn."""
        return self.start + self.rand + self.duration


@dataclass(frozen=True, slots=True)
class AcceptedOrder:
    """An order that was accepted, and how far it is; quotas and timers count these."""

    order: ControlOrder
    state: OrderState
    begin: float
    """start and draw: fixed at acceptance"""
    back: float
    """seconds before the end at which the give-back begins: drawn at acceptance"""
    grants: tuple[str, ...] = ()
    """by whose word"""
    began: bool = False
    """something was written for it"""
    accepted: float = 0.0
    over: Moment | None = None
    """when what was written for it was given back"""

    @property
    def end(self) -> float:
        """When it must be over."""
        return self.begin + self.order.duration

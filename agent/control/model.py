"""The types of demand response: what may be adjusted, who allowed it, what was ordered, what came.

Values are in the unit of the control's point, durations in seconds, moments in Unix seconds.
`Grant`, `ControlOrder`, `AcceptedOrder` and `Limits` are stored as JSON in the journal: to rename
one of their fields is to change the file format.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING

from agent.core.i18n import N_, Text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.core.model import Value

ROLE_NAMES = {
    "grid_operator": N_("grid operator"),
    "building_manager": N_("building manager"),
    "boiler_operator": N_("boiler operator"),
    "residents_council": N_("residents council"),
    "occupant": N_("occupant"),
    "consent_collector": N_("consent collector"),
    "registry": N_("registry"),
    "updater": N_("updater"),
    "root": N_("root key"),
}
"""names of those who sign objects, by their role in the trust list"""


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment by all clocks. It is stored as JSON in the journal: its fields are a file format."""

    wall: float
    steady: float
    """monotonic seconds; comparable within one boot only"""
    boot: str
    trusted: bool
    """whether the wall clock is trusted"""


def elapsed(since: Moment, now: Moment) -> float:
    """Seconds that have certainly passed, at least 0 (rule H4).

    Within a boot: by the monotonic clock. Across boots: by the wall clock if it was trusted at both
    moments, else only the time since the boot.
    """
    if since.boot == now.boot:
        return max(0.0, now.steady - since.steady)
    if since.trusted and now.trusted:
        return max(0.0, now.wall - since.wall)
    return max(0.0, now.steady)


def hold_is_over(wall_end: float, set_at: Moment, lasts: float, now: Moment) -> bool:
    """Whether a hold that began at `set_at` is over, by the earlier of both clocks (rule H28).

    A wall clock that steps back must not lengthen a hold. One that is set forward shows that the
    hold began earlier than we thought. A boot ends every hold: nothing is applied again.
    """
    if set_at.boot != now.boot:
        return True
    return now.wall >= wall_end or now.steady - set_at.steady >= lasts


class LossRule(StrEnum):
    """What a loss of the agent, the centre or the clock means for a control (rule H1)."""

    SHIFT = "shift"
    """a comfort shift: any loss releases it"""
    LIMIT = "limit"
    """a capacity limit: if the centre is lost, the failsafe value applies"""


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


FINAL = {
    OrderState.REJECTED,
    OrderState.COMPLETED,
    OrderState.CANCELLED,
    OrderState.SUPERSEDED,
    OrderState.ABORTED,
    OrderState.OPTED_OUT,
    OrderState.EXPIRED,
    OrderState.FAILED,
}


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
    UNSIGNED = "E_UNSIGNED"
    OVERRIDDEN = "E_OVERRIDDEN"
    DEVICE = "E_DEVICE"
    STORAGE = "E_STORAGE"


NEXT_STEPS = {
    OrderCode.KID: N_("Have the key added for this control in the trust list: gardien trust show"),
    OrderCode.REPLAY: N_("Sign it again with a new `jti`"),
    OrderCode.EXPIRED: N_("Sign it again with a later begin"),
    OrderCode.NOT_YET: N_("Sign it again with an earlier begin"),
    OrderCode.CLOCK: N_("Set the clock right, then sign it again: gardien clock"),
    OrderCode.ACTION: N_("Order what the control takes: gardien control list"),
    OrderCode.RANGE: N_("Order a value within the limits of the control: gardien control list"),
    OrderCode.DURATION: N_("Order a duration that is agreed: gardien control list"),
    OrderCode.NOTICE: N_("Order it earlier, or with a later begin"),
    OrderCode.WINDOW: N_("Order it for hours that are agreed: gardien control list"),
    OrderCode.QUOTA: N_("Order it for another day, or more briefly"),
    OrderCode.TIMER: N_("Order it again after the rest"),
    OrderCode.GRANT_MISSING: N_("Get a grant for this, or order it as one permits: gardien control"
                                " grants"),
    OrderCode.GRANT_LIMIT: N_("Order it within this limit, or get another grant. The grants:"
                              " gardien control grants"),
    OrderCode.REVOKED: N_("Get a new grant from those who revoked it: gardien control grants"),
    OrderCode.GUARD: N_("Order it again once the guard allows it: gardien control list"),
    OrderCode.INHIBITED: N_("Ask the operator of the equipment to reset the switch"),
    OrderCode.UNSIGNED: N_("Have the sheet signed: gardien control sheet"),
    OrderCode.OVERRIDDEN: N_("Ask who has opted out or taken over: gardien control list"),
    OrderCode.DEVICE: N_("Switch the device on, then order it again: gardien status"),
    OrderCode.STORAGE: N_("Order it again once the disk works: gardien status"),
}  # fmt: skip
"""what a person at the gateway can do about a refused order; the text of the others says it"""


def next_step(code: str) -> Text | None:
    """Return the next step for a refusal: its code, which may state a role and a limit."""
    message = NEXT_STEPS.get(OrderCode(code.partition("(")[0]))
    return Text(message) if message else None


@dataclass(frozen=True, slots=True)
class No:
    """A refusal: the code for programs, and the reason for people."""

    code: OrderCode
    reason: Text
    role: str = ""
    """the role whose grant is missing, or whose limit is too narrow"""
    field: str = ""
    """the limit of that grant, or the guard that tripped"""

    def __str__(self) -> str:
        inside = ",".join(part for part in (self.role, self.field) if part)
        return f"{self.code}({inside})" if inside else str(self.code)


@dataclass(frozen=True, slots=True)
class Window:
    """Hours of some weekdays in local time. 0 is Monday; minutes count from midnight."""

    days: frozenset[int]
    since: int
    until: int
    """if before `since`, the window goes over midnight and belongs to the day on which it begins"""


Season = tuple[tuple[int, int], tuple[int, int]]
"""first and last day as (month, day); if the first is after the last, it goes over New Year"""


@dataclass(frozen=True, slots=True)
class Limits:
    """How far, how long and how often: of a modality, or of one grant. None: no limit."""

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
    """The value of a capacity limit that applies while the centre is not heard."""

    value: Decimal
    lasts: float
    """seconds for which it is applied at least (EEBUS LPC: 2 h to 24 h)"""
    heartbeat: float
    """seconds between two messages of the centre; it is lost after twice as long. 0: not used"""


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
    """the kind of equipment, such as `heating`, which a grant may name"""
    choices: tuple[Decimal, ...] = ()
    """the only values that it takes; empty: any within the limits"""
    step: Decimal | None = None
    """values are whole multiples of it"""
    on: float = 0.0
    """the shortest hold, in seconds"""
    off: float = 0.0
    """the shortest rest between a release and the next begin, in seconds"""
    ramp: Decimal | None = None
    """the largest change of the value in a minute; None: no ramp"""
    spread: float = 0.0
    """seconds before the end from which the planned release is drawn"""
    guards: tuple[Guard, ...] = ()
    inhibit: tuple[str, str] | None = None
    """device and point of the operator's own off switch"""
    require: tuple[str, ...] = ()
    """the roles that must have granted, all of them"""
    failsafe: Failsafe | None = None
    tolerance: Decimal = Decimal("0.01")
    """the largest difference of a value that is read back"""
    version: str = ""
    """version of the control sheet that was signed"""


@dataclass(frozen=True, slots=True)
class Grant:
    """A standing authorization of one role: who may order what, within which limits."""

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
    """when it was revoked; None: it was not"""
    kid: str = ""
    occupancy: str | None = None
    evidence: str = ""
    """the vote, contract or form on which it is based, for people"""

    def covers(self, name: str, equipment: str) -> bool:
        """Whether the grant names this control or this kind of equipment."""
        return name in self.assets or f"kind:{equipment}" in self.assets


@dataclass(frozen=True, slots=True)
class ControlOrder:
    """A signed order for one of its controls."""

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
        """The latest end, whatever is drawn for the begin."""
        return self.start + self.rand + self.duration


@dataclass(frozen=True, slots=True)
class AcceptedOrder:
    """An accepted order and its state. Quotas and timers count these."""

    order: ControlOrder
    state: OrderState
    begin: float
    """the start plus the draw, fixed at acceptance"""
    back: float
    """seconds before the end at which the release begins, drawn at acceptance"""
    grants: tuple[str, ...] = ()
    """the ids of the grants under which it was accepted"""
    began: bool = False
    """a value was, or may have been, written for it"""
    accepted: float = 0.0
    over: Moment | None = None
    """when its value was released"""

    @property
    def end(self) -> float:
        """When the hold must be over."""
        return self.begin + self.order.duration


FAILSAFE, TEST, HANDED = "failsafe", "test", "handed"
"""what takes the place of an order's id in a hold record: the failsafe of a limit applies, a
control is tested, or a person names the value from before
"""
SUPPLY = "supply"
"""name of the guard of the lowest supply temperature (rule H34)"""
Key = tuple[str, str]
"""device and point: timers belong to a point, not to the name of a control (rule H4)"""


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
    (agent/drivers/base.py).
    """

    place: WriteTarget
    word: Decimal
    """the value that refreshes it, in its unit"""
    pause: float
    """seconds between two refreshes: half its timeout"""
    fallback: WriteTarget | None = None
    """the register with the value to which the device falls back; None: it has none"""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The operator has signed a sheet, and somebody has recorded it (rule H35).

    It is stored as JSON in the journal.
    """

    sha256: str
    """of what the sheet stated"""
    by: str
    """who signed, as it stands on the paper"""
    on: str
    """the day of the signature, 2026-10-01"""
    at: float
    """when it was recorded"""
    recorded_by: str
    scan: str = ""
    """SHA-256 of the scanned page; empty: there is none"""

    @property
    def version(self) -> str:
        """The version at the foot of the signed page."""
        return self.sha256[:10]


@dataclass(frozen=True, slots=True)
class ConfiguredControl:
    """A control as configured: what was agreed, where its point is, and how it is released."""

    modality: Modality
    place: WriteTarget
    slots: tuple[int | None, int | None]
    """our priorities for ordinary and for emergency orders; None: a register, which has none"""
    restore: Value | None
    """the value that a release writes; None: our slot is emptied, or the value from before"""
    fingerprint: str
    """changes if anything changes for which a passed test is evidence"""
    fallback: Value | None = None
    watchdog: WatchdogTarget | None = None
    """the device's own watchdog"""
    shown: Mapping[str, WriteTarget] = field(default_factory=dict)
    """points that show the operator what is held (agent/control/controller.py)"""
    to_sign: str = ""
    """SHA-256 of the sheet that the operator must have accepted; empty: none is to be signed"""

    @property
    def key(self) -> Key:
        """The point."""
        return self.place.device, self.place.point

    @property
    def name(self) -> str:
        """The name of the control in the configuration."""
        return self.modality.name

    def could_be_ours(self, value: Value | None) -> bool:
        """Whether an order, the failsafe or the device's watchdog could have set this value."""
        if value is None or isinstance(value, str):
            return False
        modality, limits = self.modality, self.modality.limits
        named = [*modality.choices, *([modality.failsafe.value] if modality.failsafe else [])]
        if any(same(value, one, modality.tolerance) for one in (*named, self.fallback)):
            return True
        return limits.least is not None and limits.most is not None and (
            limits.least <= value <= limits.most
        )  # fmt: skip


def split(reference: str) -> tuple[str, str]:
    """Device and point of DEVICE/POINT."""
    device, _, point = reference.partition("/")
    return device, point


def same(value: Value | None, other: Value | None, tolerance: Decimal) -> bool:
    """Whether two values are equal, within the tolerance for rounding by a device."""
    if isinstance(value, Decimal) and isinstance(other, Decimal):
        return abs(value - other) <= tolerance
    return value == other

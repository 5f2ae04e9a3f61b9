"""Outcomes, memos and transactions of the journal, and their form in the file.

`Outcome` and `Memo` are stored as JSON: to rename one of their fields is to change the file format.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from agent.control.failsafe import Watch
from agent.control.model import AcceptedOrder, ControlOrder, Grant, Limits, OrderState, Window
from agent.control.record_versions import understood
from agent.control.stamps import Moment
from agent.trust import replay, revocations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.control.hold_record import HoldRecord

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
Key = tuple[str, str]
"""device and point: timers belong to a point, not to the name of a control (rule H4)"""
IDENTITY = """CREATE TABLE IF NOT EXISTS journal(one INTEGER PRIMARY KEY, id TEXT NOT NULL,
    probed INTEGER NOT NULL)"""
TABLES = (
    *(part for part in replay.SCHEMA.split(";") if part.strip()),
    """CREATE TABLE IF NOT EXISTS hold(number INTEGER PRIMARY KEY, device TEXT NOT NULL,
    point TEXT NOT NULL, slot INTEGER, closed INTEGER NOT NULL, body TEXT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS hold_open ON hold(closed)",
    """CREATE TABLE IF NOT EXISTS event(jti TEXT, control TEXT, device TEXT NOT NULL,
    point TEXT NOT NULL, final INTEGER NOT NULL, accepted REAL NOT NULL, until REAL NOT NULL,
    body TEXT NOT NULL, PRIMARY KEY(jti, control)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS outcome(n INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL,
    jti TEXT NOT NULL, control TEXT NOT NULL, state TEXT NOT NULL, body TEXT NOT NULL)""",
    "CREATE TABLE IF NOT EXISTS granted(jti TEXT PRIMARY KEY, until REAL, body TEXT NOT NULL)",
    revocations.SCHEMA,
    # an earlier version reads and writes only this table, which does not name who revoked
    "CREATE TABLE IF NOT EXISTS revoked(what TEXT PRIMARY KEY, at REAL NOT NULL)",
    "CREATE TABLE IF NOT EXISTS version(iss TEXT PRIMARY KEY, ver INTEGER NOT NULL)",
    """CREATE TABLE IF NOT EXISTS cancelled_early(jti TEXT, control TEXT, until REAL NOT NULL,
    PRIMARY KEY(jti, control)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS point(device TEXT, point TEXT, body TEXT NOT NULL,
    PRIMARY KEY(device, point)) WITHOUT ROWID""",
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One step of an order at one control, as it is reported (rule H11)."""

    jti: str
    control: str
    state: OrderState
    at: float
    code: str = ""
    words: str = ""
    value: str = ""
    before: str = ""
    after: str = ""
    by: str = ""
    evidence: str = ""
    seen: str = ""
    """the worst values of the guards during the hold"""
    closed: bool = False
    """the device has confirmed the release, or a person has closed the hold by hand"""
    pre: str = ""
    """at the begin: the value in the register before, for whoever replaces the gateway"""
    device: str = ""
    """the device of the point; the journal fills it in"""
    n: int = 0


@dataclass(frozen=True, slots=True)
class Memo:
    """What is kept of a point beside its holds."""

    given_back: Moment | None = None
    locked: Moment | None = None
    lock_lasts: float = 0.0
    opted_out: Moment | None = None
    opt_lasts: float = 0.0
    opt_words: str = ""
    watch: Watch = field(default_factory=Watch)
    tested: str = ""
    """fingerprint of the control as it was when its test passed"""
    free: tuple[int, ...] = ()
    """our slots that the test found free: a value there without a hold record is ours"""
    fallback: Decimal | None = None
    """the value to which the device's watchdog fell back in the test"""
    fell_back_s: float | None = None
    """seconds until it fell back in the test"""
    swept: bool = False
    """the point was searched since the journal was opened; not stored"""


@dataclass(frozen=True, slots=True)
class Transaction:
    """Changes that are committed together."""

    record: HoldRecord | None = None
    events: Sequence[AcceptedOrder] = ()
    outcomes: Sequence[Outcome] = ()
    memos: Sequence[tuple[Key, Memo]] = ()
    left: bool = False
    """the hold record is closed, and somebody else's value was left at the point"""


def text(record: Any) -> str:
    """A record as JSON for the journal."""
    return json.dumps(asdict(record), default=_plain)


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, frozenset):
        return sorted(value)
    raise TypeError(type(value).__name__)


def _number(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def event_of(body: dict[str, Any]) -> AcceptedOrder:
    """Read an accepted order. Raises KeyError, TypeError, ValueError."""
    order = body.pop("order")
    order |= {"value": _number(order["value"]), "auth": tuple(order["auth"])}
    body |= {"state": OrderState(body["state"]), "grants": tuple(body["grants"])}
    body |= {"over": Moment(**body["over"]) if body.get("over") else None}
    event: AcceptedOrder = understood(
        AcceptedOrder, body | {"order": understood(ControlOrder, order)}
    )
    return event


def grant_of(body: dict[str, Any]) -> Grant:
    """Read a grant. Raises TypeError on a member that is unknown here: it may be a limit."""
    limits = body.pop("limits")
    windows = tuple(
        Window(frozenset(one["days"]), one["since"], one["until"]) for one in limits["windows"]
    )
    season = limits["season"] and tuple(tuple(day) for day in limits["season"])
    limits |= {"windows": windows, "season": season}
    limits |= {"least": _number(limits["least"]), "most": _number(limits["most"])}
    body |= {"assets": tuple(body["assets"]), "actions": tuple(body["actions"])}
    return Grant(limits=Limits(**limits), **body)


def memo_of(body: dict[str, Any]) -> Memo:
    """Read the memo of a point. Raises KeyError, TypeError, ValueError."""
    watch = body.pop("watch")
    for name in ("since", "heard", "unbroken"):
        watch[name] = Moment(**watch[name]) if watch[name] else None
    for name in ("given_back", "locked", "opted_out"):
        body[name] = Moment(**body[name]) if body[name] else None
    body |= {"fallback": _number(body.get("fallback")), "free": tuple(body["free"])}
    watched = understood(Watch, watch)
    memo: Memo = understood(Memo, body | {"watch": watched, "swept": False})
    return memo


def outcome_of(n: int, body: dict[str, Any]) -> Outcome:
    """Read an outcome. Raises KeyError, TypeError, ValueError."""
    outcome: Outcome = understood(Outcome, body | {"n": n, "state": OrderState(body["state"])})
    return outcome

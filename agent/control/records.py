"""What the journal stores: hold records, outcomes and memos, and their form in the file.

A hold record is the value of ours that stands, or may stand, at one point, and how it is released.
It is on the disk before anything is written to the device (rules H14, H15). `HoldRecord`, `Outcome`
and `Memo` are stored as JSON: to rename one of their fields is to change the file format.
"""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from agent.control.failsafe import Watch
from agent.control.model import (
    HANDED,
    TEST,
    Acceptance,
    AcceptedOrder,
    ControlOrder,
    Grant,
    Limits,
    Moment,
    OrderState,
    WatchdogTarget,
    Window,
    WriteTarget,
    elapsed,
    same,
)
from agent.core.i18n import Text
from agent.trust import verify

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.control.model import Key
    from agent.core.model import Value


TAKEN_OVER = Text("somebody at the plant has taken over")
OPTED_OUT_FOR = 86_400.0
"""seconds of an opt-out where no order was in force (rule H7)"""


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


IDENTITY = """CREATE TABLE IF NOT EXISTS journal(one INTEGER PRIMARY KEY, id TEXT NOT NULL,
    probed INTEGER NOT NULL)"""
TABLES = (
    *(part for part in verify.REPLAY_SCHEMA.split(";") if part.strip()),
    """CREATE TABLE IF NOT EXISTS hold(number INTEGER PRIMARY KEY, device TEXT NOT NULL,
    point TEXT NOT NULL, slot INTEGER, closed INTEGER NOT NULL, body TEXT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS hold_open ON hold(closed)",
    """CREATE TABLE IF NOT EXISTS event(jti TEXT, control TEXT, device TEXT NOT NULL,
    point TEXT NOT NULL, final INTEGER NOT NULL, accepted REAL NOT NULL, until REAL NOT NULL,
    body TEXT NOT NULL, PRIMARY KEY(jti, control)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS outcome(n INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL,
    jti TEXT NOT NULL, control TEXT NOT NULL, state TEXT NOT NULL, body TEXT NOT NULL)""",
    "CREATE TABLE IF NOT EXISTS granted(jti TEXT PRIMARY KEY, until REAL, body TEXT NOT NULL)",
    verify.REVOCATION_SCHEMA,
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
    via: str = ""
    """of a refusal: the uplink over which the object arrived, or `hand`"""
    internal: bool = False
    """for people here: another outcome of the order states this to the recipients (rule H11)"""
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
    opt_until: float = 0.0
    """wall time at which the last day of a pause ends (rule H36), beside `opt_lasts`; 0: none"""
    acceptance: Acceptance | None = None
    """the latest sheet that the operator has signed"""
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

    def pause(self, now: Moment) -> str:
        """Why no order may begin: who has opted out until now; empty: nobody."""
        return self.opt_words if self.last_day(now) or self.opt_left(now) else ""

    def last_day(self, now: Moment) -> float:
        """When the last day of a pause ends (wall time); 0: there is none, or it is over."""
        # a season is longer than any boot: only a trusted clock can state that its last day is over
        return 0.0 if now.trusted and now.wall >= self.opt_until else self.opt_until

    def opt_left(self, now: Moment) -> float:
        """Seconds that an opt-out for some time still lasts."""
        return max(0.0, self.opt_lasts - elapsed(self.opted_out, now)) if self.opted_out else 0.0

    def pause_end(self, now: Moment) -> float:
        """Wall time at which the opt-out ends; 0: there is none."""
        left = self.opt_left(now)
        return max(self.last_day(now), now.wall + left if left else 0.0)

    def opted(self, now: Moment, lasts: float, reason: str, until: float = 0.0) -> Memo:
        """Return this memo with an opt-out of `lasts` seconds, or until a wall time. What was asked
        for before is kept, if it lasts longer.
        """
        asked = Memo(opted_out=now, opt_lasts=lasts, opt_words=reason, opt_until=until)
        return self._also(asked, now)

    def _also(self, other: Memo, now: Moment) -> Memo:
        """Return this memo with the opt-out of another one, too. The longest time and the latest
        day both count: a clock in doubt cannot tell which of them is over first (rule H36).
        """
        if not other.pause(now):
            return self
        longest = max((other, self), key=lambda one: one.opt_left(now))
        return replace(
            self, opted_out=longest.opted_out, opt_lasts=longest.opt_lasts,
            opt_until=max(self.last_day(now), other.last_day(now)),
            opt_words=max((other, self), key=lambda one: one.pause_end(now)).opt_words,
        )  # fmt: skip

    def left_to_others(self, record: HoldRecord, now: Moment) -> Memo:
        """Return this memo after a hold was closed, and somebody else's value was left there.

        Its slot is free no longer, so a start may not empty it. Nothing begins over that value
        before the order that held the point would have ended (rules H7, H10), however it ended.
        """
        memo = replace(self, free=tuple(slot for slot in self.free if slot != record.slot))
        if record.jti in {TEST, HANDED}:  # not an order
            return memo
        lasts = record.lasts - elapsed(record.begun, now)
        lasts = OPTED_OUT_FOR if math.isinf(record.lasts) else lasts
        return memo.opted(now, lasts, TAKEN_OVER) if lasts > 0 else memo

    def locked_for(self, now: Moment) -> float:
        """Seconds for which a guard that tripped still forbids orders."""
        return max(0.0, self.lock_lasts - elapsed(self.locked, now)) if self.locked else 0.0

    def joined(self, noted: Memo, now: Moment) -> Memo:
        """Return this memo, as the file has it, with what was noted before the file could be read.

        What forbids longer counts: of opt-outs (rule H36), of locks after a guard (rule H3). A
        failsafe that somebody has left meanwhile is not begun again (rule H12).
        """
        memo = self._also(noted, now)
        if noted.locked_for(now) > memo.locked_for(now):
            memo = replace(memo, locked=noted.locked, lock_lasts=noted.lock_lasts)
        if noted.watch.spent:
            memo = replace(memo, watch=noted.watch)
        return memo

    def accepts(self, sha256: str) -> bool:
        """Whether the operator has accepted this sheet; also if none is to be signed.

        Once one was signed, the section cannot be taken out to do without the signature.
        """
        return sha256 == (self.acceptance.sha256 if self.acceptance else "")


@dataclass(frozen=True, slots=True)
class Transaction:
    """Changes that are committed together."""

    record: HoldRecord | None = None
    events: Sequence[AcceptedOrder] = ()
    outcomes: Sequence[Outcome] = ()
    memos: Sequence[tuple[Key, Memo]] = ()
    left: bool = False
    """the hold record is closed, and somebody else's value was left at the point"""


OPEN, CLOSED, LEFT = "open", "closed", "left"


@dataclass(frozen=True, slots=True)
class Copied:
    """One hold record of the copy."""

    journal: str
    """the id of its journal"""
    record: HoldRecord
    state: str
    """OPEN, CLOSED, or LEFT: closed, and somebody else's value was left at the point"""
    how: str = ""
    """how it was closed"""


def understood(kind: Any, body: dict[str, Any]) -> Any:
    """Make a record from the members that this version knows; the others are ignored.

    A later version may have added members (`gardien-upgrade --back`). If they made the journal
    unreadable, it would be moved aside, and the equipment would stay as it was commanded. Raises
    TypeError if a member is missing.
    """
    names = {one.name for one in fields(kind)}
    with suppress(AttributeError, KeyError, TypeError, ValueError):  # else the English text stays
        body = body | {n: Text.of(json.loads(wire)) for n, wire in body["texts"].items()}
    return kind(**{name: value for name, value in body.items() if name in names})


def encode(record: HoldRecord) -> str:
    """The record as JSON for the journal. Its number is the key of the row."""
    body = asdict(record) | _texts(record)
    del body["number"]
    return json.dumps(body, default=_tagged)


def _tagged(value: object) -> object:
    if isinstance(value, Decimal):
        return {"n": str(value)}
    raise TypeError(type(value).__name__)


def _untagged(pairs: dict[str, Any]) -> Any:
    return Decimal(pairs["n"]) if pairs.keys() == {"n"} else pairs


def _dog(body: dict[str, Any]) -> WatchdogTarget:
    fallback = understood(WriteTarget, body["fallback"]) if body["fallback"] else None
    return WatchdogTarget(
        understood(WriteTarget, body["place"]), body["word"], body["pause"], fallback
    )


def decode(number: int, text: str) -> HoldRecord:
    """Read a record. Raises ValueError, KeyError or TypeError if the text is none."""
    body = json.loads(text, object_hook=_untagged)
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


def text(record: Any) -> str:
    """A record as JSON for the journal."""
    return json.dumps(asdict(record) | _texts(record), default=_plain)


def _texts(record: Any) -> dict[str, Any]:
    """The members that are texts in their own form too, so that their reader can translate them.

    An earlier version reads the English one.
    """
    values = {one.name: getattr(record, one.name) for one in fields(record)}
    texts = {
        name: json.dumps(value.wire()) for name, value in values.items() if isinstance(value, Text)
    }
    return {"texts": texts} if texts else {}


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
    if signed := body.get("acceptance"):
        body["acceptance"] = understood(Acceptance, signed)
    watched = understood(Watch, watch)
    memo: Memo = understood(Memo, body | {"watch": watched, "swept": False})
    return memo


def outcome_of(n: int, body: dict[str, Any]) -> Outcome:
    """Read an outcome. Raises KeyError, TypeError, ValueError."""
    outcome: Outcome = understood(Outcome, body | {"n": n, "state": OrderState(body["state"])})
    return outcome

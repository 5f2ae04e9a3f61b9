"""What all steps of a controller share: the controls, applying a setpoint, and recording states.

What it keeps from one check to the next is not needed after a restart.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from agent.control.decide import DecisionFacts
from agent.control.guard import GuardExtremes, measured, plain
from agent.control.hold import FOREVER, Holder, NoLongerDue, PointDependencies, Setpoint
from agent.control.model import FAILSAFE, FINAL, No, OrderCode, OrderState
from agent.control.point_access import PROGRESS, ControlProgress
from agent.control.records import OPTED_OUT_FOR, TAKEN_OVER, Outcome, Phase, Transaction
from agent.core.i18n import Text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from zoneinfo import ZoneInfo

    from agent.control.guard import GuardReading
    from agent.control.journal import Journal
    from agent.control.model import AcceptedOrder, ConfiguredControl, Key, Moment, WriteTarget
    from agent.control.records import HoldRecord, Memo
    from agent.core.model import Value

TRIED_FOR = 60.0
"""seconds after its begin for which an order waits if something forbids it (rule H26)"""


@dataclass(kw_only=True)
class ControlDependencies(PointDependencies):
    """What a controller needs from outside.

    A part may be replaced while it is in use: read it anew for each call.
    """

    zone: ZoneInfo
    look: Callable[[str, str], GuardReading | None]
    """the last reading of a point, by device and name"""
    call: Callable[..., Awaitable[Any]]
    """makes a call of the journal in the journal's thread"""
    home: Callable[[str, str], tuple[float, float] | None] = lambda _, __: None
    """begin and end of an occupancy, if it is in the dwelling of a device; None: it is not"""
    wait: Callable[[float], Awaitable[None]] = asyncio.sleep
    """waits for a number of seconds"""
    quiet: Callable[[WriteTarget, float], Awaitable[None]] = lambda _, seconds: asyncio.sleep(
        seconds
    )
    """waits, while this gateway sends nothing on the line of that point"""
    failing: Callable[[], str] = lambda: ""
    """why the journal cannot be written; empty: it can be"""
    ask: Callable[[str], Awaitable[None]] | None = None
    """reads the guards of a control before they are due; raises LinkLost, Refused"""


@dataclass
class Wait:
    """When a release is tried again."""

    until: float = 0.0
    """when the next attempt is due (monotonic)"""
    last: float = 1.0
    """seconds between the next two attempts"""


@dataclass(frozen=True, slots=True)
class Cancellation:
    """Orders of a control that were cancelled, and are released when its device answers."""

    control: str
    jtis: tuple[str, ...]
    """their ids; `failsafe` for the failsafe"""
    reason: str


@dataclass
class ControlContext:
    """See the module."""

    journal: Journal
    dependencies: ControlDependencies
    controls: dict[str, ConfiguredControl]
    waits: dict[int, Wait] = field(default_factory=dict)
    """releases that are tried again, by number of the hold record"""
    alarms: dict[str, str] = field(default_factory=dict)
    """what a person must attend to, by control"""
    heartbeats: dict[str, list[Moment]] = field(default_factory=dict)
    """when the centre was heard since the last check, by control: the first and the latest time"""
    extremes: GuardExtremes = field(default_factory=GuardExtremes)
    recovering: str = ""
    """why nothing begins: the journal can be read again, and is recovered as at a start"""
    closing: bool = False
    """the agent ends, so nothing new begins"""
    cancelling: list[Cancellation] = field(default_factory=list)
    """what the next check of its control carries out"""
    turned: float = 0.0
    """when a long step last reported progress, or will report it at the latest (monotonic)"""

    def __post_init__(self) -> None:
        """Make the object that holds and releases points."""
        self.holder = Holder(self.journal, self.dependencies, self._extremes)
        self._locks: dict[str, asyncio.Lock] = {}
        self._progress: dict[str, ControlProgress] = {}
        self._woken: dict[str, asyncio.Event] = {}

    def _extremes(self, name: str) -> str:
        control = self.controls.get(name)
        return self.extremes.tell(name, control.modality.guards if control else ())

    @asynccontextmanager
    async def lock(self, name: str) -> AsyncIterator[None]:
        """Hold the lock of a control, for one step at a time. Its requests show its progress."""
        async with self._locks.setdefault(name, asyncio.Lock()):
            before = PROGRESS.set(self._progress.setdefault(name, ControlProgress()))
            try:
                yield
            finally:
                PROGRESS.reset(before)

    def advanced(self, name: str) -> float:
        """When a control last got on with its devices (monotonic); 0: it has asked none."""
        return self._progress[name].turned if name in self._progress else 0.0

    def wake(self, name: str) -> None:
        """Check a control at once."""
        if name in self._woken:
            self._woken[name].set()

    def wake_all(self) -> None:
        """Check all controls at once."""
        for name in self.controls:
            self.wake(name)

    # -- what is known of a control

    def is_configured(self, record: HoldRecord) -> bool:
        """Whether a hold record belongs to a control as configured now."""
        control = self.controls.get(record.control)
        return control is not None and control.key == record.key and control.place == record.place

    def records(self, control: ConfiguredControl) -> list[HoldRecord]:
        """The open hold records of a control, at its point as configured now."""
        return [
            record
            for record in self.journal.open_records(control.key)
            if self.is_configured(record)
        ]

    def blocked_slots(self, control: ConfiguredControl) -> set[int | None]:
        """Slots in which a release is pending.

        No hold may begin there: it would take our own value for the value from before (rule H15).
        """
        return {
            record.slot
            for record in list(self.journal.records.values())
            if (record.key == control.key or record.place.spot == control.place.spot)
            and not (self.is_configured(record) and record.phase is not Phase.RELEASING)
        }

    def active_orders(self, control: ConfiguredControl) -> list[AcceptedOrder]:
        """The orders that have begun at a control and are not over."""
        now = self.dependencies.now().wall
        return [
            one
            for one in self.journal.of(control.key)
            if one.state is OrderState.STARTED
            # its value may have been written, though it was never read back
            or (one.began and one.state is OrderState.SCHEDULED)
            # it may come back when the stronger order ends
            or (
                one.state is OrderState.SUPERSEDED
                and one.order.resume
                and one.begin <= now < one.end
            )
        ]

    def is_releasing(self, event: AcceptedOrder) -> bool:
        """Whether the hold of an order is being released."""
        name = event.order.jti, event.order.control
        return any(
            record.phase is Phase.RELEASING and (record.jti, record.control) == name
            for record in self.journal.records.values()
        )

    def facts(self, control: ConfiguredControl, now: Moment) -> DecisionFacts:
        """Gather what is known of a control's point at this moment, for a decision."""
        journal, memo = self.journal, self.journal.memo(control.key)
        return DecisionFacts(
            now=now,
            zone=self.dependencies.zone,
            grants=tuple(journal.grants.values()),
            events=journal.of(control.key),
            look=self.dependencies.look,
            given_back=memo.given_back,
            locked=(memo.locked, memo.lock_lasts) if memo.locked else None,
            opted_out=memo.pause(now),
            tested=memo.tested == control.fingerprint,
            unsigned=unsigned(control, memo),
            home=lambda occupancy: self.dependencies.home(occupancy, control.place.device),
        )

    # -- recording: each state of an order has an outcome and an entry of the audit chain

    async def remember(self, key: Key, memo: Memo) -> None:
        """Keep a memo of a point. It counts at once, also while the disk is full."""
        await self.dependencies.note(Transaction(memos=[(key, memo)]))

    async def _opt_out(
        self, control: ConfiguredControl, lasts: float, reason: str, until: float = 0.0
    ) -> None:
        """Forbid orders for `lasts` seconds, or until a wall time. A longer opt-out is kept."""
        memo, now = self.journal.memo(control.key), self.dependencies.now()
        if (opted := memo.opted(now, lasts, reason, until)) != memo:
            await self.remember(control.key, opted)

    async def report_refusal(self, event: AcceptedOrder, no: No) -> None:
        """Record that an accepted order is refused after all."""
        order = event.order
        body = {"jti": order.jti, "control": order.control, "code": str(no)}
        self.dependencies.audit("control.refused", body | {"grants": [*event.grants]})
        now = self.dependencies.now().wall
        outcome = _outcome(event, OrderState.REJECTED, now, no.reason, str(no))
        refused = replace(event, state=OrderState.REJECTED)
        await self.dependencies.note(Transaction(events=[refused], outcomes=[outcome]))

    async def end(self, event: AcceptedOrder, state: OrderState, reason: str) -> None:
        """Record that an order is over, unless it is already.

        While its release is pending, recipients are told only of that, and of the end once the
        device has confirmed it (rule H11).
        """
        if event.state in FINAL and event.state is not OrderState.SUPERSEDED:
            return
        pending = self.is_releasing(event)
        await self.report_state(replace(event, state=state), reason, internal=pending)

    async def report_state(
        self,
        event: AcceptedOrder,
        reason: str,
        pre: Value | None = None,
        *,
        internal: bool = False,
    ) -> None:
        """Record and report the state of an order, with the power of the plant at this moment.

        `pre`: at the begin, the value that stood there before. `internal`: not to recipients.
        """
        order, state = event.order, event.state
        body = {"jti": order.jti, "control": order.control}
        self.dependencies.audit(f"control.{state.lower()}", body)
        power = self.dependencies.power(order.control)
        outcome = _outcome(event, state, self.dependencies.now().wall, reason)
        outcome = replace(outcome, pre="" if pre is None else str(pre), internal=internal)
        begins = state is OrderState.STARTED
        outcome = replace(outcome, before=power) if begins else replace(outcome, after=power)
        await self.dependencies.note(Transaction(events=[event], outcomes=[outcome]))

    # -- applying

    async def apply(
        self,
        control: ConfiguredControl,
        record: HoldRecord | None,
        setpoint: Setpoint,
        event: AcceptedOrder | None,
    ) -> None:
        """Begin, change or refresh a hold, and record the outcome.

        `record`: the hold that exists in this slot; None: there is none. `event`: the order; None:
        the failsafe.
        """
        access = self.dependencies.access(control.place, setpoint.slot)
        result: HoldRecord | No | None
        try:
            if record is None:
                result = await self.holder.begin(setpoint, access, event)
            else:
                result = await self.holder.change(record, setpoint, access, event)
        except NoLongerDue:  # the next check decides anew
            return
        if isinstance(result, No):
            self.alarms[control.name] = result.reason
            if event is not None and not self._will_retry(event, result):
                await self.report_refusal(event, result)
                self.alarms.pop(control.name)  # the refusal was reported: nothing is left to do
        elif result is None:
            await self._taken_over(control, setpoint.end)
        else:
            before = record and self.journal.events.get((record.jti, control.name))
            # its time is over, and the order that it interrupted goes on with the hold
            if before and before.state is OrderState.STARTED and result.jti != before.order.jti:
                await self.end(before, OrderState.COMPLETED, "")
            await self._report_result(control, result, setpoint)
            await self._report_failsafe(record, result)

    def _will_retry(self, event: AcceptedOrder, no: No) -> bool:
        """Whether an order that could not begin is tried again.

        A device or disk that fails for a moment delays an order; it does not end it.
        """
        return (
            no.code in {OrderCode.DEVICE, OrderCode.STORAGE}
            and self.dependencies.now().wall < event.begin + TRIED_FOR
        )

    async def _report_result(
        self, control: ConfiguredControl, record: HoldRecord, setpoint: Setpoint
    ) -> None:
        if record.alarm:
            self.alarms[control.name] = record.alarm
        else:
            self.alarms.pop(control.name, None)
        if record.phase is Phase.RELEASING:
            if record.outcome is OrderState.OPTED_OUT:
                await self._taken_over(control, setpoint.end)
            return
        event = self.journal.events.get((setpoint.jti, control.name))
        if record.jti != setpoint.jti:  # the device does not answer: it has the order before
            return
        if record.phase is Phase.APPLIED and event and event.state is not OrderState.STARTED:
            value = record.target if not isinstance(record.target, str) else setpoint.value
            begun = replace(event, state=OrderState.STARTED, began=True, over=None)
            # a hold may end before the next check, and its report must have a temperature
            guards, look = control.modality.guards, self.dependencies.look
            self.extremes.note(control.name, guards, look)
            await self.report_state(begun, measured(value, control.modality.unit), record.pre)

    async def _report_failsafe(self, before: HoldRecord | None, now: HoldRecord) -> None:
        """Report that a failsafe began, or that an order ended it.

        A failsafe has no order of its own by which it could be reported.
        """
        was_failsafe = (
            before is not None and before.jti == FAILSAFE and before.phase is Phase.APPLIED
        )
        if now.phase is not Phase.APPLIED or was_failsafe == (now.jti == FAILSAFE):
            return
        state = OrderState.SUPERSEDED if was_failsafe else OrderState.STARTED
        replaced = Text("by {order}", order=now.jti)
        reason = replaced if was_failsafe else Text("the centre is not heard")
        value = str(before.target if before and was_failsafe else now.target)
        power, at = self.dependencies.power(now.control), self.dependencies.now().wall
        outcome = Outcome(FAILSAFE, now.control, state, at, words=reason, value=value, after=power)
        if not was_failsafe:
            pre = "" if now.pre is None else str(now.pre)
            outcome = replace(outcome, before=power, after="", pre=pre)
        body = {"jti": FAILSAFE, "control": now.control}
        self.dependencies.audit(f"control.{state.lower()}", body)
        await self.dependencies.note(Transaction(outcomes=[outcome]))

    async def _taken_over(self, control: ConfiguredControl, until: float) -> None:
        """Opt out until the order ends, or for a day: somebody at the plant has taken over."""
        now = self.dependencies.now()
        lasts = max(0.0, until - now.wall) if until < FOREVER else OPTED_OUT_FOR
        await self._opt_out(control, lasts, TAKEN_OVER)
        for event in self.active_orders(control):
            await self.end(event, OrderState.OPTED_OUT, Text("manual"))


def unsigned(control: ConfiguredControl, memo: Memo) -> str:
    """Why the operator's signature is missing; empty: it is not. Pure (rule H35)."""
    if memo.accepts(control.to_sign):
        return ""
    name, version = control.name, control.modality.version
    before = memo.acceptance
    if before and not control.to_sign:
        return Text(
            "the sheet that {who} accepted on {day} is no longer in the configuration of {name}:"
            " write the section `sheet` again, and have it signed",
            who=before.by, day=before.on, name=name,
        )  # fmt: skip
    why = (
        Text(
            "the sheet of {name} has changed since {who} accepted it on {day}: it was version"
            " {before}, it is {version}",
            name=name, who=before.by, day=before.on, before=before.version, version=version,
        )
        if before
        else Text(
            "the operator has not accepted the sheet of {name} (version {version})",
            name=name, version=version,
        )
    )  # fmt: skip
    return Text("{why}. To print it: gardien control sheet {name}", why=why, name=name)


def _outcome(
    event: AcceptedOrder, state: OrderState, at: float, reason: str, code: str = ""
) -> Outcome:
    order = event.order
    value = "" if order.value is None else plain(order.value)
    return Outcome(order.jti, order.control, state, at, code, reason, value, by=order.by)

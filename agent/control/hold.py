"""Holding one point: read, compare, write, read back; and releasing it, only over a value of ours.

Each step is on the disk before it is written to the device. So the next start knows what may stand
there, whatever the process died of (rule H14). A value that is not ours is a person's: it is left
(rule H10). The outcome is recorded with the release. Nothing here waits or repeats by itself: the
controller calls again. `release.py` says who releases, and when.
"""

from __future__ import annotations

import logging
import math
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

from agent.control.model import No, OrderCode, OrderState, same
from agent.control.point_access import beat, call_off, look_whole, watched
from agent.control.records import HoldRecord, Outcome, Phase, Transaction
from agent.control.schedule import toward
from agent.core.errors import LinkLost, Refused, SpoolFull, StorageFailed, WriteRefused
from agent.core.i18n import Text, text_of
from agent.core.log_fields import LogEvent, fields

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from agent.buffer.database import Database
    from agent.control.journal import Journal
    from agent.control.model import AcceptedOrder, Moment, WatchdogTarget, WriteTarget
    from agent.control.point_access import PointAccess, Standing
    from agent.core.model import Value

log = logging.getLogger(__name__)

TRIES = 3
"""writes at most, until one is read back (rule H16)"""
NOT_THERE = (LinkLost, WriteRefused, Refused)
"""errors of a device that does not answer, or does not accept the request now"""
FOREVER = math.inf
"""the end of a hold that no order limits"""


class NoLongerDue(Exception):
    """What is to be written may not be written any more; nothing of it was."""


@dataclass(frozen=True, slots=True)
class Setpoint:
    """The value that a point is to have, and until when."""

    control: str
    jti: str
    place: WriteTarget
    slot: int | None
    value: Decimal
    restore: Value | None
    """the value that the release writes to a register; None: the value from before"""
    end: float
    """wall time at which the hold ends"""
    lasts: float
    """seconds from now until then"""
    tolerance: Decimal
    never_raise: bool = False
    """of a limit: write the smaller of `value` and the value from before (rule H12)"""
    ramp: Decimal | None = None
    """the largest difference between the first write and the value that the device follows"""
    fallback: Value | None = None
    """the value to which the device's own watchdog falls back"""
    failsafe: Decimal | None = None
    """of a limit: the value that is written if the agent has died"""
    watchdog: WatchdogTarget | None = None
    """the device's own watchdog"""
    agreed: str = ""
    """version of the control sheet"""
    due: Callable[[], bool] = lambda: True
    """whether the value may still be written; a device may take minutes for each answer"""

    def first(self, standing: Standing, base: Decimal | None) -> Decimal:
        """The value of the first write. `base`: the value in force before any hold of ours."""
        now, target = standing.effective, self.later(base)
        if self.ramp is None or not isinstance(now, Decimal):
            return target
        return toward(now, target, self.ramp)

    def later(self, base: Decimal | None) -> Decimal:
        """The value of each further write. `base`: as in `first`."""
        return min(self.value, base) if self.never_raise and base is not None else self.value

    def again(self, ours: Value | None, target: Decimal, base: Decimal | None) -> Decimal:
        """The value to write where another value of ours stands: a step of the ramp from there.

        What is not between `base` and the target, nobody has ordered (rule O17), so the way begins
        at the nearest value that is.
        """
        if self.ramp is None or base is None or not isinstance(ours, Decimal):
            return target
        low, high = sorted((base, target))
        return toward(min(max(ours, low), high), target, self.ramp)


class Save(Protocol):
    """Commits a change to the disk, in the journal's own thread."""

    async def __call__(
        self, change: Transaction, also: Callable[[Database], None] | None = None
    ) -> HoldRecord | None:
        """See `JournalWriter.save`."""
        ...


@dataclass
class PointDependencies:
    """What holding and releasing a point needs from outside, also where no controller runs."""

    now: Callable[[], Moment]
    """the time by all clocks"""
    access: Callable[[WriteTarget, int | None], PointAccess]
    save: Save
    """commits a change before anything is written"""
    note: Callable[[Transaction], Awaitable[HoldRecord | None]]
    """lets a change count at once; the commit follows as soon as the disk takes it"""
    audit: Callable[[str, Mapping[str, Any]], None] = lambda _kind, _body: None
    """writes a decision to the audit chain: ids only, never readings or names"""
    power: Callable[[str], str] = lambda _: ""
    """the power of a control's plant now, with its unit; empty: it is not known"""


class Holder:
    """Holds and releases the points of one gateway. Each call is about one point."""

    def __init__(
        self,
        journal: Journal,
        dependencies: PointDependencies,
        extremes: Callable[[str], str] = lambda _: "",
    ) -> None:
        self._journal, self._dependencies = journal, dependencies
        self._extremes = extremes
        """returns the worst values of a control's guards, and forgets them"""
        self.beginning: set[tuple[str, str]] = set()
        """orders by number and control that are being committed as begun"""

    async def begin(
        self, setpoint: Setpoint, access: PointAccess, event: AcceptedOrder | None
    ) -> HoldRecord | No | None:
        """Write for the first time, once the value from before is on the disk.

        Returns the new hold record, or a refusal; then nothing of ours was written. None: a
        person's value has ended the hold already. Raises NoLongerDue.
        """
        try:
            standing = await look_whole(access)
            dog_pre, fallback = await watched(
                self._dependencies.access, setpoint.watchdog, setpoint.fallback
            )
            # A watchdog that another hold refreshes contains our own value by now: the value from
            # before is in the record of that hold.
            others = self._watched_by(setpoint.watchdog)
            dog_pre = next((record.dog_pre for record in others), dog_pre)
        except NOT_THERE as error:
            return No(OrderCode.DEVICE, text_of(error))
        if standing.over:
            reason = Text(
                "{over} is in force at {point}", over=standing.over, point=setpoint.place.name
            )
            return No(OrderCode.OVERRIDDEN, reason)
        # another gateway, or a person, uses our priority (rule H25)
        if setpoint.slot is not None and standing.ours is not None:
            reason = Text(
                "{value} stands at priority {slot} and is not ours",
                value=standing.ours, slot=setpoint.slot,
            )  # fmt: skip
            return No(OrderCode.OVERRIDDEN, reason)
        if not setpoint.due():
            raise NoLongerDue
        base, now = self._base(setpoint, standing), self._dependencies.now()
        target = setpoint.first(standing, base)
        kept = setpoint.slot is not None or setpoint.restore is None
        record = HoldRecord(
            setpoint.control, setpoint.jti, setpoint.place, setpoint.slot, pre=standing.ours,
            target=target, known=(target,),
            restore=standing.ours if kept else setpoint.restore,
            begun=now, end=setpoint.end, lasts=setpoint.lasts, base=base,
            tolerance=setpoint.tolerance, identity=standing.identity, moved=now,
            fallback=fallback, failsafe=setpoint.failsafe, dog=setpoint.watchdog, dog_pre=dog_pre,
            measured=self._dependencies.power(setpoint.control), agreed=setpoint.agreed,
        )  # fmt: skip
        try:
            # From now on our value may stand at the device, so the order counts as begun: quotas
            # count it even if the agent dies here.
            saved = await self._save_begin(record, event)
        except (SpoolFull, StorageFailed) as error:
            code = OrderCode.STORAGE if isinstance(error, StorageFailed) else OrderCode.DEVICE
            reason = Text(
                "nothing was written, as the journal takes no record: {error}", error=error
            )
            return No(code, reason)
        assert saved is not None
        current = None
        with suppress(*NOT_THERE):
            current = await access.look()
        if current is not None and await self._ended_by_others(saved, current, access) is not None:
            reason = Text("somebody else has written to {point}", point=setpoint.place.name)
            return No(OrderCode.OVERRIDDEN, reason)
        return await self._write_and_read_back(saved, access, setpoint, current)

    def _base(self, setpoint: Setpoint, standing: Standing) -> Decimal | None:
        """The value that the device followed before any hold of ours; None: no number.

        The value that stands there now may be ours, in the other slot.
        """
        key = setpoint.place.device, setpoint.place.point
        for record in self._journal.open_records(key):
            if record.base is not None:
                return record.base
        return standing.effective if isinstance(standing.effective, Decimal) else None

    async def change(
        self,
        record: HoldRecord,
        setpoint: Setpoint,
        access: PointAccess,
        event: AcceptedOrder | None = None,
    ) -> HoldRecord | None:
        """Change the value, the order or the end of a hold. None: a person's value ended the hold.
        Raises NoLongerDue.

        `event`: the order of the setpoint. It counts as begun before its value is written, as in
        `begin`.

        An unchanged value is written again if another value of ours stands there: the device fell
        back while it was out of reach. From there the value follows the ramp again (rule H5).
        """
        held, standing = await self._check(record, access)
        if held is None or standing is None:  # without a comparison nothing is written
            return held
        target = setpoint.later(record.base)
        if not same(standing.ours, held.target, held.tolerance):
            target = setpoint.again(standing.ours, target, held.base)
            if same(target, held.target, Decimal(0)):  # it is on the disk as ours
                held = await self._write_and_read_back(held, access, setpoint, standing)
            if held is None or held.phase is Phase.RELEASING:
                return held
        if not setpoint.due():
            raise NoLongerDue
        new = replace(held, jti=setpoint.jti, target=target, end=setpoint.end, lasts=setpoint.lasts,
                      agreed=setpoint.agreed or held.agreed)  # fmt: skip
        if setpoint.jti != held.jti:
            new = replace(new, begun=self._dependencies.now())
        if not same(target, held.target, Decimal(0)):
            new = replace(new, moved=self._dependencies.now())
        if same(target, held.target, Decimal(0)) and held.phase is Phase.APPLIED:
            return held if new == held else await self._saved(new)
        # The new value is committed as ours before it is written. Otherwise, if the agent dies
        # then, the next start would take it for a person's value and leave it.
        new = replace(new.knowing(target), phase=Phase.WRITING)
        try:
            saved = await self._save_begin(new, event)
        except (SpoolFull, StorageFailed) as error:
            full = isinstance(error, SpoolFull)
            reason = (
                Text("journal: {why}", why=error) if full else Text("storage: {why}", why=error)
            )
            aborted = held.releasing(OrderState.ABORTED, reason)
            return await self.release(aborted, access)
        assert saved is not None
        return await self._write_and_read_back(saved, access, setpoint)

    async def _save_begin(
        self, record: HoldRecord, event: AcceptedOrder | None
    ) -> HoldRecord | None:
        """Commit a hold record, and its order as begun. Raises SpoolFull, StorageFailed."""
        if event is None or event.began:
            return await self._dependencies.save(Transaction(record))
        name = event.order.jti, event.order.control
        self.beginning.add(name)
        try:
            return await self._dependencies.save(Transaction(record, [replace(event, began=True)]))
        finally:
            self.beginning.discard(name)

    async def _check(
        self, record: HoldRecord, access: PointAccess
    ) -> tuple[HoldRecord | None, Standing | None]:
        """Check which value of ours stands. A person's value is left, and ends the hold.

        Returns the hold record, and what stands there; None if a person has ended the hold, or if
        the device does not answer. Such a device sets the alarm, and is asked again at the next
        call.
        """
        try:
            standing = await access.look()
            await beat(self._dependencies.access, record)
        except NOT_THERE as error:
            return replace(record, alarm=text_of(error)), None
        if (theirs := await self._ended_by_others(record, standing, access)) is not None:
            return theirs[0], None
        if not same(standing.ours, record.target, record.tolerance):
            return record, standing
        if record.phase is Phase.APPLIED:
            return replace(record, alarm=""), standing
        return await self._record_applied(record, standing), standing

    async def _ended_by_others(
        self, record: HoldRecord, standing: Standing, access: PointAccess
    ) -> tuple[HoldRecord | None] | None:
        """The hold record after somebody else ended the hold, in a tuple; None: nobody did.

        The record in the tuple is None if the hold is closed.
        """
        ours = record.ours(standing.ours)
        if not standing.over and (
            ours or (record.first and same(standing.ours, record.pre, Decimal(0)))
        ):
            return None
        if record.first and not ours:  # nothing of ours was there yet
            await self._saved(replace(record, phase=Phase.CLOSED))
            return (None,)
        values = {"value": standing.ours, "point": record.place.name}
        if standing.over:
            reason = Text(
                "{over} is in force: somebody at the plant has taken over", over=standing.over
            )
        elif standing.ours is not None:
            reason = Text("{value} was set at {point} by somebody else", **values)
        else:
            reason = Text("it was emptied at {point} by somebody else", **values)
        return (await self.release(record.releasing(OrderState.OPTED_OUT, reason), access),)

    async def _write_and_read_back(
        self,
        record: HoldRecord,
        access: PointAccess,
        setpoint: Setpoint,
        standing: Standing | None = None,
    ) -> HoldRecord | None:
        """Compare, write and read back, at most `TRIES` times. None: a person's value ended it.

        `standing`: the value that was read just now; None: it must be read first. A value further
        away than a step of the ramp is not replaced: the next check goes on from there. Raises
        NoLongerDue.
        """
        problem = Text("it was not read back")
        for _ in range(TRIES):
            await self._must_be_due(record, setpoint)
            try:
                current = standing or await access.look()
            except NOT_THERE as error:
                problem = text_of(error)
                continue
            if (theirs := await self._ended_by_others(record, current, access)) is not None:
                return theirs[0]
            if _is_farther(current, record, setpoint):  # it has fallen back since the last look
                return record
            record, standing, problem = await self._write_once(record, access, setpoint)
            if standing is not None and same(standing.ours, record.target, record.tolerance):
                return await self._record_applied(record, standing)
            standing = None  # compare again before the next try: a person may have acted meanwhile
        log.error(
            "%s: %s", record.control, problem,
            extra=fields(LogEvent.ORDER_FAILED, control=record.control, device=record.place.device),
        )  # fmt: skip
        return await self._saved(record.releasing(OrderState.FAILED, problem))

    async def _must_be_due(self, record: HoldRecord, setpoint: Setpoint) -> None:
        """Keep what is known of the hold, if nothing more may be written. Raises NoLongerDue."""
        if not setpoint.due():
            await self._saved(record)
            raise NoLongerDue

    async def _write_once(
        self, record: HoldRecord, access: PointAccess, setpoint: Setpoint
    ) -> tuple[HoldRecord, Standing | None, Text]:
        """Write once and read back: the hold record, what was read, and what went wrong.

        After an acknowledged write, the value that stands there counts as ours: a device may round,
        and its rounded value must be released too (rule H15).
        """
        problem, taken = Text(""), True
        try:
            await beat(self._dependencies.access, record)
            await self._must_be_due(record, setpoint)
            await access.write(record.target)
        except NOT_THERE as error:
            problem, taken = text_of(error), False
        try:
            standing = await access.look()
        except NOT_THERE as error:
            return record, None, text_of(error)
        # The value from before must not become one of ours: a person may set it again, and that
        # value must be left.
        if taken and not same(standing.ours, record.pre, Decimal(0)):
            record = record.knowing(standing.ours)
        return (
            record,
            standing,
            problem
            or Text(
                "{value} was read back instead of {target}",
                value=standing.ours,
                target=record.target,
            ),
        )

    async def _record_applied(self, record: HoldRecord, standing: Standing) -> HoldRecord:
        return await self._saved(
            replace(record.knowing(standing.ours), phase=Phase.APPLIED, alarm="")
        )

    # -- releasing

    async def release(self, record: HoldRecord, access: PointAccess) -> HoldRecord | None:
        """Release a point, only over a value of ours. None: the device confirmed that it is over.

        The device's watchdog is restored too, unless it belongs to another hold as well. Otherwise
        it would run out, and the device would fall back over a person's value.
        """
        try:
            standing = await access.look(whole=bool(record.identity))
            _check_identity(record, standing)
            if not _is_released(record, standing) and record.ours(standing.ours):
                # a device that has fallen back may take no value before its watchdog is refreshed
                with suppress(*NOT_THERE):
                    await beat(self._dependencies.access, record)
                await access.write(record.restore)
                standing = await access.look()
            over = _is_released(record, standing) or not record.ours(standing.ours)
            if over and all(one.number == record.number for one in self._watched_by(record.dog)):
                await call_off(self._dependencies.access, record)
        except NOT_THERE as error:
            return await self.record_pending(record, text_of(error))
        if _is_released(record, standing):
            await self._close(record, Text("released, confirmed"))
            return None
        if record.ours(standing.ours):
            why = Text("{value} still stands there", value=standing.ours)
            return await self.record_pending(record, why)
        how = Text("{value} is somebody else's and was left", value=standing.ours)
        await self._close(record, how, theirs=True)
        return None

    def _watched_by(self, watchdog: WatchdogTarget | None) -> list[HoldRecord]:
        """The open hold records with this watchdog; several controls may share one."""
        spot = watchdog.place.spot if watchdog else None
        records = list(self._journal.records.values())
        return [record for record in records if record.dog and record.dog.place.spot == spot]

    async def record_pending(self, record: HoldRecord, why: str) -> HoldRecord:
        """Record once that the release is pending (rule H18). It is tried until it is confirmed."""
        record = record.releasing(OrderState.ABORTED, why)
        if record.pending:  # recorded before: further attempts write nothing to the disk
            return replace(record, alarm=why)
        log.error(
            "%s is not released yet: %s", record.control, why,
            extra=fields(
                LogEvent.RELEASE_PENDING, control=record.control, device=record.place.device
            ),
        )  # fmt: skip
        pending = replace(record, pending=True, alarm=why)
        outcome = self._outcome(record, OrderState.RELEASE_PENDING, why)
        outcome = replace(outcome, internal=self._journal.is_reported(record))
        return await self._saved(pending, Transaction(pending, outcomes=[outcome]))

    async def _close(self, record: HoldRecord, how: str, *, theirs: bool = False) -> None:
        """Close the hold record, with its outcome, by what was read back.

        `theirs`: somebody else's value was left; see `Memo.left_to_others`.
        """
        now, journal = self._dependencies.now(), self._journal
        closed = replace(record, phase=Phase.CLOSED)
        events, reported = journal.ended_with(record, now), journal.is_reported(record)
        both = record.words and record.words != how
        reason = Text("{first}; {then}", first=record.words, then=how) if both else how
        memo = replace(journal.memo(record.key), given_back=now)
        if theirs:
            memo = memo.left_to_others(record, now)
        outcome = self._outcome(record, record.outcome, reason)
        seen = self._extremes(record.control)
        outcome = replace(outcome, seen=seen, closed=True, internal=reported)
        await self._dependencies.note(
            Transaction(closed, events, [outcome], [(record.key, memo)], theirs)
        )
        body = {"jti": record.jti, "control": record.control, "state": record.outcome.value}
        self._dependencies.audit("control.left" if theirs else "control.given_back", body)

    def _outcome(self, record: HoldRecord, state: OrderState, reason: str) -> Outcome:
        return Outcome(
            record.jti, record.control, state, self._dependencies.now().wall, words=reason,
            value=str(record.target), before=record.measured,
            after=self._dependencies.power(record.control),
        )  # fmt: skip

    async def _saved(self, record: HoldRecord, change: Transaction | None = None) -> HoldRecord:
        """Let a hold record count now. If it cannot be committed, the record on the disk is enough:
        it contains the value from before, and all values of ours that were written.
        """
        return await self._dependencies.note(change or Transaction(record)) or record


def _is_released(record: HoldRecord, standing: Standing) -> bool:
    """Whether the value from before, or the value to restore, stands there."""
    if record.slot is not None:
        return standing.ours is None
    return same(standing.ours, record.restore, record.tolerance) or (
        same(standing.ours, record.pre, record.tolerance)
    )


def _is_farther(standing: Standing, record: HoldRecord, setpoint: Setpoint) -> bool:
    """Whether more than a step of the ramp is left to the target of the record (rule H5)."""
    target = record.target
    if not isinstance(target, Decimal):
        return False
    step = setpoint.again(standing.ours, target, record.base)
    return not same(step, target, record.tolerance)


def _check_identity(record: HoldRecord, standing: Standing) -> None:
    if record.identity and standing.identity != record.identity:
        raise WriteRefused(
            "{name} has the serial number {value} now, not {identity}",
            name=record.place.name,
            value=standing.identity or "unknown",
            identity=record.identity,
        )

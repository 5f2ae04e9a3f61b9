"""Who releases a control, when, and from where.

- A check of the control releases what no order in force holds: `end_as_planned` (rule H8). It
  releases all if a guard trips, the operator or a person stops it, or the disk fails: `stop` (rules
  H3, H7). It ends what is under a revoked grant or key, or an occupancy that is over: `end_revoked`
  (rule H27).
- An order or a person ends orders and holds: `mark_cancelled`, then `release_cancelled` (rule H9).
- The end of the agent and a reload release under the configuration so far: `release_controls`
  (rule H21). A limit then changes to its failsafe: `fall_back` (rule H1).
- A control that is no longer configured is released: `release_unconfigured`.
- After an error in the code the release comes first: `release_after_error` (rule H29).
- A person names the value that the journal cannot know: `hand_back` (rule H24), or closes what
  cannot be released: `abandon`.
- A start releases what an earlier process has left, and `gardien control release --all` does so
  without the agent (rules H17, H20): `recovery.py`.

Each release is tried again until the device confirms it: `try_release` (rule H18). No release waits
for a rest, a quota or a disk; only the planned end of an order follows a ramp (rule H5).
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from agent.control import schedule
from agent.control.context import TRIED_FOR, Cancellation, ControlContext, Wait
from agent.control.decide import role_name
from agent.control.guard import inhibited, tripped
from agent.control.hold import FOREVER, Setpoint
from agent.control.model import (
    FAILSAFE,
    HANDED,
    LossRule,
    No,
    OrderCode,
    OrderState,
    hold_is_over,
)
from agent.control.records import HoldRecord, Outcome, Phase, Transaction
from agent.core.errors import LinkLost, Refused, SpoolFull, StorageFailed, WriteRefused
from agent.core.finding import as_text
from agent.core.i18n import Text
from agent.core.tasks import error_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from decimal import Decimal

    from agent.control.model import (
        Acceptance,
        AcceptedOrder,
        ConfiguredControl,
        Grant,
        Moment,
    )

LONGEST_WAIT = 50.0
"""seconds until another attempt is due, at most: a check each 10 s makes it within 60 s"""
ENDED_EARLY = {OrderState.SUPERSEDED, OrderState.CANCELLED, OrderState.ABORTED}
HANDED_LASTS = 120.0
"""seconds by which such a hold must be over"""


class Release(ControlContext):
    """See the module. What a check does, and `try_release`, run under the control's lock."""

    # -- one release

    async def try_release(self, record: HoldRecord) -> None:
        """Make one attempt at a release, if one is due.

        If the device has moved to another address, it is tried there too (rule H21).
        """
        now = self.dependencies.now().steady
        wait = self.waits.setdefault(record.number, Wait())
        if record.phase is Phase.RELEASING and now < wait.until:
            return
        left = await self._attempt(record)
        if left is not None and (moved := self._at_new_address(left)):
            remaining = await self._attempt(moved)
            left = None if remaining is None else left
        if left is None:
            self.waits.pop(record.number, None)
            self.alarms.pop(record.control, None)
            return
        # 1, 2, 4 … 50 s: a device may be away for days
        wait.until, wait.last = now + wait.last, min(LONGEST_WAIT, wait.last * 2)
        self.alarms[record.control] = Text("not released yet: {why}", why=left.alarm)

    async def _attempt(self, record: HoldRecord) -> HoldRecord | None:
        access = self.dependencies.access(record.place, record.slot)
        return await self.holder.release(record, access)

    def _at_new_address(self, record: HoldRecord) -> HoldRecord | None:
        """The hold record at the address at which its device is configured now, if it has moved.

        Only for a device with a serial number: a release checks that number, so no other device
        that is now at the address is written to.
        """
        control = self.controls.get(record.control)
        if control is None or not record.identity or control.key != record.key:
            return None
        if control.place == record.place or (record.slot is None) != (control.slots[0] is None):
            return None
        return replace(record, place=control.place, dog=control.watchdog)

    # -- at a check of the control

    async def end_as_planned(self, record: HoldRecord) -> None:
        """Release a hold for which no order is in force any more, and report RESTORING."""
        event = self.journal.events.get((record.jti, record.control))
        if record.number not in self.journal.records:  # released by an earlier step of this check
            return
        outcome = OrderState.COMPLETED
        if event and event.state in ENDED_EARLY:
            outcome = event.state
        elif event and event.state is OrderState.STARTED:
            await self.report_state(replace(event, state=OrderState.RESTORING), "")
        await self.try_release(record.releasing(outcome, ""))

    def forbidden(self, control: ConfiguredControl) -> No | None:
        """What forbids orders and failsafe at a control now; None: nothing."""
        if why := self.recovering or self.dependencies.failing():
            return No(OrderCode.STORAGE, as_text(why))
        if why := self.journal.memo(control.key).pause(self.dependencies.now()):
            return No(OrderCode.OVERRIDDEN, as_text(why))
        modality, look = control.modality, self.dependencies.look
        return tripped(modality.guards, look) or inhibited(modality, look)

    def setpoint_for(
        self,
        control: ConfiguredControl,
        jti: str,
        value: Decimal,
        until: tuple[float, float],
        slot: int | None,
    ) -> Setpoint:
        """The setpoint of a control for an order, or for the failsafe.

        `until`: the end by the wall clock, and the seconds until then.
        """
        modality = control.modality
        fallback = self.journal.memo(control.key).fallback
        return Setpoint(
            modality.name, jti, control.place, slot, value, control.restore, *until,
            modality.tolerance, never_raise=modality.kind is LossRule.LIMIT,
            ramp=None if jti == FAILSAFE else modality.ramp,  # a failsafe applies at once
            fallback=fallback if control.fallback is None else control.fallback,
            failsafe=modality.failsafe.value if modality.failsafe else None,
            watchdog=control.watchdog, agreed=modality.version,
            due=partial(self._is_due_still, control, jti),
        )  # fmt: skip

    def _is_due_still(self, control: ConfiguredControl, jti: str) -> bool:
        """Whether a value may still be written. A device may answer minutes after the check that
        has decided so: its order may be over meanwhile, or a person has opted out (rules H2, H7).
        """
        if self.forbidden(control) is not None:
            return False
        name, now = control.modality.name, self.dependencies.now()
        if any(one.control == name and jti in one.jtis for one in self.cancelling):
            return False
        if jti == FAILSAFE:
            return True
        event = self.journal.events.get((jti, name))
        if event is None or not schedule.in_time([event], now.wall):
            return False
        in_time = may_run(event, self.records(control), now)
        return in_time and self._taken_back(control, event, now) is None

    def _taken_back(
        self, control: ConfiguredControl, event: AcceptedOrder, now: Moment
    ) -> No | None:
        return taken_back(
            event, self.journal.grants, self.journal.key_taken,
            lambda occupancy: self.dependencies.home(occupancy, control.place.device), now,
        )  # fmt: skip

    async def stop(self, control: ConfiguredControl, records: Iterable[HoldRecord], no: No) -> None:
        """Release all for this reason. A guard that ended a hold locks out orders for `min_gap`."""
        state = OrderState.OPTED_OUT if no.code is OrderCode.OVERRIDDEN else OrderState.ABORTED
        guarded = no.code is OrderCode.GUARD
        reason = no.reason
        if guarded:
            reason = Text("guard:{name}: {why}", name=no.field, why=reason)
        elif no.code is OrderCode.STORAGE:
            reason = Text("storage: {why}", why=reason)
        held = False
        for record in records:
            held = True
            await self.try_release(record.releasing(state, reason))
        await self._end_active(control, state, reason)
        await self._refuse_due(control, no)
        # a guard that trips while nothing is held forbids orders only until it is within bounds
        if held and guarded:
            memo, gap = self.journal.memo(control.key), control.modality.limits.gap or 0.0
            locked = replace(memo, locked=self.dependencies.now(), lock_lasts=gap)
            await self.remember(control.key, locked)

    async def _refuse_due(self, control: ConfiguredControl, no: No) -> None:
        """Refuse the orders that should have begun `TRIED_FOR` seconds ago.

        Until then they wait, so that a sensor that is silent for a moment refuses no order.
        """
        due = self.dependencies.now().wall - TRIED_FOR
        for event in schedule.in_time(self.journal.of(control.key), due):
            if event.state is OrderState.SCHEDULED and not event.began:
                await self.report_refusal(event, no)

    async def end_revoked(
        self, control: ConfiguredControl, records: list[HoldRecord]
    ) -> list[HoldRecord]:
        """End the orders that no longer count. Returns the hold records that stay."""
        journal, now = self.journal, self.dependencies.now()
        for event in journal.of(control.key):
            if event.state not in schedule.WAITING:
                continue
            no = self._taken_back(control, event, now)
            if no is None:
                continue
            reason = Text("{reason} ({code})", reason=no.reason, code=no)
            for record in records:
                if record.jti == event.order.jti:
                    await self.try_release(record.releasing(OrderState.ABORTED, reason))
            records = [record for record in records if record.jti != event.order.jti]
            latest = journal.events[event.order.jti, event.order.control]
            await self.end(latest, OrderState.ABORTED, reason)
        return records

    async def fall_back(self, control: ConfiguredControl, records: list[HoldRecord]) -> None:
        """Bring a limit to its failsafe value now, and release its other slot."""
        assert control.modality.failsafe is not None
        value, slot = control.modality.failsafe.value, control.slots[0]
        setpoint = self.setpoint_for(control, FAILSAFE, value, (FOREVER, FOREVER), slot)
        record = next((one for one in records if one.slot == slot), None)
        await self.apply(control, record, setpoint, None)
        for other in records:
            if other is not record:
                await self.end_as_planned(other)

    # -- by an order, or by a person

    async def mark_cancelled(self, name: str, reason: str, jti: str = "") -> list[str]:
        """End one order, or (without `jti`) all orders of a control. Returns what is ended.

        From now on nothing is written for them. What has begun is released by the next check.
        A failsafe that is ended like this is not entered again before the centre is heard again.
        """
        control = self.controls[name]
        over = [
            event
            for event in self.journal.of(control.key)
            if event.order.control == name and (not jti or event.order.jti == jti)
            if event.state in schedule.WAITING
            or (event.state is OrderState.SUPERSEDED and event.order.resume)
        ]
        left = [FAILSAFE] if not jti and self.journal.memo(control.key).watch.since else []
        ended = [*(event.order.jti for event in over), *left]
        self.cancelling.append(Cancellation(name, tuple(ended), reason))
        if left:
            await self._leave_failsafe(control)
        for event in over:
            # what is just being committed as begun ends with its release (rule H11)
            begins = event.began or (event.order.jti, name) in self.holder.beginning
            if event.state is OrderState.SCHEDULED and not begins:
                await self.end(event, OrderState.CANCELLED, reason)
        return ended

    async def release_cancelled(self, control: ConfiguredControl) -> None:
        """Release what was held for cancelled orders, and end these."""
        name = control.modality.name
        for cancelled in [one for one in self.cancelling if one.control == name]:
            for record in self.journal.open_records(control.key):
                if record.jti in cancelled.jtis:
                    await self.try_release(record.releasing(OrderState.CANCELLED, cancelled.reason))
            for jti in cancelled.jtis:
                event = self.journal.events.get((jti, name))
                if event is not None:
                    await self.end(event, OrderState.CANCELLED, cancelled.reason)
            self.cancelling.remove(cancelled)

    async def _leave_failsafe(self, control: ConfiguredControl) -> bool:
        """Leave the failsafe until the centre is heard again. Returns whether it was applied."""
        memo = self.journal.memo(control.key)
        if not memo.watch.since:
            return False
        watch = replace(memo.watch, since=None, age=0.0, spent=True)
        await self.remember(control.key, replace(memo, watch=watch))
        return True

    async def opt_out(
        self, control: ConfiguredControl, lasts: float, reason: str, until: float = 0.0
    ) -> float:
        """Forbid orders and failsafe at a point for a number of seconds, or until a wall time.

        An opt-out that lasts longer is kept (rule H36). Returns when orders are taken again.
        """
        # at once, although a check of the control may wait for a device
        await self._opt_out(control, lasts, reason, until)
        return self.journal.memo(control.key).pause_end(self.dependencies.now())

    async def opt_in(self, control: ConfiguredControl) -> None:
        """End an opt-out. Raises StorageFailed before the journal was read: it may have another."""
        async with self.lock(control.name):
            if self.journal.unread:
                raise StorageFailed("the journal cannot be read yet")
            memo = replace(self.journal.memo(control.key), opted_out=None, opt_until=0.0)
            await self.remember(control.key, memo)

    async def accept(self, control: ConfiguredControl, acceptance: Acceptance) -> None:
        """Record that the operator has signed the sheet. Raises SpoolFull, StorageFailed."""
        async with self.lock(control.name):
            memo = replace(self.journal.memo(control.key), acceptance=acceptance)
            await self.dependencies.save(Transaction(memos=[(control.key, memo)]))

    async def abandon(self, name: str, reason: str) -> int:
        """Close by hand the holds that cannot be released. The value at the device stays.

        Orders in force end first, and what can be released is released. Returns how many hold
        records were closed without a release.
        """
        async with self.lock(name):
            control = self.controls.get(name)
            if control is not None:
                await self._leave_failsafe(control)
            for record in self._records_named(name):
                self.waits.pop(record.number, None)
                await self.try_release(record.releasing(OrderState.CANCELLED, reason))
            left = self._records_named(name)
            for record in left:
                now = self.dependencies.now()
                closed = replace(record, phase=Phase.CLOSED, outcome=OrderState.FAILED)
                events = self.journal.ended_with(closed, now)
                outcome = Outcome(
                    record.jti, name, OrderState.FAILED, now.wall, words=reason, closed=True,
                    internal=self.journal.is_reported(record),
                )  # fmt: skip
                await self.dependencies.note(Transaction(closed, events, [outcome]))
                self.waits.pop(record.number, None)
            if control is not None:
                await self._end_active(control, OrderState.CANCELLED, reason)
            self.alarms.pop(name, None)
        return len(left)

    def _records_named(self, name: str) -> list[HoldRecord]:
        return [record for record in self.journal.records.values() if record.control == name]

    async def hand_back(self, name: str, value: Decimal, reason: str) -> list[str]:
        """Write the value, and read it back until it stands. Returns what is left to do.

        Raises Refused if the journal knows the value from before, or if no order could have set the
        value that stands there now.
        """
        control = self.controls[name]
        if control.slots[0] is not None:
            release = f"`gardien control release {name}`"
            raise Refused(
                "{name} has a priority of ours, which a release empties: {release}",
                name=name,
                release=release,
            )
        async with self.lock(name):
            record = await self._handed(control, value, reason)
            try:
                saved = await self.dependencies.save(Transaction(record))
            except (SpoolFull, StorageFailed) as error:
                raise Refused(
                    "nothing was written, as the journal takes no record: {error}", error=error
                ) from error
            assert saved is not None
            self.waits.pop(saved.number, None)  # a person waits: try at once, not when it is due
            await self.try_release(saved)
            self.journal.memos[control.key] = replace(self.journal.memo(control.key), swept=True)
            return [record.alarm for record in self.journal.open_records(control.key)]

    async def _handed(self, control: ConfiguredControl, value: Decimal, reason: str) -> HoldRecord:
        """The hold record that releases a register to the value that a person names."""
        records = self.journal.open_records(control.key)
        if any(record.jti != HANDED for record in records):
            release = f"`gardien control release {control.name}`"
            raise Refused(
                "the journal knows the value of {name} from before: {release}",
                name=control.name,
                release=release,
            )
        if records:
            return replace(records[0], pre=value, restore=value, words=reason)
        if self.journal.memo(control.key).tested == control.fingerprint:
            raise Refused(
                "{name} is released already: the journal goes back to its test, and shows no hold",
                name=control.name,
            )
        try:
            standing = await self.dependencies.access(control.place, None).look(whole=True)
        except (LinkLost, WriteRefused) as error:
            raise Refused("{name}: {error}", name=control.name, error=error) from error
        ours = standing.ours
        if ours is None or not control.could_be_ours(ours):
            raise Refused(
                "{ours} stands there, which no order could have set: it was not changed", ours=ours
            )
        now = self.dependencies.now()
        return HoldRecord(
            control.name, HANDED, control.place, slot=None, pre=value, target=ours, known=(ours,),
            restore=value, begun=now, end=now.wall + HANDED_LASTS, lasts=HANDED_LASTS,
            tolerance=control.modality.tolerance, identity=standing.identity,
            phase=Phase.RELEASING, outcome=OrderState.COMPLETED, words=reason,
        )  # fmt: skip

    # -- at the agent's end, at a reload, and after an error

    async def release_controls(self, reason: str, names: Iterable[str]) -> None:
        """Release these controls now. Orders that have not begun stay scheduled.

        While the agent ends, a limit changes to its failsafe: nobody hears the centre then.
        """
        await asyncio.gather(
            *(self._release_control(reason, self.controls[name]) for name in names)
        )

    async def _release_control(self, reason: str, control: ConfiguredControl) -> None:
        async with self.lock(control.name):
            records = self.records(control)
            limited = [record for record in records if record.phase is not Phase.RELEASING]
            falls_back = self.closing and control.modality.failsafe and limited
            if falls_back and not self.forbidden(control):
                await self._end_active(control, OrderState.ABORTED, reason)
                await self.fall_back(control, limited)
                records = [record for record in records if record not in limited]
            for record in records:
                await self.try_release(record.releasing(OrderState.ABORTED, reason))
            await self._end_active(control, OrderState.ABORTED, reason)

    async def _end_active(self, control: ConfiguredControl, state: OrderState, reason: str) -> None:
        """End the orders in force. What is to be released is released before: that reports it."""
        for event in self.active_orders(control):
            await self.end(event, state, reason)

    async def release_unconfigured(self) -> None:
        """Release the holds of controls that are no longer configured, and refuse their orders."""
        reason = Text("the control is no longer configured like this")
        for record in list(self.journal.records.values()):
            if not self.is_configured(record):
                await self.try_release(record.releasing(OrderState.ABORTED, reason))
        for event in self.journal.without_control():
            reason = Text(
                "{name} is no longer configured, or at another point", name=event.order.control
            )
            await self.report_refusal(event, No(OrderCode.ASSET, reason))

    async def release_after_error(self, name: str, reason: str) -> None:
        """Release all holds of a control, and end its orders. Raises the first error of a release,
        which is pending then.

        The supervisor then calls again, so a device that does not answer is tried again.
        """
        control = self.controls[name]
        failed: dict[int, Exception] = {}
        async with self.lock(name):
            for record in self.records(control):
                try:
                    await self.try_release(record.releasing(OrderState.ABORTED, reason))
                except Exception as error:  # noqa: BLE001 -- raised below, after the others
                    failed[record.number] = error
            for record in self.records(control):
                if record.number in failed:
                    why = error_text(failed[record.number])
                    await self.holder.record_pending(
                        record.releasing(OrderState.ABORTED, reason),
                        Text("an error in gardien: {error}", error=why),
                    )
            await self._end_active(control, OrderState.ABORTED, reason)
        for failure in failed.values():
            raise failure


def may_run(event: AcceptedOrder, records: Sequence[HoldRecord], now: Moment) -> bool:
    """Whether an order may run now. Pure.

    Without a trusted clock no order begins. A hold ends by both clocks (rule H28).
    """
    record = next((one for one in records if one.jti == event.order.jti), None)
    if record is not None:
        return not hold_is_over(record.end, record.begun, record.lasts, now)
    return now.trusted


def taken_back(
    event: AcceptedOrder,
    grants: Mapping[str, Grant],
    key_taken: Callable[[str, str, str], float | None],
    home: Callable[[str], tuple[float, float] | None],
    now: Moment,
) -> No | None:
    """The refusal of an order whose grant, occupancy or key no longer counts; None: all do. Pure.

    `key_taken`: when a key was revoked; `home`: begin and end of an occupancy.
    """
    for jti in event.grants:
        grant = grants.get(jti)
        if grant is None or grant.revoked is not None:
            role = grant.role if grant else ""
            reason = Text("the grant of the {role} was revoked", role=role_name(role))
            return No(OrderCode.REVOKED, reason, role)
        if grant.occupancy is not None and now.trusted:
            stands = home(grant.occupancy)
            if stands is None or stands[1] <= now.wall:
                reason = Text("the occupancy of the {role} has ended", role=role_name(grant.role))
                return No(OrderCode.REVOKED, reason, grant.role)
    order = event.order
    if key_taken(order.kid, order.by, order.role) is not None:
        return No(OrderCode.REVOKED, Text("the key that ordered it was revoked"))
    return None

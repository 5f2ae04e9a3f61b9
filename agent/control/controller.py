"""Bringing each control to the order in force: compare the orders with the holds.

Each check starts from the journal, the clock and the device alone. So it does not matter where the
last one was interrupted: a hold without an order in force is released. An order that begins is
decided again (rule H26). `failsafe.py` decides when the failsafe of a limit applies.

Points in the BMS show its operator what is held, and one more point counts up during a hold, for
the BMS's own logic (rule H32). They command nothing, so the journal does not contain them: each
start writes them anew.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

from agent.control import failsafe, schedule
from agent.control.decide import decide
from agent.control.model import TEST, No, OrderState, elapsed
from agent.control.records import Phase
from agent.control.recovery import Recovery
from agent.control.release import may_run
from agent.control.self_test import Passed, SelfTest
from agent.core.errors import LinkLost, Refused, SpoolFull, StorageFailed, WriteRefused
from agent.core.i18n import Text, text_of
from agent.core.log_fields import LogEvent, fields
from agent.core.tasks import error_text, pause, to_next, until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from agent.control.model import AcceptedOrder, ConfiguredControl, Failsafe, Moment, WriteTarget
    from agent.control.point_access import PointAccess
    from agent.control.records import HoldRecord
    from agent.control.writer import JournalWriter
    from agent.core.model import Value

log = logging.getLogger(__name__)

CHECKED_EVERY = 10.0
"""seconds between two checks of the guards and of the held value (rule H3)"""
IDLE = 60.0
"""seconds between two checks of a control for which nothing is ordered or held"""
SOONEST = 0.01
"""seconds: the shortest wait"""
PRUNED_EVERY = 3600.0
"""seconds between two times at which the journal deletes what no longer counts"""
WRITTEN_EVERY = 600.0
"""seconds between two records of how long a failsafe has been applied"""
ANSWERED_WITHIN = 20.0
"""seconds for which a call waits until a control has been checked"""
HEARTBEAT = "heartbeat"
ROLES = ("grid_operator", "building_manager", "boiler_operator", "residents_council", "occupant")
REST = 60.0
"""seconds until a point that took no value is written again"""
WRAPS = 10_000
"""the heartbeat counts to this number, then begins again at 0"""


@dataclass
class Controller(Recovery):
    """See the module. It has tasks that run until cancelled, and calls from outside."""

    writer: JournalWriter | None = None
    """the writer whose disk is tried; None: in tests without a disk"""

    def __post_init__(self) -> None:
        """Begin with no control checked yet."""
        super().__post_init__()
        self.looked: dict[str, float] = {}
        """when each control was last checked (monotonic)"""
        self._failed: dict[str, str] = {}
        """controls stopped by an unexpected error, with the reason, until they are released"""
        self._served: set[str] = set()
        """controls that are checked by a task"""
        self._waiting: dict[str, list[asyncio.Event]] = {}
        """by control: set after the check that begins next"""
        self._displays: dict[str, Display] = {}
        if self.writer is not None:
            self.writer.changed = self.wake_all

    # -- the tasks: each control has its own, so that a slow device delays no other control

    def rounds(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """The tasks that run until cancelled, by name. Each may fail alone.

        There is one task for each control, one for holds of removed controls, one that prunes the
        journal, and one that tries the disk.
        """
        each = {f"control {name}": partial(self._serve, name) for name in self.controls}
        others: dict[str, Callable[[], Awaitable[None]]] = {
            "controls left": partial(self._regularly, self.release_unconfigured, CHECKED_EVERY),
            "journal pruning": partial(self._regularly, self.prune, PRUNED_EVERY),
            "journal storage": self._check_storage,
        }
        return {**each, **others}

    async def _regularly(self, step: Callable[[], Awaitable[None]], every: float) -> None:
        while True:
            await step()
            await pause(every if self.journal.records else max(every, IDLE))

    async def _serve(self, name: str) -> None:
        """Run one control. After an unexpected error, its release comes first (rule H29)."""
        self.looked[name] = self.dependencies.now().steady
        if name in self._failed:
            await self._release_failed(name)
        self._served.add(name)
        try:
            await self._run_control(name)
        except Exception as error:
            self._failed[name] = Text("an error in gardien: {error}", error=error_text(error))
            await self._release_failed(name)
            raise
        finally:
            self._served.discard(name)

    async def _release_failed(self, name: str) -> None:
        await self.release_after_error(name, self._failed[name])
        del self._failed[name]

    async def _run_control(self, name: str) -> None:
        woken = self._woken.setdefault(name, asyncio.Event())
        while True:
            woken.clear()  # before the check: what comes during it is checked again
            waiting = self._waiting.pop(name, [])
            await self.tend(name)
            self.looked[name] = self.dependencies.now().steady
            for checked in waiting:
                checked.set()
            control = self.controls[name]
            await until(woken, to_next(IDLE) if self.is_idle(control) else self.until_next(control))

    async def check_now(self, name: str, within: float = ANSWERED_WITHIN) -> None:
        """Check a control now, and wait for it for `within` seconds at most.

        A device may take minutes for each answer: the task of the control goes on with it.
        """
        if name not in self._served:
            await self.tend(name)
            return
        checked = asyncio.Event()
        self._waiting.setdefault(name, []).append(checked)
        self.wake(name)
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await checked.wait()

    async def cancel(self, name: str, reason: str, jti: str = "") -> list[str]:
        """End one order, or (without `jti`) all orders of a control, and release what they hold.

        Returns what is ended; see `mark_cancelled` and `check_now`.
        """
        ended = await self.mark_cancelled(name, reason, jti)
        await self.check_now(name)
        return ended

    def is_idle(self, control: ConfiguredControl) -> bool:
        """Whether nothing of a control is due before somebody wakes it."""
        waiting = any(event.state in schedule.WAITING for event in self.journal.of(control.key))
        held = any(self.journal.open_records(control.key))
        to_search = not self.journal.memo(control.key).swept
        return not (waiting or held or to_search or control.modality.failsafe)

    def until_next(self, control: ConfiguredControl) -> float:
        """Seconds until something of a control is due, `CHECKED_EVERY` at most.

        Due are: the begin or end of an order, the end of a hold, a refresh of the device's
        watchdog, another attempt at a release.
        """
        now, due = self.dependencies.now(), [CHECKED_EVERY]
        for event in self.journal.of(control.key):
            if event.state in schedule.WAITING:
                due += [at - now.wall for at in (event.begin, event.end - event.back, event.end)]
        for record in self.journal.open_records(control.key):
            due.append(record.begun.steady + record.lasts - now.steady)
            if record.dog is not None:  # each check refreshes the watchdog
                due.append(record.dog.pause)
            if record.number in self.waits:
                due.append(self.waits[record.number].until - now.steady)
        return max(SOONEST, min(seconds for seconds in due if seconds > 0))

    async def prune(self) -> None:
        """Let the journal delete what no longer counts, if the clock is trusted."""
        now = self.dependencies.now()
        if now.trusted:
            with suppress(SpoolFull, StorageFailed):  # the next round does it
                await self.dependencies.call(self.journal.prune, now.wall)

    async def _check_storage(self) -> None:
        while self.writer is not None:
            await pause(self.writer.until_next())
            await self.try_storage()
        await asyncio.Event().wait()  # without a writer there is nothing to do; it must not return

    async def try_storage(self) -> None:
        """Try the journal's disk. Once it has recovered, recover the journal as at a start."""
        assert self.writer is not None
        if await self.writer.tend(held=bool(self.journal.records)):
            self.recovering = Text(
                "the disk has recovered: the holds of its journal are released first"
            )
            try:
                await self.recover()
            finally:
                self.recovering = ""
            self.wake_all()

    # -- one check

    async def tend(self, name: str) -> None:
        """Check one control, and bring it to the order in force now."""
        async with self.lock(name):
            # a reload may have removed the control while this waited for the lock
            if name in self.controls and not self.closing:
                await self.release_cancelled(self.controls[name])
                await self._tend(self.controls[name])
                await self._show(self.controls[name])

    async def _tend(self, control: ConfiguredControl) -> None:
        now = self.dependencies.now()
        for event in self.journal.of(control.key):
            # with a clock that is not trusted, an order is not refused: it waits (rule H26)
            over = event.state is OrderState.SCHEDULED and now.trusted and now.wall >= event.end
            if over and not self.is_releasing(event):  # else its release reports how it ended
                no = self.forbidden(control)
                why = no.reason if no else self.alarms.get(control.name, "")
                reason = Text("its time was over before it could begin")
                reason = Text("{what}: {why}", what=reason, why=why) if why else reason
                await self.end(event, OrderState.EXPIRED, reason)
        records = self.records(control)
        # pending releases come first, whatever is ordered or forbidden now
        for record in records:
            if record.phase is Phase.RELEASING:
                await self.try_release(record)
        records = [record for record in records if record.phase is not Phase.RELEASING]
        if records:
            self.extremes.note(control.name, control.modality.guards, self.dependencies.look)
        if no := self.forbidden(control):
            await self.stop(control, records, no)
        # before the point was searched no order begins (rule H19)
        elif self.journal.memo(control.key).swept or await self.search_orphans(control):
            records = await self.end_revoked(control, records)
            if not await self._fallen_back(control, records, now):
                await self._follow_orders(control, records, now)

    async def _follow_orders(
        self, control: ConfiguredControl, records: list[HoldRecord], now: Moment
    ) -> None:
        """Bring a point to the strongest order in time, and release what no order holds."""
        blocked_slots = self.blocked_slots(control)
        going = [
            event
            for event in schedule.in_time(self.journal.of(control.key), now.wall)
            if event.order.control == control.name  # the point may have been another control's
            and may_run(event, records, now)
            and slot_of(control, event) not in blocked_slots
        ]
        chosen = await self._choose(control, going, records, now)
        record = None
        if chosen is not None:
            slot = slot_of(control, chosen)
            record = next((other for other in records if other.slot == slot), None)
            value = value_of(chosen, record, control, now)
            if value is None:
                record = None
            else:
                # The same order keeps its length by the monotonic clock: a wall clock that is set
                # back must not lengthen the hold (rule H28).
                same = record is not None and record.jti == chosen.order.jti
                lasts = record.lasts if record and same else chosen.end - now.wall
                until, jti = (chosen.end, lasts), chosen.order.jti
                setpoint = self.setpoint_for(control, jti, value, until, slot)
                await self.apply(control, record, setpoint, chosen)
        for other in records:
            if other is not record:
                await self.end_as_planned(other)

    async def _choose(
        self,
        control: ConfiguredControl,
        going: list[AcceptedOrder],
        records: Sequence[HoldRecord],
        now: Moment,
    ) -> AcceptedOrder | None:
        """The strongest order that may run. One that begins is decided again; the others end.

        Orders that are refused are removed from `going`.
        """
        chosen = schedule.winner(going)
        # an order with a hold record was decided when it began, and is not decided again
        while chosen is not None and not any(record.jti == chosen.order.jti for record in records):
            decision = decide(chosen.order, control.modality, self.facts(control, now))
            if not isinstance(decision, No):
                break
            await self.report_refusal(chosen, decision)
            going.remove(chosen)
            chosen = schedule.winner(going)
        for event in going:
            superseded = event.state is OrderState.SUPERSEDED
            if chosen is not None and event is not chosen and not superseded:
                await self.end(
                    event, OrderState.SUPERSEDED, Text("by {order}", order=chosen.order.jti)
                )
        return chosen

    # -- the failsafe of a limit

    def heard(self) -> None:
        """Note a verified message of the centre, which is a heartbeat for limits.

        It counts at the next check of each limit: only that changes what is known of the centre.
        """
        now = self.dependencies.now()
        for name, control in self.controls.items():
            if control.modality.failsafe:
                # the first time shows a gap before it, the latest one that the centre is there now
                self.heartbeats.setdefault(name, [])[1:] = [now]
                # only a failsafe can end at once by this; other limits are checked soon enough
                if self.journal.memo(control.key).watch.since:
                    self.wake(name)

    async def _fallen_back(
        self, control: ConfiguredControl, records: list[HoldRecord], now: Moment
    ) -> bool:
        """Apply the failsafe value if it is due. Returns whether it is."""
        rule, memo = control.modality.failsafe, self.journal.memo(control.key)
        # at a point that has not passed its test nothing is written, not even a failsafe (rule H22)
        if rule is None or memo.tested != control.fingerprint:
            return False
        if not await self._is_due(control, rule, now):
            return False
        for event in self.active_orders(control):
            await self.end(event, OrderState.SUPERSEDED, "the centre is not heard: failsafe")
        if control.slots[0] not in self.blocked_slots(control):
            await self.fall_back(control, records)
        return True

    async def _is_due(self, control: ConfiguredControl, rule: Failsafe, now: Moment) -> bool:
        """Update what is known of the centre. Returns whether the failsafe is applied.

        What a start needs is written to the disk. When the centre was heard is not: a start begins
        with the failsafe in any case.
        """
        memo = self.journal.memo(control.key)
        before = memo.watch
        heard = before
        for heartbeat in self.heartbeats.pop(control.name, ()):
            heard = failsafe.hear(heard, rule, heartbeat)
        following = before.since is not None and any(
            event.accepted >= before.entered and event.begin <= now.wall < event.end
            and event.state in schedule.WAITING
            for event in self.journal.of(control.key)
        )  # fmt: skip
        watch = failsafe.step(heard, rule, now, limit_since=following)
        if watch.since is not None and elapsed(watch.since, now) > WRITTEN_EVERY:
            watch = failsafe.aged(watch, now)
        if (watch.since is None) != (before.since is None):
            change = "has ended" if watch.since is None else "applies: the centre is not heard"
            log.warning(
                "%s: the failsafe limit %s", control.name, change,
                extra=fields(LogEvent.FAILSAFE_CHANGED, control=control.name),
            )  # fmt: skip
        new = replace(memo, watch=watch)
        if failsafe.to_keep(watch) != failsafe.to_keep(before):
            await self.remember(control.key, new)
        else:
            self.journal.memos[control.key] = new  # a start does not need it: memory is enough
        return watch.since is not None

    # -- the operator's display, and the test

    async def _show(self, control: ConfiguredControl) -> None:
        """Show the operator in the BMS what is held."""
        if not control.shown:
            return
        display = self._displays.get(control.name)
        if display is None or display.places != control.shown:  # first check, or reload
            display = self._displays[control.name] = Display(control.shown, control.slots[0])
        record = next(iter(self.records(control)), None)
        event = self.journal.events.get((record.jti, control.name)) if record else None
        now = self.dependencies.now()
        await display.show(
            self.dependencies.access, record, display_values(record, event, now), now.steady
        )

    async def release_controls(self, reason: str, names: Iterable[str]) -> None:
        """See `Release`. The display in the BMS is updated too."""
        names = list(names)
        await super().release_controls(reason, names)
        for name in names:
            async with self.lock(name):
                await self._show(self.controls[name])

    async def test(self, name: str, say: Callable[[str], Awaitable[None]]) -> Passed:
        """Test a control under its lock; see `SelfTest`. Raises Refused."""
        control = self.controls[name]
        async with self.lock(name):
            try:
                return await SelfTest(self, control, say).run()
            except (LinkLost, WriteRefused, SpoolFull, StorageFailed) as error:
                raise Refused("{name}: {error}", name=name, error=error) from error
            finally:
                # however the test ended, also if it was cancelled, its value must not stay
                for record in self.journal.open_records(control.key):
                    if record.jti == TEST:
                        aborted = record.releasing(OrderState.ABORTED, "the test failed")
                        await self.try_release(aborted)
                self.wake(name)


def slot_of(control: ConfiguredControl, event: AcceptedOrder) -> int | None:
    """Our priority for an order; None: a register, which has none. Pure."""
    return control.slots[1] if event.order.emergency else control.slots[0]


def value_of(
    event: AcceptedOrder, record: HoldRecord | None, control: ConfiguredControl, now: Moment
) -> Decimal | None:
    """The value of an order now; None: its release has begun. Pure."""
    target = event.order.value
    assert target is not None
    # `Setpoint.first` limits the first step of a ramp; from a value that is no number there is none
    if record is None or record.base is None:
        return schedule.value_at(now.wall, event, target, target, None)
    value = schedule.value_at(now.wall, event, record.base, target, control.modality.ramp)
    if value is None or record.moved is None or isinstance(record.target, str):
        return value
    return schedule.paced(record.target, value, control.modality.ramp, elapsed(record.moved, now))


class Display:
    """The display points of one control; each is written when its value changes."""

    def __init__(self, places: Mapping[str, WriteTarget], slot: int | None) -> None:
        self.places, self._slot = places, slot
        self._shown: dict[str, Value | None] = {}
        self._beats = 0
        self._last_error = ""
        self._retry_at: dict[str, float] = {}

    async def show(
        self,
        access: Callable[[WriteTarget, int | None], PointAccess],
        record: HoldRecord | None,
        values: Mapping[str, Value | None],
        now: float,
    ) -> None:
        """Write these values to the points, by name of the point.

        A point that takes no value is tried again after a minute: while a write waits for its
        timeout, the guards of the control are not checked. `now`: monotonic seconds.
        """
        wanted = dict(values)
        if record is not None:
            self._beats = (self._beats + 1) % WRAPS
            wanted[HEARTBEAT] = Decimal(self._beats)
        for name, place in self.places.items():
            value = wanted.get(name, None if self._slot is not None else Decimal(0))
            if name in self._shown and self._shown[name] == value:
                continue
            if now < self._retry_at.get(name, now):
                continue
            try:
                await access(place, self._slot).write(value)
                self._shown[name] = value
            except (LinkLost, Refused, WriteRefused) as error:
                if text_of(error) != self._last_error:  # log it once, not with each attempt
                    self._last_error = text_of(error)
                    log.warning(
                        "%s/%s is not shown: %s", place.device, place.point, error,
                        extra=fields(LogEvent.DISPLAY_FAILED, device=place.device),
                    )  # fmt: skip
                self._retry_at[name] = now + REST


def display_values(
    record: HoldRecord | None, event: AcceptedOrder | None, now: Moment
) -> dict[str, Value | None]:
    """The values that the points show, by name; empty if nothing is held. Pure."""
    if record is None:
        return {}
    left = event.end - now.wall if event else 0.0
    by = ROLES.index(event.order.role) + 1 if event and event.order.role in ROLES else 0
    return {
        "active": Decimal(1),
        "value": record.target,
        "minutes": Decimal(max(0, round(left / 60))),
        "by": Decimal(by),
    }

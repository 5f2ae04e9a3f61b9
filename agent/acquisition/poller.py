"""Reads the devices of one link when they are due, lets silent ones rest, and closes their
slots.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

from agent.acquisition.device import REST, DeviceReader
from agent.acquisition.slots import multiplier, recalled
from agent.acquisition.timetable import choose, running_slot
from agent.acquisition.unsent_readings import UndatedRead, UndatedReadings
from agent.acquisition.values import Intervals, Means, Validation
from agent.core.errors import LinkLost
from agent.core.model import Flag, MarkKey, Sample, Why
from agent.core.tasks import Change, Faults, Wakeup, together

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from zoneinfo import ZoneInfo

    from agent.acquisition.common_history import CommonHistory
    from agent.acquisition.device import Device, Identified
    from agent.acquisition.factors import FactorDays
    from agent.acquisition.ingest import SlotAccount
    from agent.acquisition.plausibility import Plausibility
    from agent.acquisition.slots import DownGap
    from agent.acquisition.sums import ReadingCache
    from agent.acquisition.unsent_readings import MidnightReadings, UnassignedReadings
    from agent.core.clock import Clock
    from agent.drivers.base import StoredHistory
    from agent.drivers.link import Link

LOOK = 1.0
"""seconds until the next check while what is due has to wait for something else"""


class Poller:
    """Reads the devices of one link by the timetable, and closes their slots in every account.

    While the clock is not trusted it reads by monotonic time, and dates the reads once the clock is
    trusted.
    """

    def __init__(  # noqa: PLR0913, PLR0917 -- what it works with
        self,
        link: Link,
        devices: Sequence[Device],
        accounts: Sequence[SlotAccount],
        clock: Clock,
        identified: Identified,
        zone: ZoneInfo | None = None,
        unassigned: UnassignedReadings | None = None,
        midnight_readings: MidnightReadings | None = None,
        reading_cache: ReadingCache | None = None,
        faults: Faults | None = None,
        installed: Callable[[str, str | None], object] = lambda _device, _serial: None,
        plausibility: Plausibility | None = None,
        factor_days: FactorDays | None = None,
        history: CommonHistory | None = None,
    ) -> None:
        self._plausibility = plausibility
        self._factor_days = factor_days
        """the days over which the factors of meters are proven"""
        self._history = history
        """the small history of common areas and plant"""
        self._faults = faults or Faults()
        """components that do not work because of unexpected errors"""
        self.unassigned, self.midnight_readings = unassigned, midnight_readings
        """readings that no recipient gets at present"""
        self._reading_cache = reading_cache
        """the source of sums over dwellings"""
        self.link, self.accounts, self.clock, self.zone = link, accounts, clock, zone
        self.devices = {device.name: device for device in devices}
        self._validation, self._intervals, self._means = Validation(), Intervals(zone), Means(zone)
        self._reader = DeviceReader(
            link, clock, identified, self._forget_meter, zone, self._faults, installed
        )
        self._closed: dict[MarkKey, int | None] = {
            key: self._last_closed(key) for device in devices for key in sorted(device.keys)
        }
        self.undated = UndatedReadings()
        self._closed_undated: dict[MarkKey, int | None] = dict.fromkeys(self._closed)
        self._began = clock.steady()
        self._resumed = clock.dates
        """whether the slots before our start have been closed"""
        self.turned = self.clock.steady()
        """monotonic time of the last pass, or of the next one while it sleeps"""
        self._finished = False
        self._changed = Change()
        """something else may be due now"""
        self._steps = len(clock.steps)
        self._blank: dict[MarkKey, int] = {}
        """slots after this one were closed as M `clock`: their values come late"""
        self._stepped: set[MarkKey] = set()
        self._failed: set[MarkKey] = set()
        """keys whose last slot was not closed because of an unexpected error"""
        self._owed: dict[MarkKey, tuple[int, float]] = {}
        """slots closed without an answer, and the monotonic time of the next attempt"""
        self._busy: set[str] = set()
        """devices that are being read"""
        self._dating = asyncio.Lock()

    def _last_closed(self, key: MarkKey) -> int | None:
        return max(self._marks(key), default=None)

    def _marks(self, key: MarkKey) -> list[int]:
        marks = (account.ledger.marks.get(key) for account in self.accounts)
        return [mark.slot for mark in marks if mark is not None]

    async def run(self) -> None:
        """Read and close for ever, once the line was tried. Reads as many devices at once as the
        line allows.
        """
        await self.link.tried()
        # More workers than devices would only wait.
        workers = min(self.link.at_once, len({name for name, _ in self._closed}))
        if workers <= 1:
            await self._work()
            return
        await together(*(self._work() for _ in range(workers)))

    async def _work(self) -> None:
        wakeup = Wakeup(self.clock.changed, self._changed)
        while self._closed and not self._finished:
            wakeup.look()
            self.turned = self.clock.steady()
            dated = self.clock.dates
            if dated:
                # Several workers run here: only one may date the reads, or their slots close out of
                # order.
                async with self._dating:
                    await self._date_all()
            now = self.clock.now() if dated else self.clock.steady()
            chosen = self._choose(now, dated=dated)
            if isinstance(chosen, float):
                # Extra reads only while nothing is due: they must not delay a slot.
                if not (dated and (await self._ask_again(now) or await self._backfill_history())):
                    await self._sleep(wakeup, chosen - now)
                continue
            (name, slots), period = chosen, len(self.clock.steps)
            with self._reserve(name), self._noting_errors(name):
                try:
                    await self._read(self.devices[name], slots, dated=dated)
                except Exception:
                    stands = period == len(
                        self.clock.steps
                    )  # else the slots belong to another time
                    self._pass_over(name, slots, dated=dated and stands)
                    raise
        while not self._finished:
            await self._sleep(wakeup, math.inf)

    async def _sleep(self, wakeup: Wakeup, seconds: float) -> None:
        """Sleep until the next slot, in `seconds`, or until something else is due."""
        steady = self.clock.steady()
        for name, when in ((key[0], when) for key, (_, when) in self._owed.items()):
            # one that is due waits for the line, or for another worker
            seconds = min(seconds, max(LOOK, max(when, self.devices[name].rests_until) - steady))
        seconds = self.clock.bound(max(0.0, seconds))
        self.turned = steady + seconds
        await wakeup.wait(seconds)

    async def _read(self, device: Device, slots: Mapping[int, int], *, dated: bool) -> None:
        points, period = device.due(slots), len(self.clock.steps)
        samples = await self._reader.read(device, points) if points else []
        if dated and self._plausibility and any(one.value is not None for one in samples):
            odd = self.link.health().get("odd", {}).get(points[0].address, {})
            self._plausibility.note(device, samples, self.clock.now(), odd)
        for step, slot in sorted(slots.items()):  # finer steps first: means are made of them
            # The slots are valid only for the clock by which they were chosen.
            if dated and self.clock.dates and len(self.clock.steps) == period:
                await self._close(device, step, slot, samples)
            else:
                self._keep_undated(device, (step,), samples)

    async def read_unread(self, name: str) -> None:
        """Read a device that was not read since the start, before its turn."""
        device, wakeup = self.devices[name], Wakeup(self._changed)
        while name in self._busy:
            await wakeup.wait()
        if device.answered is None and not device.failures:
            with self._reserve(name), self._noting_errors(name):
                await self._reader.read(device, [p for p in device.points if not p.derived])

    @contextmanager
    def _reserve(self, name: str) -> Iterator[None]:
        """Reserve a device, so that its slots close in order."""
        self._busy.add(name)
        try:
            yield
        finally:
            self._busy.discard(name)
            self._changed.tell()

    @contextmanager
    def _noting_errors(self, name: str) -> Iterator[None]:
        """Note an unexpected error with one device; the other devices are not affected."""
        component = f"poll {self.link.name}"
        try:
            yield
        except Exception as error:  # noqa: BLE001 -- it is this device's alone
            self._faults.note(component, error, name)
        else:
            if not self.devices[name].failed:
                self._faults.over(component, name)

    def _pass_over(self, name: str, slots: Mapping[int, int], *, dated: bool) -> None:
        """Skip slots that could not be closed; they are still owed, as M `agent`."""
        closed = self._closed if dated else self._closed_undated
        for step, slot in slots.items():
            closed[name, step] = slot if dated else running_slot(step, self.clock.steady())
            self._failed.add((name, step))

    def finish(self) -> None:
        """Let `run` return after the current read."""
        self._finished = True
        self._changed.tell()

    def wake(self) -> None:
        """Look now: a recipient or a store has been opened, or a device does not rest any more."""
        self._changed.tell()

    def go_on_from(self, before: Poller) -> None:
        """Take over the unfinished work of an earlier poller of this line, for devices that
        stay.
        """
        self._validation, self._intervals = before._validation, before._intervals
        self._means = before._means
        self._began, self._resumed = before._began, before._resumed
        for read in before.undated.take():
            if read.device in self.devices:
                self.undated.add(read)
        # Steps may have been removed from the configuration.
        stays = self._closed.keys()
        self._owed.update({k: v for k, v in before._owed.items() if k in stays})
        self._closed_undated.update({k: v for k, v in before._closed_undated.items() if k in stays})
        self._blank.update({k: v for k, v in before._blank.items() if k in stays})
        self._stepped |= before._stepped & stays
        self._failed |= before._failed & stays

    def _choose(self, now: float, *, dated: bool) -> tuple[str, dict[int, int]] | float:
        closed = self._closed if dated else self._closed_undated
        free = {key: slot for key, slot in closed.items() if key[0] not in self._busy}
        zone = self.zone if dated else None
        suspects = bool(self.link.disturbed.suspects)
        last = {key: slot for key, slot in free.items() if suspects and self._disturbs(key[0])}
        first = {key: slot for key, slot in free.items() if key not in last}
        chosen = choose(first, now, zone) if first else now + LOOK
        if not last or not isinstance(chosen, float):
            return chosen
        alone = choose(last, now, zone)
        return min(chosen, alone) if isinstance(alone, float) else alone

    def _disturbs(self, name: str) -> bool:
        """Whether a device is read after all others because it disturbs the line. A resting device
        is not: its slots cost the line nothing.
        """
        device = self.devices[name]
        rests = self.clock.steady() < device.rests_until
        return not rests and self.link.disturbs(device.points[0].address)

    def _forget_meter(self, device: str) -> None:
        """Another meter is installed: its values must not be compared with earlier ones."""
        self._validation.forget(device)
        if self._plausibility:
            self._plausibility.forget(device)
        if self._factor_days is not None:
            self._factor_days.forget(device)

    def _validated(self, sample: Sample) -> Sample:
        """The sample with its quality and flags. Called when the slot is known: a value that is
        never recorded must not be compared with later ones.
        """
        if sample.why is not None or not isinstance(sample.value, Decimal):
            return sample
        if sample.point.channel is None:
            return sample
        # Rates are checked against monotonic time: a step of the wall clock must not look like a
        # jump of the index.
        at = self.clock.steady() - (self.clock.now() - sample.at)
        value = sample.value * multiplier(sample.point)
        verdict = self._validation.check(sample.point, value, at)
        off = self.devices[sample.point.device].clock_wrong
        flags = (*verdict.flags, Flag.CLOCK) if off else verdict.flags
        judged = replace(sample, quality=verdict.quality, flags=flags, delta=verdict.delta)
        latest = self.devices[sample.point.device].latest
        if latest.get(sample.point.name) is sample:  # what people see is judged too
            latest[sample.point.name] = judged
        return judged

    async def _close(self, device: Device, step: int, slot: int, samples: Sequence[Sample]) -> None:
        self._watch_for_steps()
        key = (device.name, step)
        mine = self._of_the_step(device, step, slot, samples)
        self._closed[key] = slot
        self._owe(key, slot, mine)
        skipped = self._why_skipped(key)
        self._note(slot, mine, device.serial)
        await self._close_in_all(key, slot, mine, device.serial, skipped)

    def _why_skipped(self, key: MarkKey) -> Why:
        """Why the slots before the one that closes now were not closed."""
        why = Why.AGENT if key in self._failed else Why.BUSY
        why = Why.CLOCK if key in self._stepped else why
        self._stepped.discard(key)
        self._failed.discard(key)
        return why

    async def _close_in_all(  # noqa: PLR0913, PLR0917 -- a read, its slot and its circumstances
        self,
        key: MarkKey,
        slot: int,
        samples: Sequence[Sample],
        serial: str | None,
        skipped: Why,
        made: int | None = None,
    ) -> None:
        """Close a slot in every account by the same clock; then wait for room."""
        for account in self.accounts:
            change = partial(account.ledger.close, key, slot, samples, serial, skipped, made)
            if not account.take(key, change, self._faults):
                self._failed.add(key)
        await self._wait_for_room()

    async def _wait_for_room(self) -> None:
        # After the rows are queued, never before: a wait could change the clock period.
        await asyncio.gather(*(account.ingest.room() for account in self.accounts))

    def _note(self, slot: int, samples: Sequence[Sample], serial: str | None) -> None:
        """Keep values that no recipient gets now, but may get later or in a sum."""
        if self._factor_days is not None and samples:
            points = self.devices[samples[0].point.device].points
            self._factor_days.note(points, slot, samples, self.zone)
        if self.unassigned is not None:
            self.unassigned.note(slot, samples, serial)
        if self.midnight_readings is not None:
            self.midnight_readings.note(slot, samples, serial, self.accounts)
        if self._reading_cache is not None:
            self._reading_cache.note(slot, samples, serial)
        if self._history is not None and samples:
            # nothing depends on it, so an error in it must not cost the slot
            with self._faults.alone("history", samples[0].point.device):
                self._history.note(slot, samples, serial)

    def _of_the_step(
        self, device: Device, step: int, slot: int, samples: Sequence[Sample]
    ) -> list[Sample]:
        mine = [self._validated(sample) for sample in samples if sample.point.every == step]
        self._means.note(device.means(), slot, mine)
        flows = self._intervals.derive(device.flows(step), slot, mine)
        return mine + flows + self._means.derive(device.means(step), slot)

    def _owe(self, key: MarkKey, slot: int, samples: Sequence[Sample]) -> None:
        """Plan another attempt for a slot without an answer, if there is time while the slot
        runs.
        """
        self._owed.pop(key, None)
        gone = (s.why in (Why.SILENT, Why.LINK) for s in samples if not s.point.derived)
        if key[1] > 2 * REST and any(gone):
            self._owed[key] = slot, self.clock.steady() + REST

    async def _ask_again(self, now: float) -> bool:
        """Read one device again for an open slot; its values come late, as new versions (rule
        M14).
        """
        steady = self.clock.steady()
        for key, (slot, when) in list(self._owed.items()):
            device, step = self.devices[key[0]], key[1]
            if running_slot(step, now, self.zone) != slot:
                del self._owed[key]
            elif device.name in self._busy:
                continue
            elif steady >= max(when, device.rests_until) and not self.link.error:
                with self._reserve(device.name), self._noting_errors(device.name):
                    period = len(self.clock.steps)
                    samples = await self._reader.read(device, device.due((step,)))
                    # a battery cannot bear a read every minute
                    rest = max(REST, device.spacing)
                    self._owed[key] = slot, self.clock.steady() + rest
                    # The clock was stepped during the read: the slot may be another one now.
                    if len(self.clock.steps) != period:
                        self._owed.pop(key, None)
                    elif self.clock.dates and any(sample.why is None for sample in samples):
                        self._owed.pop(key, None)
                        await self._late(key, slot, samples)
                return True
        return False

    async def _late(self, key: MarkKey, slot: int, samples: Sequence[Sample]) -> None:
        device = self.devices[key[0]]
        samples = [self._validated(sample) for sample in samples]
        self._means.note(device.means(), slot, samples)
        self._note(slot, samples, device.serial)
        flows = self._intervals.late(device.flows(key[1]), slot, samples)
        for account in self.accounts:
            await self._put_late(account, key, slot, [*samples, *flows])

    async def _put_late(
        self, account: SlotAccount, key: MarkKey, slot: int, samples: Sequence[Sample]
    ) -> None:
        serial, made = self.devices[key[0]].serial, int(self.clock.now())
        change = partial(account.ledger.late, key, slot, samples, serial, made)
        account.take(key, change, self._faults)
        await account.ingest.room()

    async def _backfill_history(self) -> bool:
        """Read the stored values of one device for the time in which the agent did not run."""
        for account in self.accounts:
            for key, gap in list(account.ledger.gaps.items()):
                device = self.devices.get(key[0])
                if device is None or device.answered is None or device.name in self._busy:
                    continue
                # One attempt only: a meter without stored values would be asked for ever.
                del account.ledger.gaps[key]
                histories = [
                    history for history in map(self.link.kept, device.due(key[1:])) if history
                ]
                if histories and not self.link.error:
                    await self._fill(account, key, gap, histories)
                    return True
        return False

    async def _fill(
        self, account: SlotAccount, key: MarkKey, gap: DownGap, histories: Sequence[StoredHistory]
    ) -> None:
        with self._reserve(key[0]), self._noting_errors(key[0]):
            try:
                samples = await self.link.read(
                    [point for history in histories for point in history.points]
                )
            except LinkLost:
                return  # the next read reports the loss; the slots stay M `agent`
            for history in histories:
                for slot, sample in recalled(history, samples, gap, self.zone):
                    await self._put_late(account, key, slot, [sample])

    def _keep_undated(
        self, device: Device, steps: tuple[int, ...], samples: Sequence[Sample]
    ) -> None:
        """Keep reads that cannot be dated now."""
        steady = self.clock.steady()
        for step in steps:
            self._closed_undated[device.name, step] = running_slot(step, steady)
        ages = [self.clock.now() - sample.at for sample in samples]
        # By monotonic time, because the wall clock cannot date it. The youngest sample counts.
        at = steady - max(0.0, min(ages, default=0.0))
        # A trusted clock waits only until every spool has begun its period (rule M3).
        right = self.clock.believed and len(self.clock.steps) == self._steps
        why, skipped = (Why.AGENT, self._failed) if right else (Why.CLOCK, self._stepped)
        self.undated.add(UndatedRead(device.name, steps, at, samples, device.serial, why))
        skipped.update((device.name, step) for step in steps)

    async def _date_all(self) -> None:
        """Close the slots of the undated reads, now that the clock is trusted."""
        if not self._resumed:
            self._resumed = True
            began = self.clock.now() - (self.clock.steady() - self._began)
            for key in self._closed:
                await self._catch_up(key, began)
        for read in self.undated.take():
            if not self.clock.dates:  # the clock was stepped meanwhile
                self.undated.add(read)
                continue
            at = self.clock.now() - (self.clock.steady() - read.steady)
            samples = [replace(sample, at=at) for sample in read.samples]
            with self._noting_errors(read.device):
                for step in sorted(read.steps):
                    device = self.devices[read.device]
                    await self._close_dated(device, step, at, samples, read)
        if not len(self.undated):
            self._blank.clear()

    def set_back(self, since: Mapping[MarkKey, int]) -> None:
        """A wrong clock closed the slots after these, and the marks were set back. Forget the
        values read since: nothing may be compared with them.
        """
        self._validation, self._intervals = Validation(), Intervals(self.zone)
        self._means = Means(self.zone)
        self._owed.clear()
        for key in self._closed:
            # A spool that is not open is set back when it opens. Until then its marks lie ahead.
            self._closed[key] = (min if key in since else max)(self._marks(key), default=None)
            if key in since:
                self._blank[key] = min(since[key], self._blank.get(key, since[key]))
        self._changed.tell()

    async def _catch_up(self, key: MarkKey, began: float) -> None:
        for account in self.accounts:
            change = partial(account.ledger.catch_up, key, began, Why.AGENT)
            account.take(key, change, self._faults)
        self._closed[key] = self._last_closed(key)
        await self._wait_for_room()

    async def _close_dated(
        self, device: Device, step: int, at: float, samples: Sequence[Sample], read: UndatedRead
    ) -> None:
        key, slot, made = (device.name, step), running_slot(step, at, self.zone), self.clock.now()
        closed = self._closed[key]
        if closed is not None and slot <= closed:
            if slot > self._blank.get(key, slot):
                self._blank[key] = slot  # one value per slot: the first
                await self._late(key, slot, [s for s in samples if s.point.every == step])
            return
        mine = self._of_the_step(device, step, slot, samples)
        self._closed[key] = slot
        self._note(slot, mine, read.serial)
        await self._close_in_all(key, slot, mine, read.serial, read.skipped, int(made))

    def _watch_for_steps(self) -> None:
        """A step of the wall clock is the reason for the slots that it skips."""
        if len(self.clock.steps) != self._steps:
            self._steps = len(self.clock.steps)
            self._stepped.update(self._closed)

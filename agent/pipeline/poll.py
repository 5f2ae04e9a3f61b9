"""One link's readings: the device that is due, its rest when it is silent, and its slots closed."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from agent.errors import LinkLost
from agent.lifetime import together
from agent.model import MarkKey, Sample, Why
from agent.pipeline.device import Device
from agent.pipeline.interval import Intervals
from agent.pipeline.judge import Judge
from agent.pipeline.ledger import multiplier
from agent.pipeline.timetable import choose, running_slot
from agent.pipeline.undated import Read, Undated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from zoneinfo import ZoneInfo

    from agent.clock import Clock
    from agent.link import Link
    from agent.model import Point
    from agent.pipeline.intake import Intake
    from agent.pipeline.ledger import Ledger

    Identified = Callable[[str, str], None]

log = logging.getLogger(__name__)

REST = 60.0
"""seconds that a silent device is left alone: it costs the others one timeout a minute at most"""
LOOK = 1.0
"""seconds between two looks at the clock while nothing is due"""
__all__ = ["Account", "Device", "Poller"]


class Account(NamedTuple):
    """One recipient: its slots and the room in front of its spool."""

    ledger: Ledger
    intake: Intake


class Poller:
    """Reads the devices of one link by the timetable and closes their slots in every account.

    While the clock is not to be believed it reads by monotonic time, and dates what it has read
    once the clock is proved right.
    """

    def __init__(  # noqa: PLR0913, PLR0917 -- what it works with
        self,
        link: Link,
        devices: Sequence[Device],
        accounts: Sequence[Account],
        clock: Clock,
        identified: Identified,
        zone: ZoneInfo | None = None,
    ) -> None:
        self.link, self.accounts, self.clock, self.zone = link, accounts, clock, zone
        self.devices = {device.name: device for device in devices}
        self._identified = identified
        self._judge, self._intervals = Judge(), Intervals(zone)
        self._closed: dict[MarkKey, int | None] = {
            key: self._last_closed(key) for device in devices for key in sorted(device.keys)
        }
        self.undated = Undated()
        self._aside: dict[MarkKey, int | None] = dict.fromkeys(self._closed)
        self._began = clock.steady()
        self._resumed = clock.dates
        """the slots that went by before our start are accounted for"""
        self.turned = self.clock.steady()
        """when it last came round: it does so at every look, and with each device"""
        self._finished = False
        self._steps = len(clock.steps)
        self._stepped: set[MarkKey] = set()
        self._owed: dict[MarkKey, tuple[int, float]] = {}
        """slots closed for want of an answer, and when to ask for them again (monotonic)"""
        self._busy: set[str] = set()
        """devices that are being read"""
        self._dating = asyncio.Lock()

    def _last_closed(self, key: MarkKey) -> int | None:
        marks = (account.ledger.marks.get(key) for account in self.accounts)
        return max((mark.slot for mark in marks if mark is not None), default=None)

    async def run(self) -> None:
        """Read and close, for ever, once the line has been tried; as many devices at once as the
        line allows.
        """
        await self.link.tried.wait()
        hands = min(self.link.at_once, len({name for name, _ in self._closed}))
        if hands <= 1:
            await self._work()
            return
        await together(*(self._work() for _ in range(hands)))

    async def _work(self) -> None:
        while self._closed and not self._finished:
            self.turned = self.clock.steady()
            dated = self.clock.dates
            if dated:
                async with self._dating:
                    await self._date_all()
            now = self.clock.now() if dated else self.clock.steady()
            chosen = self._choose(now, dated=dated)
            if isinstance(chosen, float):
                if not (dated and await self._ask_again(now)):
                    await asyncio.sleep(min(max(0.0, chosen - now), LOOK))
                continue
            name, slots = chosen
            with self._hold(name):
                await self._read(self.devices[name], slots, dated=dated)
        while not self._finished:
            self.turned = self.clock.steady()
            await asyncio.sleep(LOOK)

    async def _read(self, device: Device, slots: Mapping[int, int], *, dated: bool) -> None:
        samples = await self.ask(device, device.due(slots))
        if dated and self.clock.dates:
            await self._close(device, slots, samples)
        else:
            self._set_aside(device, tuple(slots), samples)

    @contextmanager
    def _hold(self, name: str) -> Iterator[None]:
        """Keep a device to ourselves: its slots close in order."""
        self._busy.add(name)
        try:
            yield
        finally:
            self._busy.discard(name)

    def finish(self) -> None:
        """Let `run` return after the read under way."""
        self._finished = True

    def go_on_from(self, before: Poller) -> None:
        """Take over what an earlier poller of this line had not finished, of devices that stay."""
        self._judge, self._intervals = before._judge, before._intervals
        self._began, self._resumed = before._began, before._resumed
        for read in before.undated.take():
            if read.device in self.devices:
                self.undated.add(read)
        stays = self._closed.keys()
        self._owed.update({k: v for k, v in before._owed.items() if k in stays})
        self._aside.update({k: v for k, v in before._aside.items() if k in stays})

    def _choose(self, now: float, *, dated: bool) -> tuple[str, dict[int, int]] | float:
        closed = self._closed if dated else self._aside
        free = {key: slot for key, slot in closed.items() if key[0] not in self._busy}
        return choose(free, now, self.zone if dated else None)

    async def ask(self, device: Device, points: Sequence[Point]) -> list[Sample]:
        """Read points of a device, or say without asking why there is nothing to be had."""
        if self.clock.steady() < device.rests_until:
            return self._nothing(points, Why.SILENT, "rests after silence")
        identify = device.serial_point is not None and device.asked_at_opening != self.link.opened
        asked = [device.serial_point, *points] if identify and device.serial_point else [*points]
        opening, began = self.link.opened, self.clock.steady()
        try:
            samples = self._timed(await self.link.read(asked), began)
        except LinkLost as error:
            device.said = str(error)
            return self._nothing(points, Why.LINK, str(error))
        self._note_health(device, samples)
        if identify:
            self._identify(device, samples.pop(0), opening)
        device.latest.update((sample.point.name, sample) for sample in samples)
        return samples

    def _nothing(self, points: Sequence[Point], why: Why, detail: str) -> list[Sample]:
        now = self.clock.now()
        return [Sample(point, now, why=why, detail=detail) for point in points]

    def _timed(self, samples: Sequence[Sample], began: float) -> list[Sample]:
        """The samples at the times of their answers, though the wall clock stepped meanwhile."""
        now, longest = self.clock.now(), self.clock.steady() - began + LOOK
        ages = (now - sample.at for sample in samples)
        sane = [age if 0 <= age <= longest else 0.0 for age in ages]
        return [replace(sample, at=now - age) for sample, age in zip(samples, sane, strict=True)]

    def _weighed(self, sample: Sample) -> Sample:
        """Judged when its slot is known: what is never recorded must not be compared with."""
        if sample.why is not None or not isinstance(sample.value, Decimal):
            return sample
        if sample.point.channel is None:
            return sample
        at = self.clock.steady() - (self.clock.now() - sample.at)
        value = sample.value * multiplier(sample.point)
        verdict = self._judge.weigh(sample.point, value, at)
        return replace(sample, quality=verdict.quality, flags=verdict.flags, delta=verdict.delta)

    def _note_health(self, device: Device, samples: Sequence[Sample]) -> None:
        """Note what the read says of the device's health; a silent one rests."""
        if any(sample.why is Why.SILENT for sample in samples):
            device.failures += 1
            device.said = next(s.detail for s in samples if s.why is Why.SILENT) or "no answer"
            device.rests_until = self.clock.steady() + REST
            device.asked_at_opening = 0  # who answers next may be another meter
            if device.failures == 1:
                log.warning("%s on %s is silent: %s", device.name, self.link.name, device.said)
            return
        if device.failures:
            log.warning("%s on %s answers again", device.name, self.link.name)
        device.failures = 0
        device.answered = max(sample.at for sample in samples)
        device.said = next((f"{s.point.name}: {s.detail}" for s in samples if s.why), "")

    def _identify(self, device: Device, sample: Sample, opening: int) -> None:
        if sample.why is Why.SILENT:
            return
        device.asked_at_opening = opening
        if sample.value is None:
            # it has no such register: then only what people recorded says which meter it is
            device.serial = None
            return
        serial = str(sample.value)
        if device.serial not in (None, serial):
            log.error("%s was %s and now says it is %s", device.name, device.serial, serial)
            self._judge.forget(device.name)
        device.serial = serial
        self._identified(device.name, serial)

    async def _close(
        self, device: Device, slots: Mapping[int, int], samples: Sequence[Sample]
    ) -> None:
        self._watch_for_steps()
        for step, slot in slots.items():
            key = (device.name, step)
            mine = self._of_the_step(device, step, slot, samples)
            self._closed[key] = slot
            self._owe(key, slot, mine)
            skipped = Why.CLOCK if key in self._stepped else Why.BUSY
            self._stepped.discard(key)
            for ledger, intake in self.accounts:
                rows = ledger.close(key, slot, mine, device.serial, skipped)
                await intake.put(rows, {key: ledger.marks[key]})

    def _of_the_step(
        self, device: Device, step: int, slot: int, samples: Sequence[Sample]
    ) -> list[Sample]:
        mine = [self._weighed(sample) for sample in samples if sample.point.every == step]
        return mine + self._intervals.derive(device.derived(step), slot, mine)

    def _owe(self, key: MarkKey, slot: int, samples: Sequence[Sample]) -> None:
        """A slot without an answer is asked for again while it runs, where there is time for it."""
        self._owed.pop(key, None)
        if key[1] > 2 * REST and any(s.why in (Why.SILENT, Why.LINK) for s in samples):
            self._owed[key] = slot, self.clock.steady() + REST

    async def _ask_again(self, now: float) -> bool:
        """Ask one device for what it owes; its values come late, as new versions (rule 3)."""
        steady = self.clock.steady()
        for key, (slot, when) in list(self._owed.items()):
            device, step = self.devices[key[0]], key[1]
            if running_slot(step, now, self.zone) != slot:
                del self._owed[key]
            elif device.name in self._busy:
                continue
            elif steady >= max(when, device.rests_until) and not self.link.error:
                with self._hold(device.name):
                    samples = await self.ask(device, device.due((step,)))
                    if self.clock.dates and any(sample.why is None for sample in samples):
                        self._owed.pop(key, None)
                        await self._late(key, slot, samples)
                    else:
                        self._owed[key] = slot, self.clock.steady() + REST
                return True
        return False

    async def _late(self, key: MarkKey, slot: int, samples: Sequence[Sample]) -> None:
        serial, made = self.devices[key[0]].serial, int(self.clock.now())
        samples = [self._weighed(sample) for sample in samples]
        for ledger, intake in self.accounts:
            rows = ledger.late(key, slot, samples, serial, made)
            await intake.put(rows, {key: ledger.marks[key]})

    def _set_aside(self, device: Device, steps: tuple[int, ...], samples: Sequence[Sample]) -> None:
        """Keep what cannot be dated now."""
        steady = self.clock.steady()
        for step in steps:
            self._aside[device.name, step] = running_slot(step, steady)
        ages = [self.clock.now() - sample.at for sample in samples]
        at = steady - max(0.0, min(ages, default=0.0))
        self.undated.add(Read(device.name, steps, at, samples, device.serial))
        self._stepped.update((device.name, step) for step in steps)

    async def _date_all(self) -> None:
        """Close the slots of what was read undated, now that the clock is proved right."""
        if not self._resumed:
            self._resumed = True
            began = self.clock.now() - (self.clock.steady() - self._began)
            for key in self._closed:
                await self._catch_up(key, began)
        for read in self.undated.take():
            at = self.clock.now() - (self.clock.steady() - read.steady)
            samples = [replace(sample, at=at) for sample in read.samples]
            for step in read.steps:
                await self._close_dated(self.devices[read.device], step, at, samples, read.serial)

    async def _catch_up(self, key: MarkKey, began: float) -> None:
        for ledger, intake in self.accounts:
            if key in ledger.marks:
                rows = ledger.catch_up(key, began, Why.AGENT)
                await intake.put(rows, {key: ledger.marks[key]})
        self._closed[key] = self._last_closed(key)

    async def _close_dated(
        self, device: Device, step: int, at: float, samples: Sequence[Sample], serial: str | None
    ) -> None:
        key, slot, made = (device.name, step), running_slot(step, at, self.zone), self.clock.now()
        closed = self._closed[key]
        if closed is not None and slot <= closed:
            return
        mine = self._of_the_step(device, step, slot, samples)
        self._closed[key] = slot
        for ledger, intake in self.accounts:
            rows = ledger.close(key, slot, mine, serial, Why.CLOCK, int(made))
            await intake.put(rows, {key: ledger.marks[key]})

    def _watch_for_steps(self) -> None:
        """A step of the wall clock explains the slots that it skips."""
        if len(self.clock.steps) != self._steps:
            self._steps = len(self.clock.steps)
            self._stepped.update(self._closed)

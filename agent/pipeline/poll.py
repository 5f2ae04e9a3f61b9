"""One link's readings: the device that is due, its rest when it is silent, and its slots closed."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from agent.clock import Trust, monotonic
from agent.errors import LinkLost
from agent.model import MarkKey, Sample, Why
from agent.pipeline.timetable import choose

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent.clock import Clock
    from agent.link import Link
    from agent.model import Point
    from agent.pipeline.intake import Intake
    from agent.pipeline.ledger import Ledger

    Identified = Callable[[str, str], None]

log = logging.getLogger(__name__)

REST = 60.0
"""seconds that a silent device is left alone: it costs the others one timeout a minute at most"""
STEP = 1.0
"""seconds by which wall and monotonic time may part between two looks before it is a clock step"""


class Account(NamedTuple):
    """One recipient: its slots and the room in front of its spool."""

    ledger: Ledger
    intake: Intake


@dataclass(slots=True)
class Device:
    """A device on a link, and what is known of its health."""

    name: str
    points: Sequence[Point]
    serial_point: Point | None = None
    serial: str | None = None
    """the serial number it last said"""
    asked_at_opening: int = 0
    """the opening of the link at which it last said its serial number; 0: to be asked"""
    rests_until: float = 0.0
    """monotonic"""
    answered: float | None = None
    """wall time of its last answer"""
    failures: int = 0
    """reads without an answer since the last one"""
    said: str = ""
    """what was wrong at the last read, for people"""
    latest: dict[str, Sample] = field(default_factory=dict)

    @property
    def keys(self) -> set[MarkKey]:
        """Its steps, each an account of its own."""
        return {(self.name, point.every) for point in self.points}

    def due(self, slots: Mapping[int, int]) -> list[Point]:
        """The points whose step has a slot due."""
        return [point for point in self.points if point.every in slots]


class Poller:
    """Reads the devices of one link by the timetable and closes their slots in every account."""

    def __init__(
        self,
        link: Link,
        devices: Sequence[Device],
        accounts: Sequence[Account],
        clock: Clock,
        identified: Identified,
    ) -> None:
        self.link, self.accounts, self.clock = link, accounts, clock
        self.devices = {device.name: device for device in devices}
        self._identified = identified
        self._closed: dict[MarkKey, int | None] = {
            key: self._last_closed(key) for device in devices for key in sorted(device.keys)
        }
        self.turned = monotonic()
        """when it last came round: it does so at every look, and with each device"""
        self._apart: float | None = None
        self._stepped: set[MarkKey] = set()

    def _last_closed(self, key: MarkKey) -> int | None:
        marks = (account.ledger.marks.get(key) for account in self.accounts)
        return max((mark.slot for mark in marks if mark is not None), default=None)

    async def run(self) -> None:
        """Read and close, for ever, once the line has been tried."""
        await self.link.tried.wait()
        while self._closed:
            self.turned = monotonic()
            now = self.clock.now()
            self._watch_for_steps(now)
            chosen = choose(self._closed, now)
            if isinstance(chosen, float):
                await self.clock.until(min(chosen, now + REST))
                continue
            name, slots = chosen
            device = self.devices[name]
            samples = await self.ask(device, device.due(slots))
            await self._close(device, slots, samples)
        await asyncio.Event().wait()

    async def ask(self, device: Device, points: Sequence[Point]) -> list[Sample]:
        """Read points of a device, or say without asking why there is nothing to be had."""
        if monotonic() < device.rests_until:
            return self._nothing(points, Why.SILENT, "rests after silence")
        identify = device.serial_point is not None and device.asked_at_opening != self.link.opened
        asked = [device.serial_point, *points] if identify and device.serial_point else [*points]
        opening = self.link.opened
        try:
            samples = await self.link.read(asked)
        except LinkLost as error:
            device.said = str(error)
            return self._nothing(points, Why.LINK, str(error))
        self._judge(device, samples)
        if identify:
            self._identify(device, samples.pop(0), opening)
        device.latest.update((sample.point.name, sample) for sample in samples)
        return samples

    def _nothing(self, points: Sequence[Point], why: Why, detail: str) -> list[Sample]:
        now = self.clock.now()
        return [Sample(point, now, why=why, detail=detail) for point in points]

    def _judge(self, device: Device, samples: Sequence[Sample]) -> None:
        """Note what the read says of the device's health; a silent one rests."""
        if any(sample.why is Why.SILENT for sample in samples):
            device.failures += 1
            device.said = next(s.detail for s in samples if s.why is Why.SILENT) or "no answer"
            device.rests_until = monotonic() + REST
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
        device.serial = serial
        self._identified(device.name, serial)

    async def _close(
        self, device: Device, slots: Mapping[int, int], samples: Sequence[Sample]
    ) -> None:
        for step, slot in slots.items():
            key = (device.name, step)
            mine = [sample for sample in samples if sample.point.every == step]
            self._closed[key] = slot
            if self.clock.trust is not Trust.TRUSTED:
                self._stepped.add(key)
                continue
            skipped = Why.CLOCK if key in self._stepped else Why.BUSY
            self._stepped.discard(key)
            for ledger, intake in self.accounts:
                rows = ledger.close(key, slot, mine, device.serial, skipped)
                await intake.put(rows, {key: ledger.marks[key]})

    def _watch_for_steps(self, now: float) -> None:
        """A wall clock that parts from the monotonic one explains the slots that it skips."""
        apart = now - monotonic()
        if self._apart is not None and abs(apart - self._apart) > STEP:
            log.error("the clock stepped by %+.0f s", apart - self._apart)
            self._stepped.update(self._closed)
        self._apart = apart

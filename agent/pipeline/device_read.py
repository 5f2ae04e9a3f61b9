"""One device asked: what it says, whether it answers at all, and who it says it is."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.errors import LinkLost
from agent.log_fields import LogEvent, fields
from agent.model import Sample, Why
from agent.pipeline.meterclock import drift, wrong
from agent.tasks import error_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from zoneinfo import ZoneInfo

    from agent.clock import Clock
    from agent.link import Link
    from agent.model import Point
    from agent.pipeline.device import Device
    from agent.tasks import Faults

    Identified = Callable[[str, str], None]

log = logging.getLogger(__name__)

REST = 60.0
"""seconds that a silent device is left alone: it costs the others one timeout a minute at most"""
LEFT_ALONE = "left alone for a while: it disturbs the line"
SLACK = 1.0
"""seconds by which an answer may seem older than its question"""


class DeviceReader:
    """The devices of one link, as their answers show them."""

    def __init__(  # noqa: PLR0913, PLR0917 -- what it works with
        self,
        link: Link,
        clock: Clock,
        identified: Identified,
        another: Callable[[str], None],
        zone: ZoneInfo | None,
        faults: Faults,
    ) -> None:
        self.link, self.clock, self.zone, self._faults = link, clock, zone, faults
        self._identified, self._another = identified, another
        """`another`: told of a device that says it is another meter than before"""

    async def ask(self, device: Device, points: Sequence[Point]) -> list[Sample]:
        """Read points of a device, or say without asking why there is nothing to be had.

        An unexpected error costs this device its values (BAD) and is noted; the others are read.
        """
        waits = bool(device.points) and self.link.waits(device.points[0].address)
        if waits or self.clock.steady() < device.rests_until:
            words = LEFT_ALONE if waits or self._rest(device) else "rests after silence"
            return self._nothing(points, Why.SILENT, words)
        identify = device.serial_point is not None and device.asked_at_opening != self.link.opened
        asked = [device.serial_point, *points] if identify and device.serial_point else [*points]
        opening, began = self.link.opened, self.clock.steady()
        try:
            samples = self._timed(await self.link.read(asked), began)
        except LinkLost as error:
            device.said, device.lost_at_opening = str(error), opening
            self._leave_alone(device)
            return self._nothing(points, Why.LINK, str(error))
        except Exception as error:  # noqa: BLE001 -- noted; it is this device's alone
            self._faults.note(f"poll {self.link.name}", error, device.name)
            device.failed, device.said = True, f"an error in gardien: {error_text(error)}"
            return self._nothing(points, Why.BAD, device.said)
        device.failed = False
        self._note_health(device, samples)
        self._leave_alone(device)
        device.clock_wrong = self._clock_wrong(device)
        if identify:
            serial = samples.pop(0)
            # where nothing is believed (another unit answered), nobody has said who is there
            if serial.value is not None or any(one.value is not None for one in samples):
                self._identify(device, serial, opening)
        device.latest.update((sample.point.name, sample) for sample in samples)
        return samples

    def _rest(self, device: Device) -> float:
        """Seconds for which it is left alone because it disturbs the line; 0: it does not."""
        return self.link.rest(device.points[0].address) if device.points else 0.0

    def _leave_alone(self, device: Device) -> None:
        """One that disturbs the line is left alone, longer each time, until it answers well."""
        if rest := self._rest(device):
            device.rests_until = self.clock.steady() + rest

    def _nothing(self, points: Sequence[Point], why: Why, detail: str) -> list[Sample]:
        now = self.clock.now()
        return [Sample(point, now, why=why, detail=detail) for point in points]

    def _timed(self, samples: Sequence[Sample], began: float) -> list[Sample]:
        """The samples at the times of their answers, though the wall clock stepped meanwhile."""
        now, longest = self.clock.now(), self.clock.steady() - began + SLACK
        ages = (now - sample.at for sample in samples)
        sane = [age if 0 <= age <= longest else 0.0 for age in ages]
        return [replace(sample, at=now - age) for sample, age in zip(samples, sane, strict=True)]

    def _note_health(self, device: Device, samples: Sequence[Sample]) -> None:
        """Note what the read says of the device's health; a silent one rests."""
        device.lost_at_opening = 0
        if any(sample.why is Why.SILENT for sample in samples):
            device.failures += 1
            device.said = next(s.detail for s in samples if s.why is Why.SILENT) or "no answer"
            if not self.link.spares(samples[0].point.address):
                device.rests_until = self.clock.steady() + REST
            device.asked_at_opening = 0  # who answers next may be another meter
            if device.failures == 1:
                log.warning(
                    "%s on %s is silent: %s", device.name, self.link.name, device.said,
                    extra=fields(LogEvent.DEVICE_SILENT, device=device.name, line=self.link.name),
                )  # fmt: skip
            return
        if device.failures:
            log.warning(
                "%s on %s answers again", device.name, self.link.name,
                extra=fields(LogEvent.DEVICE_ANSWERS, device=device.name, line=self.link.name),
            )  # fmt: skip
        device.failures = 0
        device.answered = max(sample.at for sample in samples)
        device.said = next((f"{s.point.name}: {s.detail}" for s in samples if s.why), "")

    def _clock_wrong(self, device: Device) -> bool:
        known = self.link.health().get("clocks", {}) if device.points else {}
        found: tuple[str, float] | None = known.get(device.points[0].address) if known else None
        if found is None or self.zone is None or not self.clock.dates:
            return False
        said, at = found
        return wrong(drift(said, at, self.zone))

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
            log.error(
                "%s was %s and now says it is %s", device.name, device.serial, serial,
                extra=fields(LogEvent.METER_MISMATCH, device=device.name, line=self.link.name),
            )  # fmt: skip
            self._another(device.name)
        device.serial = serial
        self._identified(device.name, serial)

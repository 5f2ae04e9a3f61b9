"""Reads one device: its values, its health and its serial number."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.acquisition.meterclock import drift, wrong
from agent.core.errors import LinkLost
from agent.core.log_fields import LogEvent, fields
from agent.core.model import Sample, Why
from agent.core.tasks import error_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from zoneinfo import ZoneInfo

    from agent.acquisition.device import Device
    from agent.core.clock import Clock
    from agent.core.model import Point
    from agent.core.tasks import Faults
    from agent.drivers.link import Link

    Identified = Callable[[str, str], None]

log = logging.getLogger(__name__)

REST = 60.0
"""seconds for which a silent device is not read: it costs the others one timeout a minute at most
"""
LEFT_ALONE = "not read for a while: it disturbs the line"
SLACK = 1.0
"""seconds by which an answer may appear older than its request"""


class DeviceReader:
    """Reads the devices of one link and notes their health."""

    def __init__(  # noqa: PLR0913, PLR0917 -- what it works with
        self,
        link: Link,
        clock: Clock,
        identified: Identified,
        meter_changed: Callable[[str], None],
        zone: ZoneInfo | None,
        faults: Faults,
    ) -> None:
        self.link, self.clock, self.zone, self._faults = link, clock, zone, faults
        self._identified, self._meter_changed = identified, meter_changed
        """`_meter_changed`: called with the name of a device that reports another serial number
        than before
        """

    async def read(self, device: Device, points: Sequence[Point]) -> list[Sample]:
        """Read points of a device. A point without a value gets a reason.

        A resting device is not asked. An unexpected error marks the values of this device BAD and
        is noted; other devices are not affected.
        """
        waits = bool(device.points) and self.link.waits(device.points[0].address)
        if waits or self.clock.steady() < device.rests_until:
            detail = (
                LEFT_ALONE
                if waits or self._rest(device)
                else "not read for a minute: it did not answer"
            )
            return self._no_values(points, Why.SILENT, detail)
        identify = device.serial_point is not None and device.asked_at_opening != self.link.opened
        requested = (
            [device.serial_point, *points] if identify and device.serial_point else [*points]
        )
        opening, began = self.link.opened, self.clock.steady()
        try:
            samples = self._timed(await self.link.read(requested), began)
        except LinkLost as error:
            device.problem, device.lost_at_opening = str(error), opening
            self._leave_alone(device)
            return self._no_values(points, Why.LINK, str(error))
        except Exception as error:  # noqa: BLE001 -- noted; it is this device's alone
            self._faults.note(f"poll {self.link.name}", error, device.name)
            device.failed, device.problem = True, f"an error in gardien: {error_text(error)}"
            return self._no_values(points, Why.BAD, device.problem)
        device.failed = False
        self._note_health(device, samples)
        self._leave_alone(device)
        device.clock_wrong = self._is_clock_wrong(device)
        if identify:
            serial = samples.pop(0)
            # without a valid value another unit may have answered: the number proves nothing
            if serial.value is not None or any(sample.value is not None for sample in samples):
                self._identify(device, serial, opening)
        device.latest.update((sample.point.name, sample) for sample in samples)
        return samples

    def _rest(self, device: Device) -> float:
        """Seconds for which the device rests because it disturbs the line; 0: it does not disturb
        it.
        """
        return self.link.rest(device.points[0].address) if device.points else 0.0

    def _leave_alone(self, device: Device) -> None:
        """Let a device that disturbs the line rest, longer each time, until it answers well."""
        if rest := self._rest(device):
            device.rests_until = self.clock.steady() + rest

    def _no_values(self, points: Sequence[Point], why: Why, detail: str) -> list[Sample]:
        now = self.clock.now()
        return [Sample(point, now, why=why, detail=detail) for point in points]

    def _timed(self, samples: Sequence[Sample], began: float) -> list[Sample]:
        """The samples at the times of their answers, even if the wall clock was stepped during the
        read.
        """
        now, longest = self.clock.now(), self.clock.steady() - began + SLACK
        # An age outside the duration of the read means that the wall clock was stepped.
        ages = (now - sample.at for sample in samples)
        sane = [age if 0 <= age <= longest else 0.0 for age in ages]
        return [replace(sample, at=now - age) for sample, age in zip(samples, sane, strict=True)]

    def _note_health(self, device: Device, samples: Sequence[Sample]) -> None:
        """Note the device's health after a read; a silent device rests."""
        device.lost_at_opening = 0
        if any(sample.why is Why.SILENT for sample in samples):
            device.failures += 1
            device.problem = next(s.detail for s in samples if s.why is Why.SILENT) or "no answer"
            if not self.link.spares(samples[0].point.address):
                device.rests_until = self.clock.steady() + REST
            device.asked_at_opening = 0  # the next answer may come from another meter
            if device.failures == 1:
                log.warning(
                    "%s on %s is silent: %s", device.name, self.link.name, device.problem,
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
        device.problem = next((f"{s.point.name}: {s.detail}" for s in samples if s.why), "")

    def _is_clock_wrong(self, device: Device) -> bool:
        known = self.link.health().get("clocks", {}) if device.points else {}
        reading: tuple[str, float] | None = known.get(device.points[0].address) if known else None
        if reading is None or self.zone is None or not self.clock.dates:
            return False
        clock_text, at = reading
        return wrong(drift(clock_text, at, self.zone))

    def _identify(self, device: Device, sample: Sample, opening: int) -> None:
        if sample.why is Why.SILENT:
            return
        device.asked_at_opening = opening
        if sample.value is None:
            # the device has no such register: only the registry knows which meter it is
            device.serial = None
            return
        serial = str(sample.value)
        if device.serial not in (None, serial):
            log.error(
                "%s reported serial number %s before and reports %s now: nothing is sent for its"
                " dwelling until the registry names that meter. If it was exchanged:"
                " gardien meter exchange",
                device.name, device.serial, serial,
                extra=fields(LogEvent.METER_MISMATCH, device=device.name, line=self.link.name),
            )  # fmt: skip
            self._meter_changed(device.name)
        device.serial = serial
        self._identified(device.name, serial)

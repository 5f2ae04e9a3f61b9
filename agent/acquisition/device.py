"""A device on a line: its health, and one reading of its values, clock and serial number."""

from __future__ import annotations

import datetime as dt
import logging
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from agent.core.errors import LinkLost
from agent.core.i18n import Text, text_of
from agent.core.log_fields import LogEvent, fields
from agent.core.model import Sample, ValueKind, Why
from agent.core.quantities import channels
from agent.core.tasks import error_text

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence
    from zoneinfo import ZoneInfo

    from agent.core.clock import Clock
    from agent.core.model import MarkKey, Point
    from agent.core.tasks import Faults
    from agent.drivers.link import Link

log = logging.getLogger(__name__)

NOTABLE = 300
"""seconds: meters report whole minutes, and an answer takes time"""
REST = 60.0
"""seconds for which a silent device is not read: it costs the others one timeout a minute at most
"""
LEFT_ALONE = Text("not read for a while: it disturbs the line")
ASKED_AGAIN = 82_800.0
"""seconds after which a device is asked its serial number again: it may have been exchanged while
the line stayed open. Less than a day, so that a daily reading always asks
"""
ASKED_SOON = 300.0
"""the same after an answer that gave no number: unless the device has no such register, the answer
was garbled, and until the number is known its values may be nobody's
"""
SLACK = 1.0
"""seconds by which an answer may appear older than its request"""


@dataclass(slots=True)
class Device:
    """A device on a link, and its health."""

    name: str
    points: Sequence[Point]
    serial_point: Point | None = None
    serial: str | None = None
    """the serial number that it reported when it was last asked; None: it reported none"""
    before: str | None = None
    """the one that it reported before that, since the agent was started"""
    asked_at_opening: int = 0
    """the opening of the link at which it last reported its serial number; 0: it must be asked"""
    asked: float = 0.0
    """monotonic time at which it last answered the request for its serial number"""
    good_for: float = ASKED_AGAIN
    """seconds after which it is asked again"""
    installed: object = None
    """what the registry stated of its meters at that time"""
    rests_until: float = 0.0
    """monotonic time before which it is not read"""
    spacing: float = 0.0
    """seconds between two readings that its battery can bear; 0: no limit"""
    answered: float | None = None
    """wall time of its last answer"""
    failures: int = 0
    """consecutive reads without an answer"""
    failed: bool = False
    """whether its last read ended in an error in gardien"""
    clock_wrong: bool = False
    """whether its own clock was wrong at its last answer, as far as the bus knows"""
    problem: str = ""
    """the problem of the last read, for people; empty: none"""
    lost_at_opening: int = 0
    """the opening of the line at which the line was lost during the last read; 0: it was not lost
    """
    latest: dict[str, Sample] = field(default_factory=dict)
    good: dict[tuple[str | None, str], Sample] = field(default_factory=dict)
    """the last value of each point, by the serial number that was reported with it: of this meter,
    and of the one before it
    """

    @property
    def keys(self) -> set[MarkKey]:
        """Device name and step, in seconds, of each account of slots."""
        return {(self.name, point.every) for point in self.points}

    def due(self, steps: Container[int]) -> list[Point]:
        """The points to read for these steps. Derived points are calculated, not read."""
        return [point for point in self.points if point.every in steps and not point.derived]

    def flows(self, step: int) -> list[Point]:
        """The points of a step that are differences between indexes."""
        return [point for point in self._derived(ValueKind.INT) if point.every == step]

    def means(self, step: int | None = None) -> list[Point]:
        """The points of a step, or of all steps, that are means of more frequent readings."""
        return [point for point in self._derived(ValueKind.AVG) if step in (None, point.every)]

    def _derived(self, kind: ValueKind) -> list[Point]:
        known = channels()
        return [
            point
            for point in self.points
            if point.derived and known[str(point.channel)].derived is kind
        ]


def drift(clock_text: str, at: float, zone: ZoneInfo) -> int:
    """Seconds by which a meter's clock is ahead of the building's time; negative: behind.

    `clock_text`: the meter's time in ISO 8601, without zone. `at`: when it was read, seconds since
    1970. Many meters have no summer time, so the nearer of the two times counts.
    """
    shown = dt.datetime.fromisoformat(clock_text)
    here = dt.datetime.fromtimestamp(at, zone)
    summer = here.dst() or dt.timedelta()
    civil = here.replace(tzinfo=None)
    offs = (shown - civil, shown - (civil - summer))
    return round(min(offs, key=abs).total_seconds())


def wrong(seconds: int) -> bool:
    """Whether the times that the meter itself records are unreliable."""
    return abs(seconds) >= NOTABLE


def describe(seconds: int) -> str:
    """The error in words for people; empty if it is too small to mention."""
    if not wrong(seconds):
        return ""
    minutes = abs(seconds) // 60
    days, hours = minutes // 1440, minutes // 60 % 24
    long = (
        Text("{days} d {hours} h", days=days, hours=hours)
        if days
        else Text("{hours} h {minutes} min", hours=hours, minutes=minutes % 60)
    )
    short = Text("{minutes} min", minutes=minutes) if minutes < 60 else long  # noqa: PLR2004
    return Text(
        "its clock is {short} {value}",
        short=short,
        value=Text("ahead") if seconds > 0 else Text("behind"),
    )


def _fallen(device: Device, samples: Sequence[Sample]) -> bool:
    """Whether an index is lower than at the last read, as that of another meter may be."""
    for sample in samples:
        before, channel = device.good.get((device.serial, sample.point.name)), sample.point.channel
        value = sample.value
        if (
            channel and channels()[channel].kind is ValueKind.REG
            and before and isinstance(before.value, Decimal)
            and isinstance(value, Decimal) and value < before.value
        ):  # fmt: skip
            return True
    return False


def _after_fall(serial: Sample, samples: Sequence[Sample]) -> list[Sample]:
    """The serial number and the values of a read in which an index fell. If the device does not
    answer which meter it is, the values are not used: they may be another meter's.
    """
    every = [serial, *samples]
    if serial.value is not None or serial.why is Why.BAD:
        return every
    detail = Text("an index has fallen, and the device did not answer which meter it is")
    return [Sample(one.point, one.at, why=Why.SILENT, detail=detail) for one in every]


if TYPE_CHECKING:
    Identified = Callable[[str, str], None]


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
        installed: Callable[[str, str | None], object],
    ) -> None:
        self.link, self.clock, self.zone, self._faults = link, clock, zone, faults
        self._installed = installed
        """what the registry states of the meters of a device, by its name and the number that it
        reports: it changes with each of them
        """
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
                else Text("not read for a minute: it did not answer")
            )
            return self._no_values(points, Why.SILENT, detail)
        identify = device.serial_point is not None and self._must_be_asked(device)
        requested = (
            [device.serial_point, *points] if identify and device.serial_point else [*points]
        )
        opening, began = self.link.opened, self.clock.steady()
        try:
            samples = self._timed(await self.link.read(requested), began)
            if not identify and device.serial_point and _fallen(device, samples):
                # Another meter may hang there: who it is must be known before a value is used.
                (serial,) = self._timed(await self.link.read([device.serial_point]), began)
                samples, identify = _after_fall(serial, samples), True
        except LinkLost as error:
            device.problem, device.lost_at_opening = text_of(error), opening
            self._leave_alone(device)
            return self._no_values(points, Why.LINK, text_of(error))
        except Exception as error:  # noqa: BLE001 -- noted; it is this device's alone
            self._faults.note(f"poll {self.link.name}", error, device.name)
            device.failed, device.problem = (
                True,
                Text("an error in gardien: {error}", error=error_text(error)),
            )
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
        device.good.update(
            ((device.serial, sample.point.name), sample)
            for sample in samples
            if sample.value is not None
        )
        return samples

    def _must_be_asked(self, device: Device) -> bool:
        """Whether another meter may hang at the device's address than the one it last reported."""
        return (
            device.asked_at_opening != self.link.opened
            or self.clock.steady() - device.asked >= device.good_for
            or self._installed(device.name, device.serial) != device.installed
        )

    def _rest(self, device: Device) -> float:
        """Seconds for which the device rests because it disturbs the line; 0: it does not disturb
        it.
        """
        return self.link.rest(device.points[0].address) if device.points else 0.0

    def _leave_alone(self, device: Device) -> None:
        """Let a device that disturbs the line rest, longer each time, until it answers well."""
        if rest := self._rest(device):
            device.rests_until = self.clock.steady() + rest

    def _no_values(self, points: Sequence[Point], why: Why, detail: Text) -> list[Sample]:
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
            device.problem = next(s.detail for s in samples if s.why is Why.SILENT) or Text(
                "no answer"
            )
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
        device.problem = next(
            (
                Text("{point}: {detail}", point=s.point.name, detail=s.detail)
                for s in samples
                if s.why
            ),
            "",
        )

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
        device.asked_at_opening, device.asked = opening, self.clock.steady()
        garbled = sample.value is None and not sample.absent
        device.good_for = ASKED_SOON if garbled else ASKED_AGAIN
        last = device.serial or device.before
        if sample.value is None:
            # as long as it reports none, only the registry knows which meter it is
            device.serial, device.before = None, last
            device.installed = self._installed(device.name, None)
            return
        serial = str(sample.value)
        if last not in {None, serial}:
            log.error(
                "%s reported serial number %s before and reports %s now: no value is sent for its"
                " dwelling until the registry names that meter. If it was exchanged:"
                " gardien meter exchange",
                device.name, last, serial,
                extra=fields(LogEvent.METER_MISMATCH, device=device.name, line=self.link.name),
            )  # fmt: skip
            device.before = last
            self._meter_changed(device.name)
            device.good = {key: old for key, old in device.good.items() if key[0] == last}
        device.serial = serial
        self._identified(device.name, serial)
        device.installed = self._installed(device.name, serial)  # it may have been recorded now

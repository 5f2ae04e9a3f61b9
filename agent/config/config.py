"""The checked configuration, from which the agent is assembled."""

from __future__ import annotations

import datetime as dt
import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from pydantic import Field

from agent.config import points
from agent.config.models import (
    Backup,
    Building,
    ClockSource,
    DeviceConfig,
    LinkConfig,
    Privacy,
    Section,
    SpoolLimits,
    Updates,
    UplinkConfig,
)
from agent.config.syndic import Syndic
from agent.control.model import split
from agent.control.settings import Control, modality
from agent.enrolment.settings import Enrolment
from agent.trust.settings import TrustSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.control.model import Modality
    from agent.core.model import Point
    from agent.drivers.watchdog import DeviceWatchdog


class Config(Section):
    """A whole configuration. Only `load` and `parse` make one, since they check it as a whole."""

    building: Building
    links: dict[str, LinkConfig]
    devices: dict[str, DeviceConfig]
    uplinks: dict[str, UplinkConfig]
    controls: dict[str, Control] = Field(default_factory=dict)
    privacy: Privacy = Field(default_factory=Privacy)
    clock: ClockSource = Field(default_factory=ClockSource)
    spool: SpoolLimits = Field(default_factory=SpoolLimits)
    enrolment: Enrolment | None = None
    updates: Updates | None = None
    """None: only people upgrade it"""
    trust: TrustSettings = Field(default_factory=TrustSettings)
    backup: Backup | None = None
    syndic: Syndic | None = None
    """None: people record leases and moves"""
    state: Path
    written: dict[str, Any] = Field({}, repr=False)
    """the plain data of the file"""

    def points(self) -> Mapping[str, tuple[Point, ...]]:
        """The points of each device, from its profile and the file, with derived points.

        Serial points are not among them.
        """
        return self._points

    @cached_property
    def fingerprint(self) -> str:
        """A SHA-256 that changes with the meaning of the configuration, in hex."""
        # `written` has repr=False: a file that only looks different keeps its fingerprint
        return hashlib.sha256(repr(self).encode()).hexdigest()

    def serial_point(self, device: str) -> Point | None:
        """The point with a device's serial number; None: its profile has none.

        It has `every` 0 and no channel: it is read when the line is opened, and is no reading.
        """
        return points.serial_point(device, self.devices[device])

    def point(self, reference: str) -> Point:
        """The point with the name DEVICE/POINT. Raises KeyError."""
        device, name = split(reference)
        return {one.name: one for one in self._points[device]}[name]

    def modality(self, control: str) -> Modality:
        """The modality of a control, with the steps and units of its guards."""
        options = self.controls[control]
        named = [one.point for one in options.guards]
        every = {one: (self.point(one).every, self.point(one).unit) for one in named}
        return modality(control, options, self.point(options.point).unit, every)

    def watchdog(self, device: str) -> DeviceWatchdog | None:
        """The watchdog of a device, refreshed during a hold; None: its profile has none."""
        return points.watchdog(device, self.devices[device])

    @property
    def zone(self) -> ZoneInfo:
        """The building's time zone; its days begin at midnight in this zone."""
        return ZoneInfo(self.building.timezone)

    def midnight(self, day: dt.date) -> int:
        """The Unix second at which a day begins at the building."""
        return int(dt.datetime.combine(day, dt.time(), self.zone).timestamp())

    @cached_property
    def _points(self) -> Mapping[str, tuple[Point, ...]]:
        return {name: self._points_of(name) for name in self.devices}

    def _points_of(self, name: str) -> tuple[Point, ...]:
        device = self.devices[name]
        made = []
        for point_name, options in points.wanted(device).items():
            made.append(points.point(name, device, point_name, options))
            if options.intervals:
                made.append(points.derived(made[-1]))
            if options.mean:
                made.append(points.mean(made[-1], options.mean))
        return tuple(made)

"""One configuration, right as a whole: what the agent is assembled from."""

from __future__ import annotations

import datetime as dt
from pathlib import Path  # noqa: TC003 -- pydantic reads it
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from pydantic import Field

from agent.config import points
from agent.config.models import (
    Building,
    ClockSource,
    Device,
    Link,
    Privacy,
    Section,
    SpoolLimits,
    Uplink,
)
from agent.config.summary import summary

if TYPE_CHECKING:
    from agent.model import Point


class Config(Section):
    """Everything the file says. Made by `load` or `parse` only, which check it as a whole."""

    building: Building
    links: dict[str, Link]
    devices: dict[str, Device]
    uplinks: dict[str, Uplink]
    privacy: Privacy = Field(default_factory=Privacy)
    clock: ClockSource = Field(default_factory=ClockSource)
    spool: SpoolLimits = Field(default_factory=SpoolLimits)
    state: Path

    def points(self) -> dict[str, tuple[Point, ...]]:
        """Give each device's points, as profile and file together say; serial points not among
        them.
        """
        return {name: self._points_of(name) for name in self.devices}

    def serial_point(self, device: str) -> Point | None:
        """Give the point at which a device says its serial number, if its profile knows one.

        It has `every` 0 and no channel: read at each opening of the line, and never a reading.
        """
        return points.serial_point(device, self.devices[device])

    @property
    def zone(self) -> ZoneInfo:
        """Give the time zone at whose midnight the building's days begin."""
        return ZoneInfo(self.building.timezone)

    def midnight(self, day: dt.date) -> int:
        """Give the Unix second at which a day begins at the building."""
        return int(dt.datetime.combine(day, dt.time(), self.zone).timestamp())

    def summary(self) -> str:
        """Say what is read, sent and kept, and what holds it up, for people."""
        return summary(self)

    def _points_of(self, name: str) -> tuple[Point, ...]:
        device = self.devices[name]
        found = []
        for one, options in points.wanted(device).items():
            found.append(points.point(name, device, one, options))
            if options.intervals:
                found.append(points.derived(found[-1]))
        return tuple(found)

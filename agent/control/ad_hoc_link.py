"""A line that is opened for each request, with the driver and settings that the journal stores.

It is used where the agent does not run, or where the line is no longer configured.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

from pydantic import ValidationError

from agent.core.errors import LinkLost
from agent.drivers import DRIVERS, driver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from agent.control.point_access import LineAccess
    from agent.core.model import Point, Sample, Value
    from agent.drivers.base import PointSlots


@asynccontextmanager
async def opened(name: str, settings: str) -> AsyncIterator[LineAccess]:
    """Open a line by its driver's name and its settings in JSON.

    Raises LinkLost if this version does not know the driver or its settings, or if the line cannot
    be opened.
    """
    if name not in DRIVERS:
        raise LinkLost(f"this version has no driver {name}")
    driver_type = driver(name)
    try:
        line_settings = driver_type.Settings.model_validate_json(settings)
    except ValidationError as error:
        raise LinkLost(f"this version cannot read the settings of {name}: {error}") from error
    async with driver_type.open(line_settings) as bus:
        # each driver has the methods of `LineAccess`
        yield cast("LineAccess", bus)


class AdHocLink:
    """A `LineAccess` that opens its line for each request."""

    def __init__(self, name: str, settings: str) -> None:
        self._name, self._settings = name, settings

    async def read(self, points: Sequence[Point]) -> list[Sample]:
        """See `Reads`."""
        async with opened(self._name, self._settings) as line:
            return await line.read(points)

    async def write(self, point: Point, value: Value | None, slot: int | None) -> None:
        """See `Writes`."""
        async with opened(self._name, self._settings) as line:
            await line.write(point, value, slot)

    async def held(self, point: Point) -> PointSlots:
        """See `Writes`."""
        async with opened(self._name, self._settings) as line:
            return await line.held(point)

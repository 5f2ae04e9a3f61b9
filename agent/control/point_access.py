"""Reading and writing one commanded point, over an open line and in the point's own unit.

The line is one of the agent's, or one that is opened for each request, where the agent does not run
or where the line is no longer configured. A device's own watchdog is read, refreshed and restored
in the same way (rule H23).
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Protocol, cast

from pydantic import ValidationError

from agent.control.model import same
from agent.core.clock import monotonic
from agent.core.errors import LinkLost, WriteRefused
from agent.core.i18n import Text
from agent.core.model import Point
from agent.core.quantities import from_raw, to_raw
from agent.drivers import DRIVERS, driver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from agent.control.model import WatchdogTarget, WriteTarget
    from agent.control.records import HoldRecord
    from agent.core.model import Sample, Value
    from agent.drivers.base import PointSlots
    from agent.drivers.link import Link

    PointAccessor = Callable[[WriteTarget, int | None], "PointAccess"]
    OpensLine = Callable[[], AbstractAsyncContextManager["LineAccess"]]
    Known = tuple[Value | None, Value | None]

TRIED_WITHIN = 10.0
"""seconds to wait for a line to be opened"""


@dataclass(frozen=True, slots=True)
class Standing:
    """The values that stand at a point."""

    ours: Value | None
    """the value in our slot (None: it is empty), or in the register if there are no slots"""
    over: str = ""
    """the stronger priority that is in force, for people; empty: there is none"""
    effective: Value | None = None
    """the value that the device follows; only if `whole` was asked for"""
    identity: str = ""
    """the serial number of the device; only if `whole` was asked for and the device has one"""
    unreadable: str = ""
    """why the value that the device follows could not be read; then nothing may begin there"""


@dataclass
class ControlProgress:
    """When one control last got on with what it asks of devices (rule G12)."""

    ended: float = 0.0
    """when a request last ended, with or without an answer (monotonic)"""
    link: Link | None = None
    """the line of the request under way; None: there is none, or its line is opened for it alone"""

    @property
    def turned(self) -> float:
        """When there was progress last (monotonic), also while the line serves others first."""
        return max(self.ended, self.link.turned) if self.link else self.ended


PROGRESS: ContextVar[ControlProgress | None] = ContextVar("PROGRESS", default=None)
"""of the control that is being worked on; it follows the calls, however deep a request is made"""


class LineAccess(Protocol):
    """The part of a line that is used."""

    async def read(self, points: Sequence[Point]) -> list[Sample]:
        """See `Reads`."""
        ...

    async def write(self, point: Point, value: Value | None, slot: int | None) -> None:
        """See `Writes`."""
        ...

    async def held(self, point: Point) -> PointSlots:
        """See `Writes`."""
        ...


class PointAccess:
    """A point as the hold needs it. `line`: opens its line, or waits for it, for one request."""

    def __init__(self, line: OpensLine, place: WriteTarget, slot: int | None) -> None:
        self._line, self._slot = line, slot
        self._point = Point(
            place.device, place.point, place.address, place.at, 0, unit=place.unit,
            scale=Decimal(place.scale), writable=True,
        )  # fmt: skip
        self._serial = replace(self._point, name="serial", at=place.serial, scale=Decimal(1))

    async def look(self, *, whole: bool = False) -> Standing:
        """Read the point. `whole`: also the value that the device follows, and its serial number.

        Raises WriteRefused if the device gives no value, LinkLost, Refused.
        """
        async with self._line() as line:
            held = await line.held(self._point)
        ours = self._scaled(held.ours.get(self._slot or 0))
        over = held.outranking(self._slot) if self._slot is not None else None
        standing = Standing(
            ours, Text("priority {slot}", slot=over) if over is not None else "", ours
        )
        if not whole:
            return standing
        if self._slot is not None:
            try:
                standing = replace(standing, effective=await self._read(self._point))
            except WriteRefused as error:  # a release needs our own slot only
                standing = replace(standing, effective=None, unreadable=str(error))
        identity = await self._read(self._serial) if self._serial.at else ""
        return replace(standing, identity=str(identity))

    async def _read(self, point: Point) -> Value:
        async with self._line() as line:
            (sample,) = await line.read([point])
        if sample.value is None:
            raise WriteRefused(
                "{device}/{name}: {value}",
                device=point.device,
                name=point.name,
                value=sample.detail or sample.why,
            )
        value = self._scaled(sample.value) if point is self._point else sample.value
        assert value is not None
        return value

    async def write(self, value: Value | None) -> None:
        """Write a value; None empties our slot.

        Raises WriteRefused (the value may stand all the same), LinkLost, Refused.
        """
        raw_value = to_raw(self._point, value) if isinstance(value, Decimal) else value
        async with self._line() as line:
            await line.write(self._point, raw_value, self._slot)

    def _scaled(self, value: Value | None) -> Value | None:
        return from_raw(self._point, value) if isinstance(value, Decimal) else value


async def look_whole(access: PointAccess) -> Standing:
    """Read a point with the value that the device follows and its serial number.

    Raises WriteRefused also if the value that the device follows cannot be read.
    """
    standing = await access.look(whole=True)
    if standing.unreadable:
        raise WriteRefused(standing.unreadable)
    return standing


def access_to(link: Link | None, place: WriteTarget, slot: int | None) -> PointAccess:
    """Access to a point over the agent's line, or over one that is opened for each request."""
    line = partial(_tried, link) if link else partial(opened, place.driver, place.settings)
    return PointAccess(partial(_reported, line, link), place, slot)


async def quiet(link: Link | None, seconds: float) -> None:
    """Wait some seconds, while this gateway sends nothing on the line."""
    await (link.quiet(seconds) if link else asyncio.sleep(seconds))


@asynccontextmanager
async def _reported(line: OpensLine, link: Link | None) -> AsyncIterator[LineAccess]:
    """A line for one request, which counts as progress of the control that makes it."""
    progress = PROGRESS.get() or ControlProgress()
    progress.link = link
    try:
        async with line() as access:
            yield access
    finally:
        progress.link, progress.ended = None, monotonic()


@asynccontextmanager
async def _tried(link: Link) -> AsyncIterator[LineAccess]:
    """A configured line, which may not be open yet. Raises LinkLost."""
    try:
        async with asyncio.timeout(TRIED_WITHIN):
            await link.tried()
    except TimeoutError:
        raise LinkLost("{name} could not be opened yet", name=link.name) from None
    yield link


@asynccontextmanager
async def opened(name: str, settings: str) -> AsyncIterator[LineAccess]:
    """Open a line by its driver's name and its settings in JSON.

    Raises LinkLost if this version does not know the driver or its settings, or if the line cannot
    be opened.
    """
    if name not in DRIVERS:
        raise LinkLost("this version has no driver {name}", name=name)
    driver_type = driver(name)
    try:
        line_settings = driver_type.Settings.model_validate_json(settings)
    except ValidationError as error:
        raise LinkLost(
            "this version cannot read the settings of {name}: {error}", name=name, error=error
        ) from error
    async with driver_type.open(line_settings) as bus:
        # each driver has the methods of `LineAccess`
        yield cast("LineAccess", bus)


NO_SLOT: None = None
"""a watchdog is a register, which has no priorities"""


async def watched(
    access: PointAccessor, watchdog: WatchdogTarget | None, fallback: Value | None
) -> Known:
    """The value in the watchdog's register before a hold, and the value of the device's fallback.

    `fallback`: as configured; if it is None, it is read from the device where that is possible.
    Raises LinkLost, WriteRefused, Refused.
    """
    if watchdog is None:
        return None, fallback
    pre = (await access(watchdog.place, NO_SLOT).look()).ours
    if fallback is not None or watchdog.fallback is None:
        return pre, fallback
    return pre, (await access(watchdog.fallback, NO_SLOT).look()).ours


async def beat(access: PointAccessor, record: HoldRecord) -> None:
    """Refresh the watchdog. Raises LinkLost, WriteRefused, Refused."""
    if record.dog is not None:
        await access(record.dog.place, NO_SLOT).write(record.dog.word)


async def call_off(access: PointAccessor, record: HoldRecord) -> None:
    """Restore the watchdog's register; if the value is back already, nothing is written.

    Raises WriteRefused if the value does not stand after the write, LinkLost, Refused.
    """
    if record.dog is None or record.dog_pre is None:
        return
    register = access(record.dog.place, NO_SLOT)
    if same((await register.look()).ours, record.dog_pre, Decimal(0)):
        return
    await register.write(record.dog_pre)
    left = (await register.look()).ours
    if not same(left, record.dog_pre, Decimal(0)):
        raise WriteRefused(
            "{left} stands in {name} instead of {dog_pre}",
            left=left,
            name=record.dog.place.name,
            dog_pre=record.dog_pre,
        )

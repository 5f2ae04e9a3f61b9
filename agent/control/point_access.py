"""Reading and writing one commanded point, over an open line and in the point's own unit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol

from agent.core.errors import WriteRefused
from agent.core.model import Point
from agent.drivers.scaled import from_raw, to_raw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.control.hold_record import WriteTarget
    from agent.core.model import Sample, Value
    from agent.drivers.base import PointSlots


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


class PointAccess(Protocol):
    """A point as the hold needs it."""

    async def look(self, *, whole: bool = False) -> Standing:
        """Read the point. `whole`: also the value that the device follows, and its serial number.

        Raises WriteRefused if the device gives no value, LinkLost, Refused.
        """
        ...

    async def write(self, value: Value | None) -> None:
        """Write a value; None empties our slot.

        Raises WriteRefused (the value may stand all the same), LinkLost, Refused.
        """
        ...


async def look_whole(access: PointAccess) -> Standing:
    """Read a point with the value that the device follows and its serial number.

    Raises WriteRefused also if the value that the device follows cannot be read.
    """
    standing = await access.look(whole=True)
    if standing.unreadable:
        raise WriteRefused(standing.unreadable)
    return standing


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


class LinePoint:
    """A `PointAccess` over a field bus."""

    def __init__(self, line: LineAccess, place: WriteTarget, slot: int | None) -> None:
        self._line, self._slot = line, slot
        self._point = Point(
            place.device, place.point, place.address, place.at, 0, unit=place.unit,
            scale=Decimal(place.scale), writable=True,
        )  # fmt: skip
        self._serial = replace(self._point, name="serial", at=place.serial, scale=Decimal(1))

    async def look(self, *, whole: bool = False) -> Standing:
        """See `PointAccess`."""
        held = await self._line.held(self._point)
        ours = self._scaled(held.ours.get(self._slot or 0))
        over = held.outranking(self._slot) if self._slot is not None else None
        standing = Standing(ours, f"priority {over}" if over is not None else "", ours)
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
        (sample,) = await self._line.read([point])
        if sample.value is None:
            raise WriteRefused(f"{point.device}/{point.name}: {sample.detail or sample.why}")
        value = self._scaled(sample.value) if point is self._point else sample.value
        assert value is not None
        return value

    async def write(self, value: Value | None) -> None:
        """See `PointAccess`."""
        raw_value = to_raw(self._point, value) if isinstance(value, Decimal) else value
        await self._line.write(self._point, raw_value, self._slot)

    def _scaled(self, value: Value | None) -> Value | None:
        return from_raw(self._point, value) if isinstance(value, Decimal) else value

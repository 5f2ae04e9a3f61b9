"""One point in hand, to be looked at and written to: over an open line, in the point's own unit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol

from agent.drivers.scaled import from_raw, to_raw
from agent.errors import WriteRefused
from agent.model import Point

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.control.hold_record import WriteTarget
    from agent.drivers.base import PointSlots
    from agent.model import Sample, Value


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands at a point."""

    ours: Value | None
    """in our slot (None: empty); in the register, where there are no slots"""
    over: str = ""
    """who is stronger than we are, in words"""
    effective: Value | None = None
    """what the device follows now; only where it was asked for"""
    identity: str = ""
    """which device it says it is; only where it was asked for, and knows"""
    unreadable: str = ""
    """why what the device follows could not be read; nothing must be begun there then"""


class PointAccess(Protocol):
    """A point as the hold needs it."""

    async def look(self, *, whole: bool = False) -> Standing:
        """What stands there; `whole`: also what the device follows, and which one it is.

        Raises WriteRefused where it does not say, LinkLost, Refused.
        """
        ...

    async def write(self, value: Value | None) -> None:
        """Write; None empties our slot. Raises WriteRefused (it may stand), LinkLost, Refused."""
        ...


async def look_whole(plug: PointAccess) -> Standing:
    """What stands there, what the device follows and which one it is.

    Raises WriteRefused also where what the device follows cannot be read.
    """
    standing = await plug.look(whole=True)
    if standing.unreadable:
        raise WriteRefused(standing.unreadable)
    return standing


class LineAccess(Protocol):
    """What of a line is needed."""

    async def read(self, points: Sequence[Point]) -> list[Sample]:
        """See `Reads`."""
        ...

    async def write(self, point: Point, value: Value | None, slot: int | None) -> None:
        """See `Writes`."""
        ...

    async def held(self, point: Point) -> PointSlots:
        """See `Writes`."""
        ...


class LinePlug:
    """A point on a field bus."""

    def __init__(self, line: LineAccess, place: WriteTarget, slot: int | None) -> None:
        self._line, self._slot = line, slot
        self._point = Point(
            place.device, place.point, place.address, place.at, 0, unit=place.unit,
            scale=Decimal(place.scale), writable=True,
        )  # fmt: skip
        self._serial = replace(self._point, name="serial", at=place.serial, scale=Decimal(1))

    async def look(self, *, whole: bool = False) -> Standing:
        """See `Plug`."""
        held = await self._line.held(self._point)
        ours = self._scaled(held.ours.get(self._slot or 0))
        over = held.outranking(self._slot) if self._slot is not None else None
        standing = Standing(ours, f"priority {over}" if over is not None else "", ours)
        if not whole:
            return standing
        if self._slot is not None:
            try:
                standing = replace(standing, effective=await self._read(self._point))
            except WriteRefused as error:  # what is ours is given back all the same
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
        """See `Plug`."""
        told = to_raw(self._point, value) if isinstance(value, Decimal) else value
        await self._line.write(self._point, told, self._slot)

    def _scaled(self, value: Value | None) -> Value | None:
        return from_raw(self._point, value) if isinstance(value, Decimal) else value

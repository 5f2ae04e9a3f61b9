"""What the three Modbus drivers have in common: unit ids, reading, use, cost."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from agent.drivers.modbus.master import Master, manners_of
from agent.drivers.modbus.notes import place
from agent.drivers.modbus.plan import NETWORK, plan
from agent.drivers.modbus.rtuwire import RtuWire
from agent.drivers.modbus.scan import search

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from agent.drivers.base import Found, Progress, Wish
    from agent.drivers.modbus.plan import Tariff
    from agent.drivers.modbus.tcpwire import TcpWire
    from agent.model import Point, Sample

UNIT = re.compile(r"[0-9]{1,3}", re.ASCII)


class Bus:
    """An open line; its devices are unit ids (`address`)."""

    UNITS = range(256)
    """0 is broadcast on a serial line, and nobody answers it"""

    def __init__(
        self, wire: TcpWire | RtuWire, tariff: Callable[[int], Tariff] = lambda _: NETWORK
    ) -> None:
        self.wire = wire
        self.master = Master(wire, tariff)

    @classmethod
    def check(cls, point: Point) -> None:
        """Raise ValueError on an `address` that is no unit id or an `at` that is no register."""
        if not UNIT.fullmatch(point.address) or int(point.address) not in cls.UNITS:
            first, last = cls.UNITS[0], cls.UNITS[-1]
            raise ValueError(f'"{point.address}" is not a unit id, {first} to {last}')
        place(point.at)

    async def read(self, points: Sequence[Point]) -> list[Sample]:
        """Read points of one device; see `agent.drivers.base.Reads`."""
        return await self.master.read(points)

    async def discover(self, wish: Wish) -> AsyncIterator[Found | Progress]:
        """Search the line; see `agent.drivers.base.Discovers`."""
        speed = (
            self.wire.speed if isinstance(self.wire, RtuWire) and self.wire.speed.baudrate else None
        )
        async for one in search(self, wish, speed):
            yield one

    def health(self) -> Mapping[str, Any]:
        """How the line is used; see `agent.drivers.base.Watched`."""
        return self.wire.spent.health()


def cost(points: Sequence[Point], tariff: Tariff) -> float:
    """What it takes to read points of one device once, in the tariff's unit. Pure."""
    places = [place(point.at) for point in points]
    spots = tuple(dict.fromkeys(spot for one in places for spot in one.spots))
    manners = manners_of(places)
    if manners.alone:
        return sum(tariff.cost(spot.table, spot.width) for spot in spots)
    return sum(tariff.cost(b.table, b.count) for b in plan(spots, manners.never, tariff))

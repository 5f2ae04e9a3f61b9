"""The common part of the three Modbus drivers: unit ids, reading, writing, line usage, cost."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from agent.core.errors import Refused, WriteRefused
from agent.core.i18n import _
from agent.drivers.base import PointSlots
from agent.drivers.modbus.codec import place
from agent.drivers.modbus.master import ModbusMaster, manners_of, rehearse, requests
from agent.drivers.modbus.plan import NETWORK, plan
from agent.drivers.modbus.rtuwire import RtuWire
from agent.drivers.modbus.scan import LISTENS, search

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from agent.core.model import Point, Sample, Value
    from agent.drivers.base import Found, Progress, Swept, Wish
    from agent.drivers.line_disturbance import Turn
    from agent.drivers.modbus.plan import Tariff
    from agent.drivers.modbus.tcpwire import TcpWire

ILLEGAL_FUNCTION = 1
UNIT = re.compile(r"[0-9]{1,3}", re.ASCII)


class Bus:
    """An open Modbus line. The `address` of a device is its unit id."""

    UNITS = range(256)
    """valid unit ids; a serial line excludes 0, the broadcast, which no device answers"""

    def __init__(
        self, wire: TcpWire | RtuWire, tariff: Callable[[int], Tariff] = lambda _: NETWORK
    ) -> None:
        self.wire = wire
        self.master = ModbusMaster(wire, tariff)
        self.listens = LISTENS

    @classmethod
    def check(cls, point: Point) -> None:
        """Raise ValueError if `address` is not a unit id or `at` is not a register."""
        if not UNIT.fullmatch(point.address) or int(point.address) not in cls.UNITS:
            first, last = cls.UNITS[0], cls.UNITS[-1]
            raise ValueError(
                _(
                    '"{address}" is not a unit id, {first} to {last}',
                    address=point.address,
                    first=first,
                    last=last,
                )
            )
        place(point.at)

    rehearse = staticmethod(rehearse)

    async def read(self, points: Sequence[Point]) -> list[Sample]:
        """Read points of one device; see `agent.drivers.base.Reads`."""
        return await self.master.read(points)

    async def write(self, point: Point, value: Value | None, slot: int | None) -> None:
        """Write a raw value, as `read` returns it; see `agent.drivers.base.Writes`.

        Modbus has no slots: `slot` must be None.
        """
        if slot is not None:
            raise Refused("Modbus has no priorities: a register holds the last value written")
        if not point.writable:
            raise Refused(f"{point.device}/{point.name} is not marked writable")
        at = place(point.at)
        pdus = list(requests(at, value))
        if isinstance(self.wire, RtuWire) and self.wire.echo is None:
            # If the adapter echoes, the echo of a write looks like its confirmation. A read first
            # shows whether it does.
            await self.held(point)
        for pdu in pdus:
            answer = await self.master.exchange(int(point.address), pdu, manners_of([at]))
            # Some devices support only one of the two functions for a write.
            if answer.code != ILLEGAL_FUNCTION:
                break
        if answer.why:
            raise WriteRefused(f"{point.device} did not confirm the write: {answer.detail}")

    async def held(self, point: Point) -> PointSlots:
        """The value in the register, as slot 0; see `agent.drivers.base.Writes`."""
        (sample,) = await self.master.read([point])
        if sample.why:
            raise WriteRefused(f"{point.device}/{point.name} cannot be read: {sample.detail}")
        return PointSlots({0: sample.value})

    async def sweep(self, points: Sequence[Point]) -> list[Swept]:
        """Do nothing: a register does not tell who wrote its value, so only a hold releases it."""
        del points
        return []

    async def discover(self, wish: Wish) -> AsyncIterator[Found | Progress]:
        """Search the line; see `agent.drivers.base.Discovers`."""
        speed = (
            self.wire.speed if isinstance(self.wire, RtuWire) and self.wire.speed.baudrate else None
        )
        async for step in search(self, wish, speed, self.listens):
            yield step

    def turn(self) -> Turn:
        """What was heard since the last call; see `agent.drivers.base.Attributes`."""
        return self.wire.listener.take()

    @staticmethod
    def whose(address: str) -> str:
        """The unit id; see `agent.drivers.base.Attributes`."""
        return str(int(address))

    def health(self) -> Mapping[str, Any]:
        """How the line is used; see `agent.drivers.base.ObservableBus`."""
        return self.wire.usage.health()


def cost(points: Sequence[Point], tariff: Tariff) -> float:
    """The cost of reading points of one device once, in the tariff's unit. Pure."""
    places = [place(point.at) for point in points]
    spots = tuple(dict.fromkeys(spot for options in places for spot in options.spots))
    manners = manners_of(places)
    if manners.alone:
        return sum(tariff.cost(spot.table, spot.width) for spot in spots)
    return sum(tariff.cost(b.table, b.count) for b in plan(spots, manners.never, tariff))

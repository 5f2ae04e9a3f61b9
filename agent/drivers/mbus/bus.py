"""The M-Bus driver, for a level converter on a serial port or on the network."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self

from agent.core.clock import monotonic
from agent.core.model import Sample, Why
from agent.drivers.base import StoredHistory, Wish
from agent.drivers.mbus import address as addresses
from agent.drivers.mbus import frame, registers
from agent.drivers.mbus.line import MbusLine, over_serial, over_tcp
from agent.drivers.mbus.master import MbusMaster, name_of
from agent.drivers.mbus.registers import rehearse
from agent.drivers.mbus.scan import scan
from agent.drivers.mbus.settings import MbusTcpSettings, SerialSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from agent.core.model import Point
    from agent.drivers.base import Found, Progress
    from agent.drivers.line_disturbance import Turn
    from agent.drivers.mbus.line import MbusWire
    from agent.drivers.mbus.master import Readout
    from agent.drivers.mbus.registers import Register
    from agent.drivers.mbus.settings import LineSettings
    from agent.drivers.mbus.telegram import Telegram

FULL, SURE_AFTER = 0.9, 3600.0
"""share of the time above which a line is overloaded, and seconds of measurement before that is
reported
"""


class Mbus:
    """An open M-Bus line."""

    def __init__(self, wire: MbusWire, settings: LineSettings, latency: float) -> None:
        self.line = MbusLine(wire, settings.baudrate, latency)
        self.master = MbusMaster(self.line)
        self.listen = settings.listen
        self._since = monotonic()
        self._answer_ms: dict[str, float] = {}
        self._failed: dict[str, int] = {}
        """by address: readings without an answer since the line was opened"""
        self._clocks: dict[str, tuple[str, float]] = {}
        """by address: the time that the meter gave, and the wall time then"""

    @staticmethod
    def check(point: Point) -> None:
        """Raise ValueError if `address` is not a meter's or `at` is not a register."""
        addresses.parse(point.address)
        registers.parse(point.at)

    rehearse = staticmethod(rehearse)

    async def read(self, points: Sequence[Point]) -> list[Sample]:
        """Read points of one meter; see `agent.drivers.base.Reads`."""
        address = addresses.parse(points[0].address)
        wanted = [registers.at(point.at, address.input) for point in points]
        began = monotonic()
        readout = await self.master.readout(address, lambda telegrams: _all_in(wanted, telegrams))
        if readout.telegrams:
            self._answer_ms[points[0].address] = (monotonic() - began) * 1000
            if meter_time := registers.clock(readout.telegrams):
                self._clocks[points[0].address] = meter_time, readout.at
        else:
            self._failed[points[0].address] = self._failed.get(points[0].address, 0) + 1
        return [_sample(*pair, readout) for pair in zip(points, wanted, strict=True)]

    def health(self) -> Mapping[str, Any]:
        """How the line was used since it was opened; see `agent.drivers.base.ObservableBus`."""
        share = min(1.0, self.line.busy / max(1.0, monotonic() - self._since))
        figures: dict[str, Any] = {"requests": self.line.asked, "busy": round(share, 4)}
        figures["answer_ms"], figures["failed"] = dict(self._answer_ms), dict(self._failed)
        figures["clocks"] = dict(self._clocks)
        figures["words"] = f"busy {share:.0%} of the time, {1 - share:.0%} free"
        if self._answer_ms:
            slowest = max(self._answer_ms, key=lambda address: self._answer_ms[address])
            figures["words"] += f"; slowest: {slowest}, {self._answer_ms[slowest]:.0f} ms"
        if share > FULL and monotonic() - self._since > SURE_AFTER:
            figures["worry"] = (
                f"the line is busy {share:.0%} of the time: read some meters less often"
            )
        return figures

    async def discover(self, wish: Wish) -> AsyncIterator[Found | Progress]:
        """Search the line; see `agent.drivers.base.Discovers`."""
        async for step in scan(self.line, wish, self.listen):
            self.line.turn = ""
            self.master.begin_anew()
            yield step

    def turn(self) -> Turn:
        """What was heard since the last call; see `agent.drivers.base.Attributes`."""
        return self.line.listener.take()

    @staticmethod
    def whose(address: str) -> str:
        """The meter that is asked; see `agent.drivers.base.Attributes`."""
        return name_of(addresses.parse(address))

    @staticmethod
    def station(address: str) -> str:
        """The meter that is asked; see `agent.drivers.base.Stations`."""
        return addresses.parse(address).station

    @staticmethod
    def number(address: str) -> str | None:
        """The number in an address; see `agent.drivers.base.Seeks`. None for an input."""
        wanted = addresses.parse(address)
        return wanted.id if wanted.primary is None and wanted.input is None else None

    @staticmethod
    def kept(point: Point) -> StoredHistory | None:
        """Monthly and due-date values; see `agent.drivers.base.Recalls`."""
        register = registers.parse(point.at)
        if register.quantity not in registers.INDEXES or register.storage or register.identity:
            return None

        def time(storage: int) -> Point:
            at = f"time-point/storage={storage}" if storage else "time-point"
            return replace(point, name=at, at=at, unit="1", scale=Decimal(1), channel=None)

        def value(storage: int) -> Point:
            at = f"{point.at}/storage={storage}"
            return replace(point, name=at, at=at)

        pairs = ((time(n), value(n)) for n in range(1, registers.STORAGES))
        return StoredHistory(point, time(0), tuple(pairs))

    async def seek(self) -> AsyncIterator[Found | Progress]:
        """Search all numbers. It does not listen for another master first, since this line is being
        read by this gateway.
        """
        async for step in scan(self.line, Wish(first=frame.ANY_ID), 0.0):
            self.line.turn = ""
            self.master.begin_anew()
            yield step


class MbusSerial(Mbus):
    """An open M-Bus line behind a serial port."""

    Settings = SerialSettings

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: SerialSettings) -> AsyncIterator[Self]:
        """Open the port; close it on leaving. Raises LinkLost if it cannot."""
        async with over_serial(settings.port, settings.baudrate) as wire:
            yield cls(wire, settings, settings.latency)


class MbusTcp(Mbus):
    """An open M-Bus line behind a converter on the network."""

    Settings = MbusTcpSettings

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: MbusTcpSettings) -> AsyncIterator[Self]:
        """Connect; close on leaving. Raises LinkLost if it cannot."""
        async with over_tcp(settings.host, settings.port) as wire:
            yield cls(wire, settings, settings.latency)


def _all_in(wanted: Sequence[Register], telegrams: Sequence[Telegram]) -> bool:
    return all(
        register.quantity in registers.HEADER or register.of(telegrams) for register in wanted
    )


def _sample(point: Point, wanted: Register, readout: Readout) -> Sample:
    if not readout.telegrams:
        return Sample(point, readout.at, why=readout.why, detail=readout.detail)
    try:
        value = registers.point_value(wanted, readout.telegrams, point.unit)
    except registers.Unfit as unfit:
        # The register may be in a telegram that is missing: that is silence, not a wrong register.
        if readout.why and not wanted.of(readout.telegrams):
            return Sample(point, readout.at, why=readout.why, detail=readout.detail)
        return Sample(point, readout.at, why=Why.BAD, detail=str(unfit))
    return Sample(point, readout.at, value)

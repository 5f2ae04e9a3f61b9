"""The Modbus drivers: TCP, RTU on a serial port of this machine, RTU through a converter."""

from __future__ import annotations

import math
import re
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from agent.core.errors import Refused, WriteRefused
from agent.core.i18n import Text
from agent.core.settings import Duration, Host, from_the_root
from agent.drivers.base import PointSlots
from agent.drivers.modbus.codec import NETWORK, Tariff, place, plan
from agent.drivers.modbus.master import ModbusMaster, manners_of, rehearse, requests
from agent.drivers.modbus.rtu import Speed
from agent.drivers.modbus.scan import LISTENS, search
from agent.drivers.modbus.stream import serial_stream, tcp_stream
from agent.drivers.modbus.wire import RtuWire, TcpWire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from agent.core.model import Point, Sample, Value
    from agent.drivers.base import Found, Progress, Swept, Wish
    from agent.drivers.line_disturbance import Turn
    from agent.drivers.trace import Record

ILLEGAL_FUNCTION = 1
UNIT = re.compile(r"[0-9]{1,3}", re.ASCII)
Parity = Literal["none", "even", "odd"]
FRAME = 13
"""characters of a request and of its answer without the registers"""
RATES = (
    *(300, 600, 1200, 1800, 2400, 4800, 7200, 9600, 14_400, 19_200, 28_800, 38_400, 56_000),
    *(57_600, 76_800, 115_200, 128_000, 187_500, 230_400, 250_000, 256_000, 460_800, 500_000),
    *(576_000, 921_600),
)
"""baud rates of POSIX and Linux, and others that meters, drives and controllers offer"""
TURNAROUND_MS = 16.0
"""assumed time from a request to its answer, until it has been measured"""


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
                Text(
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

    async def record(
        self, points: Sequence[Point], serial: Point | None
    ) -> tuple[list[Sample], dict[str, Any]]:
        """Read and record a device; see `agent.drivers.base.RecordsDevices`."""
        return await self.master.record(points, serial)

    async def write(self, point: Point, value: Value | None, slot: int | None) -> None:
        """Write a raw value, as `read` returns it; see `agent.drivers.base.Writes`.

        Modbus has no slots: `slot` must be None.
        """
        if slot is not None:
            raise Refused("Modbus has no priorities: a register holds the last value written")
        if not point.writable:
            raise Refused(
                "{device}/{name} is not marked writable", device=point.device, name=point.name
            )
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
            raise WriteRefused(
                "{device} did not confirm the write: {detail}",
                device=point.device,
                detail=answer.detail,
            )

    async def held(self, point: Point) -> PointSlots:
        """The value in the register, as slot 0; see `agent.drivers.base.Writes`."""
        (sample,) = await self.master.read([point])
        if sample.why:
            raise WriteRefused(
                "{device}/{name} cannot be read: {detail}",
                device=point.device,
                name=point.name,
                detail=sample.detail,
            )
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

    def record_to(self, record: Record | None) -> None:
        """Pass on all bytes; see `agent.drivers.base.Traceable`."""
        self.wire.stream.record = record

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


class ModbusTcpSettings(BaseModel):
    """Options of a `driver: modbus-tcp` link."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: Host = Field(
        min_length=1,
        description="Name or address of the meter or gateway.",
        examples=["192.168.10.20"],
    )
    port: int = Field(
        default=502, ge=1, le=65535, description="Its TCP port.", examples=[502, 1502]
    )
    timeout: Annotated[Duration, Field(gt=0, le=60)] = Field(
        default=1.0,
        description="How long to wait for one answer, and for the connection.",
        examples=["1s", "500ms"],
    )


class ModbusTcp(Bus):
    """An open Modbus TCP connection. Unit 255 (or 0) is the host itself, 1 to 247 are devices
    behind it (Modbus Messaging on TCP/IP V1.0b, 4.4.1.2).
    """

    Settings = ModbusTcpSettings

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: ModbusTcpSettings) -> AsyncIterator[Self]:
        """Connect; close on leaving. Raises LinkLost if it cannot within the timeout."""
        async with tcp_stream(settings.host, settings.port, settings.timeout) as stream:
            wire = TcpWire(stream, settings.timeout)
            yield cls(wire, wire.pace.tariff)


class RtuSettings(BaseModel):
    """Options of a `driver: modbus-rtu` link."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    port: Annotated[str, AfterValidator(from_the_root)] = Field(
        min_length=1,
        description="The serial port. A name in /dev/serial/by-id stays the same after replugging.",
        examples=["/dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A50285BI-if00-port0", "/dev/ttyS1"],
    )
    baudrate: int = Field(
        default=9600, ge=300, le=921600, description="Baud rate.", examples=[9600, 19200]
    )
    parity: Parity = Field(default="none", description="Parity.", examples=["none", "even"])
    stopbits: Literal[1, 2] = Field(default=1, description="Stop bits.", examples=[1, 2])
    timeout: Annotated[Duration, Field(gt=0, le=60)] = Field(
        default=1.0,
        description="How long to wait for the first byte of an answer.",
        examples=["1s", "300ms"],
    )

    @property
    def speed(self) -> Speed:
        """The settings of the line."""
        return Speed(self.baudrate, self.parity, self.stopbits)

    def seconds(self, points: Sequence[Point]) -> float:
        """How long one device occupies the line; see `agent.drivers.base.Budgets`."""
        return cost(points, tariff(self.speed)) / 1000


class RtuTcpSettings(ModbusTcpSettings):
    """Options of a `driver: modbus-rtu-tcp` link: a converter that passes bytes on unchanged."""


def tariff(speed: Speed, turnaround_ms: float = TURNAROUND_MS) -> Tariff:
    """The costs of a request and of a register on a serial line, in milliseconds."""
    character = speed.character * 1000
    overhead = FRAME * character + 2 * speed.gap * 1000 + turnaround_ms
    return Tariff(request=overhead, register=2 * character)


class ModbusRtu(Bus):
    """An open RS-485 line on a serial port. Its devices are unit ids, 1 to 247."""

    Settings: type[BaseModel] = RtuSettings
    UNITS = range(1, 248)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: RtuSettings) -> AsyncIterator[Self]:
        """Open the port exclusively. Raises LinkLost if it is not there or in use."""
        async with serial_stream(settings.port, settings.speed) as stream:
            wire = RtuWire(stream, settings.speed, settings.timeout)
            yield cls(wire, partial(_measured, wire))


class ModbusRtuTcp(Bus):
    """An open connection to a converter with an RS-485 line behind it."""

    Settings = RtuTcpSettings
    UNITS = range(1, 248)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: RtuTcpSettings) -> AsyncIterator[Self]:
        """Connect; close on leaving. Raises LinkLost if it cannot within the timeout."""
        async with tcp_stream(settings.host, settings.port, settings.timeout) as stream:
            wire = RtuWire(stream, Speed(0), settings.timeout)
            yield cls(wire, wire.pace.tariff)


def _measured(wire: RtuWire, unit: int) -> Tariff:
    """The costs of a unit as measured so far, rounded up to a power of two so that small variations
    do not change the plan.
    """
    quickest = wire.turnaround.get(unit, TURNAROUND_MS / 1000) * 1000
    return tariff(wire.speed, 2.0 ** math.ceil(math.log2(max(quickest, 1.0))))

"""The Modbus drivers: TCP, RTU on a serial port of this machine, RTU through a converter."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from agent.core.settings import Duration, Host, from_the_root
from agent.drivers.modbus.bus import Bus, cost
from agent.drivers.modbus.plan import Tariff
from agent.drivers.modbus.rtu import Speed
from agent.drivers.modbus.rtuwire import RtuWire
from agent.drivers.modbus.stream import serial_stream, tcp_stream
from agent.drivers.modbus.tcpwire import TcpWire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from agent.core.model import Point

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

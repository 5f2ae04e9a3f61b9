"""Modbus TCP: a meter with its own network port, or a Modbus gateway in front of a serial line."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

from agent.core.settings import Duration, Host
from agent.drivers.modbus.bus import Bus
from agent.drivers.modbus.stream import tcp_stream
from agent.drivers.modbus.tcpwire import TcpWire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


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

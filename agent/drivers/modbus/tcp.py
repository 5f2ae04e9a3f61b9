"""Modbus TCP: a meter with its own network port, or a gateway in front of a serial line."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

from agent.drivers.modbus.codec import parse
from agent.drivers.modbus.master import Master
from agent.drivers.modbus.wire import connected
from agent.settings import Duration  # noqa: TC001 -- pydantic evaluates it

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from agent.drivers.modbus.wire import Wire
    from agent.model import Point, Sample

UNIT = re.compile(r"[0-9]{1,3}", re.ASCII)
LAST_UNIT = 255
"""255 (or 0) is the host itself, 1 to 247 those behind it (Modbus Messaging on TCP/IP, 4.4.1.2)"""


class TcpSettings(BaseModel):
    """Options of a `driver: modbus-tcp` link."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(
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


class ModbusTcp:
    """An open Modbus TCP connection. Its devices are unit ids (`address`, 0 to 255)."""

    Settings = TcpSettings

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.master = Master(wire.ask)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: TcpSettings) -> AsyncIterator[Self]:
        """Connect; close on leaving. Raises LinkLost if it cannot within the timeout."""
        async with connected(settings.host, settings.port, settings.timeout) as wire:
            yield cls(wire)

    @staticmethod
    def check(point: Point) -> None:
        """Raise ValueError on an `address` that is no unit id or an `at` that is no register."""
        if not UNIT.fullmatch(point.address) or int(point.address) > LAST_UNIT:
            raise ValueError(f'"{point.address}" is not a unit id, 0 to {LAST_UNIT}')
        parse(point.at)

    async def read(self, points: Sequence[Point]) -> list[Sample]:
        """Read points of one device; see `agent.drivers.base.Reads`."""
        return await self.master.read(points)

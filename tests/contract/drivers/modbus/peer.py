"""A peer that answers Modbus TCP as badly as the test wants it to, byte by byte."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.core.model import Point
from agent.drivers.modbus.bus import ModbusTcp, ModbusTcpSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass(frozen=True, slots=True)
class Request:
    transaction: int
    unit: int
    function: int
    address: int
    count: int

    def frame(
        self,
        *registers: int,
        transaction: int | None = None,
        unit: int | None = None,
        function: int | None = None,
    ) -> bytes:
        """The right answer, save for what the test wants wrong."""
        function = self.function if function is None else function
        cells = struct.pack(f">{len(registers)}H", *registers)
        return self.raw(bytes([function, len(cells)]) + cells, transaction, unit)

    def refusal(self, code: int) -> bytes:
        return self.raw(bytes([self.function | 0x80, code]))

    def raw(self, pdu: bytes, transaction: int | None = None, unit: int | None = None) -> bytes:
        transaction = self.transaction if transaction is None else transaction
        unit = self.unit if unit is None else unit
        return struct.pack(">HHHB", transaction, 0, len(pdu) + 1, unit) + pdu


Behaviour = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def peer(behaviour: Behaviour) -> AsyncIterator[int]:
    """Serve on loopback; gives the port. Requests of one connection are taken one after another."""
    writers: list[asyncio.StreamWriter] = []

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            while True:
                fields = struct.unpack(">HHHBBHH", await reader.readexactly(12))
                await behaviour(Request(fields[0], *fields[3:]), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()
        await asyncio.sleep(0.01)  # the handlers notice, and end before the loop does


@asynccontextmanager
async def faulty(behaviour: Behaviour, within: float = 0.2) -> AsyncIterator[ModbusTcp]:
    """A driver open on such a peer."""
    async with peer(behaviour) as port, ModbusTcp.open(settings(port, within)) as driver:
        yield driver


def settings(port: int, timeout: float = 1.0) -> ModbusTcpSettings:
    return ModbusTcpSettings(host="127.0.0.1", port=port, timeout=timeout)


def point(at: str, unit: int = 1) -> Point:
    return Point(f"meter-{unit}", at, str(unit), at, 60, writable=True)

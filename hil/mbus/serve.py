"""The pretend line behind a TCP converter, or behind a serial port (a pseudo terminal)."""

from __future__ import annotations

import asyncio
import os
import tty
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from hil.mbus.line import Converter
from hil.uart import Framing, framing_of, heard
from hil.visits import visits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hil.mbus.line import Bus


@asynccontextmanager
async def tcp(bus: Bus, port: int = 0) -> AsyncIterator[int]:
    """Serve one master after another on 127.0.0.1; gives the port."""

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        converter = Converter(bus, writer.write)
        try:
            while data := await reader.read(4096):
                converter.feed(data)
        finally:
            converter.close()

    async with visits(visit, port) as taken:
        yield taken


@asynccontextmanager
async def pty(bus: Bus, *, strict: bool = False) -> AsyncIterator[str]:
    """Serve behind a pseudo terminal; gives the path of the port. Leaving it pulls the plug.

    strict: bytes sent at another speed or parity than that of the bus arrive as garbage (hil.uart).
    """
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    os.set_blocking(ours, False)
    framing = Framing(bus.baudrate, "even")

    def hands_over(data: bytes) -> None:
        os.write(ours, heard(data, framing, framing_of(theirs)) if strict else data)

    converter = Converter(bus, hands_over)
    loop = asyncio.get_running_loop()

    def arrived() -> None:
        with suppress(BlockingIOError, OSError):
            data = os.read(ours, 4096)
            converter.feed(heard(data, framing_of(theirs), framing) if strict else data)

    loop.add_reader(ours, arrived)
    try:
        yield os.ttyname(theirs)
    finally:
        loop.remove_reader(ours)
        converter.close()
        os.close(theirs)
        os.close(ours)

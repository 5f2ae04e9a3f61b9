"""The pretend line behind a TCP converter, or behind a serial port (a pseudo terminal)."""

from __future__ import annotations

import asyncio
import os
import tty
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from hil.mbus.line import Converter
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
async def pty(bus: Bus) -> AsyncIterator[str]:
    """Serve behind a pseudo terminal; gives the path of the port. Leaving it pulls the plug."""
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    os.set_blocking(ours, False)
    converter = Converter(bus, lambda data: os.write(ours, data))
    loop = asyncio.get_running_loop()

    def arrived() -> None:
        with suppress(BlockingIOError, OSError):
            converter.feed(os.read(ours, 4096))

    loop.add_reader(ours, arrived)
    try:
        yield os.ttyname(theirs)
    finally:
        loop.remove_reader(ours)
        converter.close()
        os.close(theirs)
        os.close(ours)

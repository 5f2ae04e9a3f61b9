"""A TCP server on loopback whose visitors are dropped when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Visit = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def visits(visit: Visit, port: int = 0) -> AsyncIterator[int]:
    """Let whoever connects to 127.0.0.1 pay a visit, several at once; gives the port."""
    open_now: set[asyncio.StreamWriter] = set()

    async def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_now.add(writer)
        try:
            with suppress(ConnectionError):  # the visitor is gone
                await visit(reader, writer)
        finally:
            open_now.discard(writer)
            writer.close()

    server = await asyncio.start_server(welcome, "127.0.0.1", port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in list(open_now):
            writer.transport.abort()
        await server.wait_closed()

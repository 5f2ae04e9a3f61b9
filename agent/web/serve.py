"""Connections of browsers: TLS, within bounds of number and time.

Nobody may hold more than a few connections, be slow in what they send, or read slowly: the page
runs on a small gateway, and its addresses may be reached by anybody in the building.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aiohttp.web_protocol import RequestHandler

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from aiohttp.web import AppRunner, Server

log = logging.getLogger(__name__)

MOST, MOST_EACH = 64, 24
"""connections at the same time: in all, and of one address"""
HANDSHAKE_WITHIN, REQUEST_WITHIN, IDLE_AFTER = 5.0, 5.0, 15.0
"""seconds for TLS, for the head of a request, and from one request to the next"""
TAKEN_WITHIN = 20.0
"""seconds in which a browser must take some of what waits for it"""
LONGEST_LINE, LONGEST_HEAD = 8_190, 32_768
"""most bytes of a header line or of the first line of a request, and of all of them"""
MOST_WAITING = 4
"""requests of one connection that wait for the end of the one before; browsers send none"""
PIECE = 4_096
"""bytes after which these limits are checked"""
TLS_HANDSHAKE = b"\x16"
"""the first byte of TLS (RFC 8446, 5.1)"""
COLLECTED_EVERY = 64
"""connections without TLS after which memory is collected"""
PAUSE = 0.5
"""seconds until the next try if no connection can be accepted, such as without free files"""


class BrowserConnection(RequestHandler):
    """One connection. It is closed if the head of a request is not complete in time, or too large,
    and if what waits for the browser is not taken.
    """

    __slots__ = ("_deadline", "_head", "_house", "_untaken", "address")

    def __init__(self, house: House, server: Server, address: str) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=IDLE_AFTER,
            access_log=None,  # type: ignore[arg-type]  # its annotation forgets it
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_LINE,
            lingering_time=2.0,
            auto_decompress=False,  # browsers pack no forms, and a few kB can become a GB
        )
        self.address = address
        self._house: House | None = house
        self._deadline: asyncio.TimerHandle | None = None
        self._untaken: asyncio.TimerHandle | None = None
        self._head = 0
        """bytes that have arrived since the end of the request before, but for its body"""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._expect()

    def data_received(self, data: bytes) -> None:
        """Take bytes; the head that they begin must be complete in time, and not too large."""
        for begin in range(0, len(data), PIECE):
            if self.transport is None or self.transport.is_closing():
                return
            self._take(data[begin : begin + PIECE])

    def _take(self, data: bytes) -> None:
        if self._deadline is None and self._current_request is None:
            self._expect()
        waiting, in_body = len(self._messages), self._in_body()
        super().data_received(data)
        if self._messages or self._current_request is not None:
            self._arrived()
        self._head = 0 if in_body or len(self._messages) > waiting else self._head + len(data)
        if self._head > LONGEST_HEAD or len(self._messages) > MOST_WAITING:
            self._abort()

    def _in_body(self) -> bool:
        """Whether what arrives now is the body of a request."""
        if self._messages:
            return not self._messages[-1][1].is_eof()
        return self._current_request is not None and not self._current_request.content.is_eof()

    def pause_writing(self) -> None:
        """Begin to wait until the browser takes what has been written."""
        super().pause_writing()
        within = self._house.taken_within if self._house else 0.0
        self._untaken = asyncio.get_running_loop().call_later(within, self._abort)

    def resume_writing(self) -> None:
        """Go on writing."""
        super().resume_writing()
        self._taken()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Free its place."""
        self._arrived()
        self._taken()
        house, self._house = self._house, None
        if house is not None:
            house.left(self.address)
        super().connection_lost(exc)

    def _expect(self) -> None:
        self._deadline = asyncio.get_running_loop().call_later(REQUEST_WITHIN, self._abort)

    def _arrived(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _taken(self) -> None:
        if self._untaken is not None:
            self._untaken.cancel()
            self._untaken = None

    def _abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class House:
    """Accepts connections from listening sockets, and knows how many are open."""

    def __init__(
        self, runner: AppRunner, context: ssl.SSLContext, taken_within: float = TAKEN_WITHIN
    ) -> None:
        self.taken_within = taken_within
        self._runner, self._context = runner, context
        self._open: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._failed = 0

    async def serve(self, listeners: Sequence[socket.socket]) -> None:
        """Accept connections until cancelled."""
        async with asyncio.TaskGroup() as group:
            for listener in listeners:
                listener.setblocking(False)
                group.create_task(self._accept(listener))

    def left(self, address: str) -> None:
        """Free the place of a connection."""
        self._open[address] -= 1
        self._open += Counter()  # without those at zero

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, peer = await loop.sock_accept(listener)
            except OSError as error:
                log.warning("no connection can be accepted: %s", error)
                await asyncio.sleep(PAUSE)
                continue
            address = str(peer[0])
            if self._open.total() >= MOST or self._open[address] >= MOST_EACH:
                sock.close()
                continue
            self._open[address] += 1
            task = asyncio.create_task(self._admit(sock, address))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _admit(self, sock: socket.socket, address: str) -> None:
        """Do the handshake; then the connection serves itself."""
        server = self._runner.server
        opened: list[BrowserConnection] = []

        def connection() -> BrowserConnection:
            assert server is not None
            opened.append(BrowserConnection(self, server, address))
            return opened[0]

        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if not await _speaks_tls(sock):
                raise ConnectionAbortedError
            await asyncio.get_running_loop().connect_accepted_socket(
                connection, sock, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_WITHIN,
                ssl_shutdown_timeout=2.0,
            )  # fmt: skip
        except (OSError, TimeoutError):  # ssl.SSLError is an OSError
            sock.close()
            # once it was made, connection_lost frees the place
            if not opened or opened[0].transport is None:
                self.left(address)
            self._failed += 1
            if self._failed % COLLECTED_EVERY == 0:
                # a failed handshake leaves objects that refer to each other, with 100 kB of OpenSSL
                gc.collect()


async def _speaks_tls(sock: socket.socket) -> bool:
    """Wait for the first byte, and return whether it is one of TLS. Raises OSError."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sock, ready.set)
    try:
        async with asyncio.timeout(HANDSHAKE_WITHIN):
            await ready.wait()
    finally:
        loop.remove_reader(sock)
    return sock.recv(1, socket.MSG_PEEK) == TLS_HANDSHAKE

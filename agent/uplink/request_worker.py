"""A thread that sends one request at a time to a server; each request can be cancelled.

A server that sends one byte a minute passes every timeout of a single read. So each request has a
total timeout, and cancelling a request closes its connection. A request that is cancelled while it
waits for its turn is never sent.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from agent.buffer.database import OneThread, in_own_thread
from agent.core.errors import UplinkLost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractContextManager

T = TypeVar("T")
S = TypeVar("S")

ANSWERS = 20
"""total timeout of a request, as a multiple of the timeout of one read …"""
LONGEST = 480.0
"""… and at most so many seconds; a partial upload stays, and is resumed. Together with the longest
wait between two attempts this is less than the watchdog allows (agent.gateway.liveness)
"""


def within(answer: float) -> float:
    """Total timeout of a request in seconds; `answer`: timeout of one read."""
    return min(LONGEST, ANSWERS * answer)


class Connection:
    """The connection that the thread waits on, so that another thread can shut it down."""

    def __init__(self) -> None:
        self._wire: Callable[[], object] = lambda: None
        self._given_up = False

    def begin(self) -> None:
        """Start a request."""
        self._given_up = False

    def watch(self, wire: Callable[[], object]) -> None:
        """Register the function that returns the current socket: TLS replaces the socket object."""
        self._wire = wire
        # the request may have been cancelled before its socket existed
        if self._given_up:
            self.cut()

    def cut(self) -> None:
        """Cancel the request: shut the socket down."""
        self._given_up = True
        if isinstance(wire := self._wire(), socket.socket):
            with suppress(OSError):
                # not SSLSocket.shutdown, which removes the TLS session that the thread uses
                socket.socket.shutdown(wire, socket.SHUT_RDWR)


class RequestWorker(OneThread):
    """A thread for one server; see the module."""

    def __init__(self, name: str, connection: Connection, answer: float) -> None:
        """`answer`: timeout of one read in seconds."""
        super().__init__(name)
        self._connection, self._within = connection, within(answer)
        self._turn = asyncio.Lock()

    async def run(self, call: Callable[..., T], *args: object) -> T:
        """Run a request. Raises UplinkLost after the total timeout; a cancellation ends the
        request.
        """
        async with self._turn:
            # inside the turn: the cancellation of an earlier request must not count for this one
            self._connection.begin()
            try:
                async with asyncio.timeout(self._within):
                    return await super().run(call, *args)
            except TimeoutError:
                reason = f"the request was cancelled: it did not end within {self._within:.0f} s"
                raise UplinkLost(reason) from None

    def _given_up(self) -> None:
        self._connection.cut()


@asynccontextmanager
async def in_turns(
    name: str, open_it: Callable[[Connection], AbstractContextManager[S]], answer: float
) -> AsyncIterator[tuple[S, OneThread]]:
    """Open a connection in a thread of its own, and close it there."""
    connection = Connection()
    async with in_own_thread(
        name, lambda: open_it(connection), RequestWorker(name, connection, answer)
    ) as both:
        yield both

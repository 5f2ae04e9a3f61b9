"""One question after the other to a far side, from a thread of its own; each can be cut off.

A server that answers a byte a minute, or never comes to an end, passes every time limit of a single
read: so the whole of a question has a limit, and whoever gives one up hangs up on it. A question
whose turn has not come is never asked.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from agent.buffer.thread import OneThread, in_own_thread
from agent.errors import UplinkLost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractContextManager

T = TypeVar("T")
S = TypeVar("S")

ANSWERS = 20
"""a whole question may take so many times what one answer of the server may take …"""
LONGEST = 480.0
"""… and so many seconds at most: what was brought of a file stays, and goes on from there. With the
longest wait between two attempts it is less than what the watchdog allows (agent.liveness)
"""


def within(answer: float) -> float:
    """Seconds that a whole question may take where one answer may take `answer`."""
    return min(LONGEST, ANSWERS * answer)


class Connection:
    """The connection that a thread waits on, to be shut from another one."""

    def __init__(self) -> None:
        self._wire: Callable[[], object] = lambda: None
        self._given_up = False

    def begin(self) -> None:
        """A question begins."""
        self._given_up = False

    def watch(self, wire: Callable[[], object]) -> None:
        """From now on it is this one: TLS makes another object of a socket that was there."""
        self._wire = wire
        if self._given_up:
            self.cut()

    def cut(self) -> None:
        """Nobody waits for the answer any more."""
        self._given_up = True
        if isinstance(wire := self._wire(), socket.socket):
            with suppress(OSError):
                # not TLS's own, which takes the session from under the thread
                socket.socket.shutdown(wire, socket.SHUT_RDWR)


class RequestWorker(OneThread):
    """See the module."""

    def __init__(self, name: str, line: Connection, answer: float) -> None:
        """`answer`: seconds that the server may take for one."""
        super().__init__(name)
        self._line, self._within = line, within(answer)
        self._turn = asyncio.Lock()

    async def run(self, call: Callable[..., T], *args: object) -> T:
        """Ask. Raises UplinkLost where it comes to no end; a cancellation cuts it off."""
        async with self._turn:
            self._line.begin()
            try:
                async with asyncio.timeout(self._within):
                    return await super().run(call, *args)
            except TimeoutError:
                said = f"the far side comes to no end: given up after {self._within:.0f} s"
                raise UplinkLost(said) from None

    def _given_up(self) -> None:
        self._line.cut()


@asynccontextmanager
async def in_turns(
    name: str, open_it: Callable[[Connection], AbstractContextManager[S]], answer: float
) -> AsyncIterator[tuple[S, OneThread]]:
    """Open a far side in a thread of its own and close it there."""
    line = Connection()
    async with in_own_thread(
        name, lambda: open_it(line), RequestWorker(name, line, answer)
    ) as both:
        yield both

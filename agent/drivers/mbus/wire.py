"""Bytes to and from an M-Bus line: a serial port, or a converter on the network."""

from __future__ import annotations

import asyncio
import os
import socket
import termios
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from serial import PARITY_EVEN, Serial, SerialException

from agent.core.clock import monotonic
from agent.core.errors import LinkLost
from agent.drivers.line_disturbance import QUIET

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

MOST_KEPT = 4096
"""received bytes that are kept; of more, the oldest are dropped"""
UNACKNOWLEDGED = 10_000
"""ms without an acknowledgement of TCP data after which the line counts as lost"""
CONNECT_WITHIN = 5.0


class MbusWire(asyncio.Protocol):
    """The received bytes, and a way to send. Once the line is lost, all methods but `feed` and
    `end` raise LinkLost.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.received = bytearray()
        self.heard = self.began = 0.0
        """monotonic seconds at which bytes last came, and at which they began to"""
        self.came = 0
        """number of bytes received so far"""
        self._lost = ""
        self._news = asyncio.Event()
        self._write: Callable[[bytes], object] = lambda _: None
        self._tune: Callable[[int], None] = lambda _: None

    def goes_to(
        self, write: Callable[[bytes], object], tune: Callable[[int], None] | None = None
    ) -> None:
        """Set how bytes are sent and, for a serial port, how the baud rate is changed."""
        self._write, self._tune = write, tune or self._tune

    def send(self, data: bytes, baudrate: int) -> None:
        """Drop the received bytes, and send."""
        self._check()
        try:
            self._tune(baudrate)
            self.received.clear()
            self._write(data)
        except (OSError, termios.error) as error:
            self.end(_reason(error))
            self._check()

    async def news(self, within: float) -> bool:
        """Wait for more bytes, at most `within` seconds. Returns whether any came."""
        self._check()
        self._news.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._news.wait()
        self._check()
        # On a busy machine the bytes and the timeout may come at the same time: the event decides.
        return self._news.is_set()

    def _check(self) -> None:
        if self._lost:
            raise LinkLost(self._lost)

    def feed(self, data: bytes) -> None:
        """Take received bytes."""
        self.received += data
        self.came += len(data)
        del self.received[:-MOST_KEPT]
        now = monotonic()
        if now - self.heard > QUIET:
            self.began = now
        self.heard = now
        self._news.set()

    def end(self, why: str) -> None:
        """Note that the line is gone; the first reason is kept."""
        self._lost = self._lost or f"{self.name}: {why}"
        self._news.set()

    def data_received(self, data: bytes) -> None:
        """Take received bytes (called by asyncio)."""
        self.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection ended (called by asyncio)."""
        self.end(_reason(exc) if exc else "closed the connection")


@asynccontextmanager
async def over_tcp(host: str, port: int) -> AsyncIterator[MbusWire]:
    """Connect to a converter. Raises LinkLost if that fails."""
    wire, name = MbusWire(f"{host}:{port}"), f"{host}:{port}"
    try:
        async with asyncio.timeout(CONNECT_WITHIN):
            transport, _ = await asyncio.get_running_loop().create_connection(
                lambda: wire, host, port
            )
    except TimeoutError as error:
        raise LinkLost(f"{name} does not answer within {CONNECT_WITHIN:g} s") from error
    except (OSError, UnicodeError) as error:  # UnicodeError: an empty label
        raise LinkLost(f"{name} cannot be reached: {_reason(error)}") from error
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    wire.goes_to(transport.write)
    try:
        yield wire
    finally:
        transport.abort()


@asynccontextmanager
async def over_serial(port: str, baudrate: int) -> AsyncIterator[MbusWire]:
    """Open a serial port exclusively, as 8E1. Raises LinkLost if that fails."""
    try:
        opened = Serial(port, baudrate, parity=PARITY_EVEN, timeout=0, exclusive=True)
    except (SerialException, OSError, ValueError, termios.error) as error:
        raise LinkLost(f"{port} cannot be opened: {_reason(error)}") from error
    wire, loop, fd = MbusWire(port), asyncio.get_running_loop(), opened.fileno()

    def arrived() -> None:
        try:
            data = os.read(fd, MOST_KEPT)
        except BlockingIOError:
            return
        except OSError as error:
            data, why = b"", _reason(error)
        else:
            why = "the port is gone: was the adapter unplugged?"
        if data:
            wire.feed(data)
        else:
            loop.remove_reader(fd)
            wire.end(why)

    def tune(rate: int) -> None:
        if opened.baudrate != rate:
            termios.tcdrain(fd)
            opened.baudrate = rate
            _heed_parity(fd)

    try:
        _heed_parity(fd)
        loop.add_reader(fd, arrived)
        wire.goes_to(lambda data: os.write(fd, data), tune)
        yield wire
    except termios.error as error:
        raise LinkLost(f"{port}: {_reason(error)}") from error
    finally:
        loop.remove_reader(fd)
        opened.close()


def _heed_parity(fd: int) -> None:
    """Let the kernel replace a byte with wrong parity by 00, which the checksum then detects.

    pyserial switches the parity check off. Without it, wrong bits in two bytes may cancel out in
    the checksum.
    """
    attributes = termios.tcgetattr(fd)
    attributes[0] |= termios.INPCK
    attributes[0] &= ~(termios.IGNPAR | termios.PARMRK)
    termios.tcsetattr(fd, termios.TCSANOW, attributes)


def _reason(error: Exception) -> str:
    number = getattr(error, "errno", None)
    return os.strerror(number) if isinstance(number, int) and number > 0 else str(error)

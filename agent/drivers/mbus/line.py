"""An M-Bus line: bytes to and from it, one request and its answer, timeouts by baud rate."""

from __future__ import annotations

import asyncio
import os
import socket
import termios
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from serial import PARITY_EVEN, Serial, SerialException

from agent.core.clock import monotonic
from agent.core.errors import LinkLost
from agent.drivers.line_disturbance import (
    DRAINED_WITHIN,
    LATE_WITHIN,
    MEANT,
    QUIET,
    TALKED_OUT,
    How,
    Listener,
)
from agent.drivers.mbus.frame import acknowledged, sound, without_echo
from agent.drivers.serial_ports import heed_parity
from agent.drivers.trace import CAME, SENT, Recorded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

MOST_KEPT = 4096
"""received bytes that are kept; of more, the oldest are dropped"""
UNACKNOWLEDGED = 10_000
"""ms without an acknowledgement of TCP data after which the line counts as lost"""
CONNECT_WITHIN = 5.0
BITS = 11
"""bits of a byte on the wire: start, eight data bits, parity, stop"""
PATIENCE_BITS, PATIENCE = 330, 0.05
"""bit times, and seconds in addition, within which a meter begins to answer (EN 13757-2, 5.7.4)"""
GAP_BITS = 33
"""bit times of silence that end a frame; inside a frame a meter makes no such pause"""
DENSE = 0.8
"""share of the time that the line is occupied by a meter that sends without end; sparks leave gaps
"""
LONGEST = 261
"""bytes of the longest frame"""


class MbusWire(asyncio.Protocol, Recorded):
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
            if self.record:
                self.record(SENT, data, "")
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
        if self.record:
            self.record(CAME, data, "")
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
        raise LinkLost(
            "{name} does not answer within {within:g} s",
            name=name,
            within=CONNECT_WITHIN,
        ) from error
    except (OSError, UnicodeError) as error:  # UnicodeError: an empty label
        raise LinkLost("{name} cannot be reached: {why}", name=name, why=_reason(error)) from error
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
        raise LinkLost("{path} cannot be opened: {why}", path=port, why=_reason(error)) from error
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
            heed_parity(fd)

    try:
        heed_parity(fd)
        loop.add_reader(fd, arrived)
        wire.goes_to(lambda data: os.write(fd, data), tune)
        yield wire
    except termios.error as error:
        raise LinkLost("{port}: {reason}", port=port, reason=_reason(error)) from error
    finally:
        loop.remove_reader(fd)
        opened.close()


def _reason(error: Exception) -> str:
    number = getattr(error, "errno", None)
    return os.strerror(number) if isinstance(number, int) and number > 0 else str(error)


class Reply(NamedTuple):
    """The result of one request."""

    data: bytes = b""
    """the answer; empty: none came"""
    noise: bytes = b""
    """the bytes that were heard instead"""


class MbusLine:
    """An open line with its timeouts; one request at a time."""

    def __init__(
        self, wire: MbusWire, baudrate: int, latency: float, patience: float = PATIENCE
    ) -> None:
        self.wire, self.baudrate, self.latency, self.patience = wire, baudrate, latency, patience
        self.asked = 0
        """number of requests so far"""
        self.busy = 0.0
        """seconds that they took"""
        self.listener = Listener()
        self.turn = ""
        """the meter that is asked next; empty: a search"""
        self.spoilt = self.loud = False
        """spoilt: noise was heard in this turn instead of an answer, and counts against the meter;
        loud: a meter was sending without end when a request was due
        """
        self._ended, self._got_one, self._looked_at = 0.0, False, 0
        """when the last request was answered or given up, whether it was answered, and how many of
        the received bytes were evaluated already
        """

    def window(self, request: bytes, baudrate: int) -> float:
        """Seconds from the start of a request until an answer must have begun."""
        bits = len(request) * BITS + PATIENCE_BITS + BITS
        return bits / baudrate + self.patience + self.latency

    async def acknowledged(self, request: bytes, baudrate: int | None = None) -> Reply:
        """Send a request that a meter acknowledges (E5)."""
        return await self._exchange(request, baudrate or self.baudrate, acknowledged)

    async def frame(self, request: bytes, baudrate: int | None = None) -> Reply:
        """Send a request for a frame. The first valid frame of a meter counts, also among noise."""
        return await self._exchange(request, baudrate or self.baudrate, sound)

    async def chorus(self, request: bytes) -> Reply:
        """Send a request that several meters may answer, and wait until all have finished."""
        return await self._exchange(request, self.baudrate, lambda _: None)

    async def quiet(self, seconds: float) -> bytes:
        """The bytes that are heard in `seconds` without sending."""
        self.wire.received.clear()
        end = monotonic() + seconds
        while (left := end - monotonic()) > 0:
            await self.wire.news(left)
        return bytes(self.wire.received)

    async def _exchange(
        self, request: bytes, baudrate: int, wanted: Callable[[bytes], bytes | None]
    ) -> Reply:
        began = monotonic()
        try:
            return await self._answered(request, baudrate, wanted)
        finally:
            self.asked += 1
            self.busy += monotonic() - began

    async def _answered(
        self, request: bytes, baudrate: int, wanted: Callable[[bytes], bytes | None]
    ) -> Reply:
        # The bytes of a meter that sends without end arrive in pieces, and the pauses between them
        # look like silence: after such a meter only a long pause counts.
        if self.loud:
            self.loud = not await self._ends(QUIET, TALKED_OUT)
        elif len(self.wire.received) > self._looked_at:
            self.loud = not await self._ends(GAP_BITS / baudrate, DRAINED_WITHIN)
        self._strays()
        self.listener.asks(self.turn, monotonic(), busy=self.loud)
        self.wire.send(request, baudrate)
        began = monotonic()
        begun_by = began + self.window(request, baudrate)
        gap = GAP_BITS / baudrate + self.latency
        # No frame takes longer, so a meter that sends without end cannot hold up the line.
        last = begun_by + LONGEST * BITS / baudrate + gap
        until, heard = begun_by, b""
        while (left := until - monotonic()) > 0 and await self.wire.news(left):
            heard = without_echo(bytes(self.wire.received), request)
            if answer := wanted(heard):
                self._over(answered=True)
                if len(heard) == len(answer):
                    self.listener.clean()
                return Reply(answer)
            # Noise neither shortens nor extends the time in which a meter may begin to answer.
            until = min(max(begun_by, monotonic() + gap), last)
        self._over(answered=False)
        if len(heard) >= MEANT:
            self.spoilt |= self.listener.noise(self.wire.heard)
        return Reply(noise=heard)

    def _over(self, *, answered: bool) -> None:
        self._looked_at, self._ended = len(self.wire.received), monotonic()
        self._got_one = answered

    def _strays(self) -> None:
        """Evaluate and drop the bytes that came after an answer, or after the timeout."""
        behind = len(self.wire.received) - self._looked_at
        near = self.wire.began <= self._ended + QUIET
        if behind >= MEANT and near and self.listener.noise(self.wire.heard):
            how = How.MORE if self._got_one else How.NOISE
            self.listener.blame(self.listener.turn, how)
        self.wire.received.clear()
        self._looked_at = 0

    async def silent(self) -> None:
        """Handle the end of a silent turn. If the meter tends to answer late, wait for it."""
        if self.turn not in self.listener.late:
            self.listener.silent(monotonic())
            return
        heard, until = False, monotonic() + LATE_WITHIN
        while (left := until - monotonic()) > 0:
            heard |= await self.wire.news(left)
        if heard:
            self.listener.blame(self.turn, How.LATE)
        else:
            self.listener.late.discard(self.turn)

    async def drain(self) -> None:
        """Wait until the line is quiet after a meter that disturbs it."""
        self.loud = not await self._ends(QUIET, DRAINED_WITHIN)
        self.listener.drained(quiet=not self.loud)
        self._strays()

    async def _ends(self, gap: float, within: float) -> bool:
        """Wait until the line is quiet for `gap` seconds. Returns False if a meter sends without
        end.
        """
        began, came = monotonic(), self.wire.came
        while (left := self.wire.heard + gap - (now := monotonic())) > 0:
            if now >= began + within:
                return (self.wire.came - came) * BITS / self.baudrate < DENSE * within
            await self.wire.news(min(left, began + within - now))
        return True

"""Devices that disturb a line which others share: what they put on the wire instead of an answer.

The same on a serial line (`Unit.spoils` of hil.serial_line) and behind a Modbus TCP gateway, which
passes on what it hears. It shares no code with the driver.
"""

from __future__ import annotations

import asyncio
import random
import struct
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from hil.serial_line import crc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from hil.serial_line import Answerer, Says

BITS = 10
"""of a byte on the wire, 8N1"""
PIECE = 300
"""bytes that a gateway hands over at once"""
HEADER = struct.Struct(">HHHB")
"""transaction, protocol (0), bytes that follow (unit included), unit"""


class Kind(StrEnum):
    """What a disturber does when it is asked."""

    RANDOM = "random"
    """random bytes"""
    TRUNCATED = "truncated"
    """its answer without its end"""
    TWICE = "twice"
    """its answer, and again"""
    OTHER = "other"
    """its answer in the name of another unit"""
    LATE = "late"
    """its answer when its time is over and the next one's turn has come"""
    CHATTER = "chatter"
    """random bytes for half a minute"""
    CLOSES = "closes"
    """behind a gateway: the gateway closes the connection"""
    BEHIND = "behind"
    """behind a gateway: its late answer is passed on as that to the next question, and that one's
    answer as that to the one after, until the gateway has nothing to do for a moment"""


SERIAL = (Kind.RANDOM, Kind.TRUNCATED, Kind.TWICE, Kind.OTHER, Kind.LATE, Kind.CHATTER)
GATEWAY = tuple(Kind)


@dataclass
class Disturber:
    """One device that disturbs; `kind` may be changed at any time, None: it is well again."""

    kind: Kind | None
    other: int = 1
    """the unit in whose name it answers"""
    late: float = 1.3
    """seconds; the timeout is 1 s"""
    chatters: float = 30.0
    """seconds"""
    baudrate: int = 9600
    seed: int = 1
    asked: int = 0
    dice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self._deaf_until = 0.0
        """who speaks does not hear"""

    def __call__(self, frame: bytes) -> Says:
        """What is put on a serial line where the answer would be this frame."""
        other = bytes([self.other]) + frame[1:-2]
        return self.said(frame, other + crc(other))

    def said(self, frame: bytes, in_other_name: bytes) -> Says:
        """What is put on the wire: each so many seconds after the answer would begin."""
        dice, data, now = self.dice, frame, asyncio.get_running_loop().time()
        if now < self._deaf_until:
            return []
        self.asked += 1
        match self.kind:
            case Kind.RANDOM:
                data = dice.randbytes(dice.randrange(5, 60))
            case Kind.TRUNCATED:
                data = frame[: dice.randrange(1, len(frame) - 1)]
            case Kind.TWICE:
                data = frame + frame
            case Kind.OTHER:
                data = in_other_name
            case Kind.CHATTER:
                data = dice.randbytes(int(self.chatters * self.baudrate / BITS))
                self._deaf_until = now + self.chatters
        return [(self.late if self.kind is Kind.LATE else 0.0, data)]


class Gateway:
    """A Modbus TCP gateway with a serial line behind it: one question at a time, in order."""

    def __init__(self, baudrate: int = 9600) -> None:
        self.units: dict[int, Answerer] = {}
        self.disturbers: dict[int, Disturber] = {}
        self.baudrate = baudrate
        self.connections = 0

    def connected(self, write: Callable[[bytes], object], close: Callable[[], object]) -> _Visit:
        """A master has connected: what it sends goes to `feed` of the answer."""
        self.connections += 1
        return _Visit(self, write, close)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[int]:
        """Serve on 127.0.0.1; gives the port."""
        open_now: set[asyncio.Transport] = set()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Served(self, open_now), "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for transport in list(open_now):
                transport.abort()
            await server.wait_closed()


IDLE = 2.0
"""seconds without a question after which a gateway forgets what its serial line still brings"""
THINKS = 0.01
"""seconds until a device answers"""


class _Visit:
    """One connection."""

    def __init__(
        self, gateway: Gateway, write: Callable[[bytes], object], close: Callable[[], object]
    ) -> None:
        self._gateway, self._write, self._close = gateway, write, close
        self._buffer = b""
        self._free = 0.0
        """when the serial line is free again"""
        self._behind: deque[tuple[int, bytes]] = deque()
        """unit and PDU of answers that nobody waited for any more"""
        self._timers: list[asyncio.TimerHandle] = []

    def feed(self, data: bytes) -> None:
        """Bytes from the master."""
        self._buffer += data
        while len(self._buffer) >= HEADER.size:
            transaction, _, length, unit = HEADER.unpack_from(self._buffer)
            end = HEADER.size - 1 + length
            if len(self._buffer) < end:
                return
            pdu, self._buffer = self._buffer[HEADER.size : end], self._buffer[end:]
            self._ask(transaction, unit, pdu)

    def end(self) -> None:
        """The connection is gone, and what would have been sent on it."""
        for timer in self._timers:
            timer.cancel()

    def _ask(self, transaction: int, unit: int, pdu: bytes) -> None:
        gateway, now = self._gateway, asyncio.get_running_loop().time()
        answer = gateway.units[unit](pdu) if unit in gateway.units else None
        if answer is None:
            return
        if now > self._free + IDLE:
            self._behind.clear()
        taken = (len(pdu) + len(answer) + 6 + 7) * BITS / gateway.baudrate + THINKS
        self._free = max(now, self._free) + taken
        disturber = gateway.disturbers.get(unit)
        kind = disturber.kind if disturber else None
        if disturber and kind is Kind.BEHIND:
            disturber.asked += 1
            self._behind.append((unit, answer))
            return
        if self._behind:
            self._behind.append((unit, answer))
            unit, answer = self._behind.popleft()
        frame = _mbap(transaction, unit, answer)
        if disturber and kind is Kind.CLOSES:
            disturber.asked += 1
            self._later(self._free - now, self._close)
            return
        says = [(0.0, frame)]
        if disturber:
            says = list(disturber.said(frame, _mbap(transaction, disturber.other, answer)))
        for after, data in says:
            for at in range(0, len(data), PIECE):
                when = self._free - now + after + at * BITS / gateway.baudrate
                self._later(when, self._write, data[at : at + PIECE])

    def _later(self, after: float, call: Callable[..., object], *args: object) -> None:
        self._timers = [one for one in self._timers if not one.cancelled()][-1000:]
        self._timers.append(asyncio.get_running_loop().call_later(after, call, *args))


class _Served(asyncio.Protocol):
    def __init__(self, gateway: Gateway, open_now: set[asyncio.Transport]) -> None:
        self._gateway, self._open_now = gateway, open_now

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._open_now.add(transport)
        self._visit = self._gateway.connected(self._put, transport.close)

    def _put(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        self._visit.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._visit.end()
        self._open_now.discard(self._transport)


def _mbap(transaction: int, unit: int, pdu: bytes) -> bytes:
    return HEADER.pack(transaction, 0, len(pdu) + 1, unit) + pdu

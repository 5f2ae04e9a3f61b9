"""A small Modbus TCP server, written from the specification and from nothing else.

It shares no code with the agent's driver, so where both agree, both are likely right.
Sources: Modbus Messaging on TCP/IP V1.0b, 3.1.3 (the frame); Application Protocol V1.1b3, 6.3, 6.4
and 7 (reading registers, exceptions).
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE, NOBODY_THERE = 1, 2, 3, 11
READ_HOLDING, READ_INPUT = 3, 4
MOST_REGISTERS = 125
HEADER = struct.Struct(">HHHB")
"""transaction, protocol (0), bytes that follow (unit included), unit"""
REQUEST = struct.Struct(">HH")
"""first address, count"""
LONGEST = 254
"""unit and the longest PDU of 253 bytes"""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer, and when it goes."""

    pdu: bytes
    after: float = 0.0
    """seconds to hold it back"""
    sent: Callable[[float], None] | None = None
    """called just before it is handed to the network, with the time of the connection"""
    unit: int | None = None
    """the unit id in the answer, where it is not the one that was asked for"""


Answerer = Callable[[int, bytes], Reply | None]
"""unit and request PDU → the answer, or None for silence"""


def refuse(function: int, code: int) -> bytes:
    """Make the exception PDU for a request of this function."""
    return bytes([function | 0x80, code])


def asked(pdu: bytes) -> tuple[int, int, int] | bytes:
    """Read function, address and count of a request to read registers; or what refuses it.

    The order of the checks is that of the specification's figures 13 and 14: function, then count.
    """
    function = pdu[0]
    if function not in {READ_HOLDING, READ_INPUT}:
        return refuse(function, ILLEGAL_FUNCTION)
    if len(pdu) != 1 + REQUEST.size:
        return refuse(function, ILLEGAL_VALUE)
    address, count = REQUEST.unpack(pdu[1:])
    if not 1 <= count <= MOST_REGISTERS:
        return refuse(function, ILLEGAL_VALUE)
    if address + count > 0x10000:
        return refuse(function, ILLEGAL_ADDRESS)
    return function, address, count


class _Connection(asyncio.Protocol):
    """One client; frames may come in any pieces, and several at once."""

    def __init__(self, answer: Answerer, open_now: set[asyncio.Transport]) -> None:
        self.answer = answer
        self.open_now = open_now
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.since = transport, time.time()
        self.open_now.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.open_now.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while len(self.buffer) >= HEADER.size:
            transaction, protocol, length, unit = HEADER.unpack_from(self.buffer)
            if protocol != 0 or not 2 <= length <= LONGEST:
                self.transport.close()  # no frame begins here, and none can be found again
                return
            end = HEADER.size - 1 + length
            if len(self.buffer) < end:
                return
            pdu, self.buffer = self.buffer[HEADER.size : end], self.buffer[end:]
            self._reply(transaction, unit, pdu)

    def _reply(self, transaction: int, unit: int, pdu: bytes) -> None:
        reply = self.answer(unit, pdu)
        if reply is None:
            return
        unit = unit if reply.unit is None else reply.unit
        frame = HEADER.pack(transaction, 0, len(reply.pdu) + 1, unit) + reply.pdu
        if reply.after:
            asyncio.get_running_loop().call_later(reply.after, self._send, frame, reply)
        else:
            self._send(frame, reply)

    def _send(self, frame: bytes, reply: Reply) -> None:
        if self.transport.is_closing():
            return
        if reply.sent:
            reply.sent(self.since)
        self.transport.write(frame)


@asynccontextmanager
async def serving(answer: Answerer, port: int = 0) -> AsyncIterator[int]:
    """Serve on 127.0.0.1; gives the port. On leaving, connections are dropped."""
    open_now: set[asyncio.Transport] = set()
    server = await asyncio.get_running_loop().create_server(
        lambda: _Connection(answer, open_now), "127.0.0.1", port
    )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for transport in list(open_now):
            transport.abort()
        await server.wait_closed()

"""One Modbus TCP connection: one request at a time, its answer known by transaction and unit.

Modbus Messaging on TCP/IP V1.0b, 3.1.3. A late answer carries another transaction and is skipped.
One of our transaction and another unit is the only answer that will come, and no value: some hosts
answer with 255 or 0 whatever unit they are asked for, and whose value that is nobody knows. What is
left of a frame cut short leaves no beginning to hold on to, so the line is lost.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from agent import clock
from agent.drivers.modbus.answer import MBAP, Answer, checked, in_step, of_another
from agent.drivers.modbus.pace import Pace
from agent.drivers.modbus.use import Spent
from agent.errors import LinkLost
from agent.model import Why

if TYPE_CHECKING:
    from agent.drivers.modbus.stream import Stream

HEADER = struct.Struct(">HHHB")
"""transaction, protocol (0), bytes that follow (unit included), unit"""
LONGEST = 254
"""unit and the longest PDU"""


class TcpWire:
    """An open connection to one host."""

    def __init__(self, stream: Stream, timeout: float) -> None:
        self.stream = stream
        self.timeout = timeout
        self.spent = Spent()
        self.pace = Pace()
        self._transaction = 0

    async def exchange(self, unit: int, pdu: bytes) -> Answer:
        """Ask one unit. Raises LinkLost when the line is gone or out of step."""
        if not in_step(bytes(self.stream.received)):
            raise LinkLost(f"{self.stream.name} sent a broken frame")
        self.stream.received.clear()
        self._transaction = self._transaction % 0xFFFF + 1
        began = clock.monotonic()
        self.stream.send(HEADER.pack(self._transaction, 0, len(pdu) + 1, unit) + pdu)
        found = await self._answer(began + self.timeout)
        self.spent.note(unit, began, found is not None and found[0] == unit)
        if found is None:
            detail = f"no answer in {self.timeout:g} s"
            return Answer(clock.seconds(), why=Why.SILENT, detail=detail)
        who, answered = found
        if who != unit:
            return of_another(who, answered, clock.seconds())
        answer = checked(pdu, answered, clock.seconds())
        self.pace.note(unit, pdu, answer, clock.monotonic() - began)
        return answer

    async def _answer(self, deadline: float) -> tuple[int, bytes] | None:
        while (found := self._frame()) is None:
            left = deadline - clock.monotonic()
            if left <= 0 or not await self.stream.more(left):
                return None
        return found

    def _frame(self) -> tuple[int, bytes] | None:
        """Take whole frames off the front until one is of our transaction: its unit and PDU."""
        received = self.stream.received
        while len(received) >= HEADER.size:
            transaction, protocol, length, unit = HEADER.unpack_from(received)
            if protocol or not 1 < length <= LONGEST or len(received) < MBAP + length:
                return None
            pdu = bytes(received[HEADER.size : MBAP + length])
            del received[: MBAP + length]
            if transaction == self._transaction:
                return unit, pdu
        return None

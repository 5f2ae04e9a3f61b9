"""One Modbus TCP connection: one request at a time, its answer known by transaction and unit.

Modbus Messaging on TCP/IP V1.0b, 3.1.3. A late answer carries another transaction and is skipped.
One of our transaction and another unit is the only answer that will come, and no value: some hosts
answer with 255 or 0 whatever unit they are asked for, and whose value that is nobody knows. Where
it is a unit that was asked before and owes an answer, the gateway is one behind. Then, and where a
frame cut short leaves no beginning to hold on to, the line is out of step: it is opened anew, and
whoever is asked is asked again.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from agent import clock
from agent.drivers.line_disturbance import How, Listener
from agent.drivers.modbus.answer import MBAP, RequestResult, checked, in_step, of_another
from agent.drivers.modbus.latency import Latency
from agent.drivers.modbus.statistics import Spent
from agent.errors import OutOfStep
from agent.model import Why

if TYPE_CHECKING:
    from agent.drivers.modbus.stream import ByteStream

HEADER = struct.Struct(">HHHB")
"""transaction, protocol (0), bytes that follow (unit included), unit"""
LONGEST = 254
"""unit and the longest PDU"""
REMEMBERED = 64
"""questions of which an answer that comes late or again is known"""


class TcpWire:
    """An open connection to one host."""

    def __init__(self, stream: ByteStream, timeout: float) -> None:
        self.stream = stream
        self.timeout = timeout
        self.spent = Spent()
        self.pace = Latency()
        self._transaction = 0
        self.listener = Listener()
        self._asked: dict[int, tuple[int, bool]] = {}
        """by transaction: the unit that was asked, and whether it has answered"""
        self._owing: set[int] = set()
        """units that have not answered the last question"""
        self._noticed = False
        """it is known in whose turn the line went out of step"""

    async def exchange(self, unit: int, pdu: bytes) -> RequestResult:
        """Ask one unit. Raises LinkLost when the line is gone, OutOfStep where it must be opened
        anew.
        """
        self._frame()
        if not in_step(bytes(self.stream.received)):
            if self.listener.turn and not self._noticed:
                self.listener.blame(self.listener.turn, How.MORE)
            raise OutOfStep(f"{self.stream.name} sent a broken frame")
        self.stream.received.clear()
        self._noticed = False
        self._transaction = self._transaction % 0xFFFF + 1
        self._asked[self._transaction] = unit, False
        self._asked.pop(self._transaction - REMEMBERED, None)
        began = clock.monotonic()
        self.stream.send(HEADER.pack(self._transaction, 0, len(pdu) + 1, unit) + pdu)
        self.listener.asks(str(unit), began, busy=False)
        try:
            reply = await self._answer(began + self.timeout)
        except OutOfStep:
            self.listener.blame(str(unit), How.HANGS_UP)
            raise
        self.spent.note(unit, began, reply is not None and reply[0] == unit)
        if reply is None:
            return self._silent(unit)
        answering, answer_pdu = reply
        if answering != unit:
            return self._other(unit, answering, answer_pdu)
        self._owing.discard(unit)
        answer = checked(pdu, answer_pdu, clock.seconds())
        self.pace.note(unit, pdu, answer, clock.monotonic() - began)
        return answer

    def _silent(self, unit: int) -> RequestResult:
        """What follows where nothing came that is an answer."""
        if not in_step(bytes(self.stream.received)):
            if self._owing - {
                unit
            }:  # it may be another's, late and broken: only asking again tells
                raise OutOfStep(f"{self.stream.name} sent a broken frame")
            self._noticed = True
            self.listener.blame(str(unit), How.NOISE)
            self.listener.spoilt()
        self._owing.add(unit)
        detail = f"no answer in {self.timeout:g} s"
        return RequestResult(clock.seconds(), why=Why.SILENT, detail=detail)

    def _other(self, unit: int, answering: int, pdu: bytes) -> RequestResult:
        """What follows where another unit answered."""
        answer = of_another(answering, pdu, clock.seconds())
        if answer.unit is None:
            return answer
        if answering in self._owing:
            self.listener.blame(str(answering), How.LATE)
            raise OutOfStep(f"{self.stream.name} gives the answer to an earlier question")
        if any(answering == asked for asked, _ in self._asked.values()):
            self.listener.blame(str(unit), How.OTHER)
            self.listener.spoilt()
        return answer

    async def _answer(self, deadline: float) -> tuple[int, bytes] | None:
        while (frame := self._frame()) is None:
            left = deadline - clock.monotonic()
            if left <= 0 or not await self.stream.more(left):
                return None
        return frame

    def _frame(self) -> tuple[int, bytes] | None:
        """Take whole frames off the front until one is of our transaction: its unit and PDU."""
        received = self.stream.received
        while len(received) >= HEADER.size:
            transaction, protocol, length, unit = HEADER.unpack_from(received)
            if protocol or not 1 < length <= LONGEST or len(received) < MBAP + length:
                return None
            pdu = bytes(received[HEADER.size : MBAP + length])
            del received[: MBAP + length]
            if transaction not in self._asked:
                continue
            whose, answered = self._asked[transaction]
            self._asked[transaction] = whose, True
            if answered:
                self.listener.blame(str(whose), How.TWICE)
            elif transaction == self._transaction:
                return unit, pdu
        return None

"""One Modbus TCP connection: one request at a time, its answer known by transaction and unit.

Modbus Messaging on TCP/IP V1.0b, 3.1.3. A late answer has another transaction and is skipped. An
answer with the right transaction and another unit gives no value: some hosts answer with unit 255
or 0 whatever unit was asked, so the source of the value is not known. If that unit was asked before
and did not answer, the Modbus gateway is one answer behind. In this case, and after an incomplete
frame, which hides where the next one begins, the connection is out of step: it is opened again, and
the request is repeated.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from agent.core import clock
from agent.core.errors import OutOfStep
from agent.core.model import Why
from agent.drivers.line_disturbance import How, Listener
from agent.drivers.modbus.answer import MBAP, RequestResult, checked, in_step, of_another
from agent.drivers.modbus.statistics import Latency, LineUsage

if TYPE_CHECKING:
    from agent.drivers.modbus.stream import ByteStream

HEADER = struct.Struct(">HHHB")
"""transaction, protocol (0), bytes that follow (unit included), unit"""
LONGEST = 254
"""bytes of the unit id and the longest PDU"""
REMEMBERED = 64
"""last requests of which a late or repeated answer is recognized"""


class TcpWire:
    """An open connection to one host."""

    def __init__(self, stream: ByteStream, timeout: float) -> None:
        self.stream = stream
        self.timeout = timeout
        self.usage = LineUsage()
        self.pace = Latency()
        self._transaction = 0
        self.listener = Listener()
        self._asked: dict[int, tuple[int, bool]] = {}
        """by transaction: the unit that was asked, and whether it has answered"""
        self._unanswered: set[int] = set()
        """units that have not answered their last request"""
        self._noticed = False
        """a device was already blamed for the broken frame that is still there"""

    async def exchange(self, unit: int, pdu: bytes) -> RequestResult:
        """Send a request to one unit and wait for its answer.

        Raises LinkLost when the connection is gone, OutOfStep when it must be opened again.
        """
        self._frame()
        # Bytes of a broken frame would be read as the beginning of the next answer.
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
        self.usage.note(unit, began, reply is not None and reply[0] == unit)
        if reply is None:
            return self._silent(unit)
        answering, answer_pdu = reply
        if answering != unit:
            return self._other(unit, answering, answer_pdu)
        self._unanswered.discard(unit)
        answer = checked(pdu, answer_pdu, clock.seconds())
        self.pace.note(unit, pdu, answer, clock.monotonic() - began)
        return answer

    def _silent(self, unit: int) -> RequestResult:
        """The result when no answer came. Raises OutOfStep if an overdue one may be broken."""
        if not in_step(bytes(self.stream.received)):
            # It may be the late answer of another unit. Only repeating the request shows whether
            # this unit answers.
            if self._unanswered - {unit}:
                raise OutOfStep(f"{self.stream.name} sent a broken frame")
            self._noticed = True
            self.listener.blame(str(unit), How.NOISE)
            self.listener.spoilt()
        self._unanswered.add(unit)
        detail = f"no answer in {self.timeout:g} s"
        return RequestResult(clock.seconds(), why=Why.SILENT, detail=detail)

    def _other(self, unit: int, answering: int, pdu: bytes) -> RequestResult:
        """The result when another unit answered. Raises OutOfStep if its answer was overdue."""
        answer = of_another(answering, pdu, clock.seconds())
        if answer.unit is None:
            return answer
        if answering in self._unanswered:
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
        """Remove whole frames up to the one of the present transaction, and return its unit and
        PDU; None: it has not arrived.
        """
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

"""Modbus as heard on a line: each frame in a sentence, and what is odd about it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.core.i18n import N_, Text
from agent.core.model import Why
from agent.drivers.modbus.answer import (
    FROM_GATEWAY,
    MBAP,
    READS,
    REFUSED,
    REGISTERS,
    cells,
    checked,
    expected_size,
)
from agent.drivers.modbus.rtu import SHORTEST, WRITES, find, frames_in
from agent.drivers.modbus.wire import HEADER, LONGEST_TCP, REMEMBERED
from agent.drivers.trace import CAME, NOTE, SENT, Frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.drivers.modbus.rtu import RtuFrame, Speed
    from agent.drivers.trace import Event

TABLES = {1: "coil", 2: "discrete", 3: "holding", 4: "input", 5: "coil", 6: "holding",
          15: "coil", 16: "holding"}  # fmt: skip
"""by function, the table as `at` names it"""
PROBED = frozenset({1, 2, 3})
"""exception codes with which devices answer a search: it asks for what not every device has"""
IDENTIFICATION = 0x2B
MOST_BYTES = 4096
"""bytes of one turn that are looked at; a device may send without end"""
WAITING = 10
"""unanswered requests of a unit that are remembered"""
ROOM = 0.05
"""seconds of tolerance before an answer counts as late"""
READ_REQUEST = 5
"""bytes of a request PDU to read"""


def request_text(unit: int, pdu: bytes) -> Text:
    """Say what a unit is asked."""
    function, asked = pdu[0], str(unit)
    if function not in TABLES or len(pdu) < READ_REQUEST:
        if function == IDENTIFICATION:
            return Text("unit {unit} is asked who made it", unit=asked)
        return Text("unit {unit} is sent function {function}", unit=asked, function=function)
    first, count = int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
    last = first + (count if function in READS or function > 6 else 1) - 1  # noqa: PLR2004 -- 5, 6
    message = (
        N_("unit {unit} is asked for {table} {first} to {last}")
        if function in READS
        else N_("WRITE to unit {unit}: {table} {first} to {last}")
    )
    return Text(message, unit=asked, table=TABLES[function], first=str(first), last=str(last))


def _values(pdu: bytes, answer: bytes) -> tuple[dict[str, Any], ...]:
    if pdu[0] not in READS:
        return ()
    first, count = int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
    hexed = pdu[0] in REGISTERS
    return tuple(
        {"at": f"{TABLES[pdu[0]]}/{first + n}", "value": value}
        | ({"hex": f"{value:04X}"} if hexed else {})
        for n, value in enumerate(cells(answer, count))
    )


def _answer(  # noqa: PLR0913 -- a frame and its request
    at: float, took: float, unit: int, asked: tuple[bytes, bytes], data: bytes, *, late: bool
) -> Frame:
    """Explain the answer of the unit that was asked; `asked`: PDUs of request and answer."""
    request, pdu = asked
    name, result = str(unit), checked(request, pdu, 0.0)
    if result.code and not late:
        text = Text(
            "unit {unit} refuses: exception {code}, {meaning}",
            unit=name, code=str(result.code), meaning=result.detail,
        )  # fmt: skip
        probed = result.code in PROBED | FROM_GATEWAY and request[0] not in WRITES
        return Frame(at, CAME, name, data, text, odd="exception", code=result.code, expected=probed)
    if result.why is Why.BAD and not result.code:
        text = Text("unit {unit}: {detail}", unit=name, detail=result.detail)
        wrong_length = pdu[0] == request[0] and pdu[0] in READS
        return Frame(at, CAME, name, data, text, odd="length" if wrong_length else "function")
    values = () if result.code else _values(request, pdu)
    if late:
        text = Text("unit {unit} answers after its timeout: {took:.2f} s", unit=name, took=took)
        return Frame(at, CAME, name, data, text, values, odd="late")
    text = Text("unit {unit} answers after {ms:.0f} ms", unit=name, ms=took * 1000)
    return Frame(at, CAME, name, data, text, values)


class RtuAnalyser:
    """Explains RTU. A turn lasts from one request to the next."""

    def __init__(self, timeout: float, speed: Speed) -> None:
        self._timeout, self._speed = timeout, speed
        self._request: tuple[float, bytes] | None = None
        self._pieces: list[tuple[int, float]] = []
        """where each piece of the bytes heard begins, and when it came"""
        self._heard = bytearray()
        self._waiting: dict[int, list[tuple[float, bytes]]] = {}
        """by unit, the times and PDUs of requests without an answer"""
        self._before: dict[int, tuple[float, bytes]] = {}
        """by unit, the request before the present one"""

    def feed(self, event: Event) -> Iterator[Frame]:
        """Take the next event; see `agent.drivers.analysis.Analyser`."""
        if event.direction == CAME:
            if len(self._heard) < MOST_BYTES:
                self._pieces.append((len(self._heard), event.at))
                self._heard += event.data
            return
        yield from self.end()
        if event.direction == SENT and len(event.data) > len("ufcc"):
            self._request = event.at, event.data
            unit, pdu = event.data[0], event.data[1:-2]
            yield Frame(event.at, SENT, str(unit), event.data, request_text(unit, pdu))

    def end(self) -> Iterator[Frame]:
        """Explain the present turn, and end it."""
        request, heard = self._request, bytes(self._heard)
        self._request = None
        try:
            if request is None:
                yield from self._others(heard, 0, None)
            else:
                yield from self._turn(*request, heard)
                self._before[request[1][0]] = request[0], request[1][1:-2]
        finally:
            self._heard.clear()
            self._pieces.clear()

    def _at(self, offset: int) -> float:
        return max((at for start, at in self._pieces if start <= offset), default=0.0)

    def _turn(self, asked_at: float, request: bytes, heard: bytes) -> Iterator[Frame]:
        unit, pdu = request[0], request[1:-2]
        begin = len(request) if heard.startswith(request) and pdu[0] in READS else 0
        answer = find(heard[begin:], unit, pdu)
        if not heard[begin:]:
            self._overdue(unit, asked_at, pdu)
            yield Frame(asked_at, NOTE, str(unit), b"", _silence(unit))
            return
        if not answer.pdu:
            frames = list(self._others(heard[begin:], begin, (unit, pdu)))
            if not any(frame.device == str(unit) for frame in frames):
                self._overdue(unit, asked_at, pdu)
            yield from frames
            return
        end = begin + answer.end
        start = end - len(answer.pdu) - 3
        yield from self._others(heard[begin:start], begin, None)
        took = self._at(start) - asked_at
        length = len(request) * self._speed.character
        late = took > self._timeout + length + ROOM
        yield _answer(self._at(start), took, unit, (pdu, answer.pdu), heard[start:end], late=late)
        yield from self._others(heard[end:], end, None, answered=(unit, heard[start:end]))

    def _overdue(self, unit: int, at: float, pdu: bytes) -> None:
        self._waiting[unit] = [*self._waiting.get(unit, [])[1 - WAITING :], (at, pdu)]

    def _others(
        self,
        part: bytes,
        begin: int,
        asked: tuple[int, bytes] | None,
        answered: tuple[int, bytes] | None = None,
    ) -> Iterator[Frame]:
        """Explain bytes that are not the answer; `begin`: where they begin among those heard.

        `asked`: the unit and PDU of the request, if it has no answer; `answered`: if it has.
        """
        at = 0
        for frame in frames_in(part):
            start = part.find(frame.data, at)
            yield from self._noise(part[at:start], begin + at, asked)
            yield self._frame(frame, self._at(begin + start), asked, answered)
            at = start + len(frame.data)
        yield from self._noise(part[at:], begin + at, asked)

    def _frame(
        self,
        frame: RtuFrame,
        at: float,
        asked: tuple[int, bytes] | None,
        answered: tuple[int, bytes] | None,
    ) -> Frame:
        unit, name, data = frame.unit, str(frame.unit), frame.data
        if len(frame.pdu) == READ_REQUEST and frame.pdu[0] in REGISTERS:
            text = Text("another master sends: {request}", request=request_text(unit, frame.pdu))
            return Frame(at, CAME, name, data, text, odd="master")
        for since, pdu in self._waiting.get(unit, []):
            if len(frame.pdu) == expected_size(pdu) or frame.pdu[0] == pdu[0] | REFUSED:
                self._waiting[unit].remove((since, pdu))
                return _answer(at, at - since, unit, (pdu, frame.pdu), data, late=True)
        if answered and answered == (unit, data):
            text = Text("unit {unit} sends its answer twice", unit=name)
            return Frame(at, CAME, name, data, text, odd="twice")
        if asked and asked[0] == unit:
            since, before = self._before.get(unit, (0.0, b"\0"))
            if frame.pdu[0] & ~REFUSED == before[0] != asked[1][0]:
                # a device that is one answer behind
                return _answer(at, at - since, unit, (before, frame.pdu), data, late=True)
            return _answer(at, 0.0, unit, (asked[1], frame.pdu), data, late=False)
        text = Text(
            "a frame of unit {unit}, which was not asked", unit=name
        ) if asked is None else Text(
            "unit {unit} answers when unit {asked} is asked", unit=name, asked=str(asked[0])
        )  # fmt: skip
        return Frame(at, CAME, name if asked is None else str(asked[0]), data, text, odd="unit")

    def _noise(self, data: bytes, begin: int, asked: tuple[int, bytes] | None) -> Iterator[Frame]:
        if not data:
            return
        at = self._at(begin)
        if asked:
            unit, pdu = asked
            starts = [data.find(bytes((unit, function))) for function in (pdu[0], pdu[0] | REFUSED)]
            start = min((start for start in starts if start >= 0), default=-1)
            if start >= 0:
                yield from self._noise(data[:start], begin, None)
                yield _damaged(self._at(begin + start), unit, pdu, data[start:])
                return
            if len(data) == 1 and data[0] == unit:
                yield _damaged(at, unit, pdu, data)
                return
        text = Text("{number} bytes that are no frame: noise", number=len(data))
        yield Frame(at, CAME, str(asked[0]) if asked else "", data, text, odd="noise")


def _damaged(at: float, unit: int, pdu: bytes, data: bytes) -> Frame:
    refused = len(data) > 1 and bool(data[1] & REFUSED)
    size = SHORTEST if refused else (expected_size(pdu) or 0) + 3
    name = str(unit)
    if len(data) < size:
        text = Text(
            "unit {unit}: its answer is cut short, {number} of {size} bytes",
            unit=name, number=len(data), size=size,
        )  # fmt: skip
        return Frame(at, CAME, name, data, text, odd="short")
    text = Text(
        "unit {unit}: the checksum of its answer is wrong ({number} bytes)",
        unit=name, number=len(data),
    )  # fmt: skip
    return Frame(at, CAME, name, data, text, odd="checksum")


def _silence(unit: int) -> Text:
    return Text("unit {unit} does not answer", unit=str(unit))


class TcpAnalyser:
    """Explains Modbus TCP, where each answer names the transaction of its request."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._asked: dict[int, tuple[float, int, bytes, bool]] = {}
        """by transaction: time, unit and PDU of the request, and whether it was answered"""
        self._open: int | None = None
        """the last transaction, if it has no answer yet"""
        self._buffer = bytearray()
        self._at = 0.0

    def feed(self, event: Event) -> Iterator[Frame]:
        """Take the next event; see `agent.drivers.analysis.Analyser`."""
        self._at = event.at
        if event.direction == CAME:
            self._buffer += event.data
            yield from self._frames()
            return
        yield from self.end()
        if event.direction == SENT and len(event.data) > HEADER.size:
            transaction, _, _, unit = HEADER.unpack_from(event.data)
            pdu = event.data[HEADER.size :]
            self._asked[transaction] = event.at, unit, pdu, False
            self._asked.pop(transaction - REMEMBERED, None)
            self._open = transaction
            yield Frame(event.at, SENT, str(unit), event.data, request_text(unit, pdu))

    def end(self) -> Iterator[Frame]:
        """Explain what is left of the present turn."""
        if self._buffer:
            unit = str(self._asked[self._open][1]) if self._open in self._asked else ""
            text = Text("{number} bytes of a frame that is not whole", number=len(self._buffer))
            yield Frame(self._at, CAME, unit, bytes(self._buffer), text, odd="short")
            self._buffer.clear()
        elif self._open in self._asked:
            at, asked, _, _ = self._asked[self._open]
            yield Frame(at, NOTE, str(asked), b"", _silence(asked))
        self._open = None

    def _frames(self) -> Iterator[Frame]:
        while len(self._buffer) >= HEADER.size:
            transaction, protocol, length, unit = HEADER.unpack_from(self._buffer)
            if protocol or not 1 < length <= LONGEST_TCP:
                text = Text("{number} bytes that are no frame: noise", number=len(self._buffer))
                whose = str(self._asked[self._open][1]) if self._open in self._asked else ""
                yield Frame(self._at, CAME, whose, bytes(self._buffer), text, odd="noise")
                self._buffer.clear()
                return
            if len(self._buffer) < MBAP + length:
                return
            data = bytes(self._buffer[: MBAP + length])
            del self._buffer[: MBAP + length]
            yield self._frame(transaction, unit, data)

    def _frame(self, transaction: int, unit: int, data: bytes) -> Frame:
        pdu, name = data[HEADER.size :], str(unit)
        if transaction not in self._asked:
            text = Text("unit {unit} sends an answer that no request asked for", unit=name)
            return Frame(self._at, CAME, name, data, text, odd="noise")
        at, asked, request, answered = self._asked[transaction]
        self._asked[transaction] = at, asked, request, True
        late = transaction != self._open or self._at - at > self._timeout + ROOM
        if transaction == self._open:
            self._open = None
        if answered:
            text = Text("unit {unit} sends its answer twice", unit=str(asked))
            return Frame(self._at, CAME, str(asked), data, text, odd="twice")
        if unit != asked and not (pdu[0] & REFUSED and pdu[1:2] and pdu[1] in FROM_GATEWAY):
            text = Text(
                "unit {unit} answers when unit {asked} is asked", unit=name, asked=str(asked)
            )
            return Frame(self._at, CAME, str(asked), data, text, odd="unit")
        return _answer(self._at, self._at - at, asked, (request, pdu), data, late=late)

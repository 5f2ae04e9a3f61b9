"""One Modbus connection, over TCP or RTU.

A late answer is never taken for the answer to a later request.

RTU: after a timeout the answer of a unit is overdue. Until it has arrived, or is unlikely to arrive
any more, that unit is not asked for an answer of the same length. Instead one cell more is read; if
the device refuses that, it is not read meanwhile. Rule F1.

TCP (Modbus Messaging on TCP/IP V1.0b, 3.1.3): one request at a time, its answer known by
transaction and unit. A late answer has another transaction and is skipped. An answer with the right
transaction and another unit gives no value: some hosts answer with unit 255 or 0 whatever unit was
asked, so the source of the value is not known. If that unit was asked before and did not answer,
the Modbus gateway is one answer behind. In this case, and after an incomplete frame, which hides
where the next one begins, the connection is out of step: it is opened again, and the request is
repeated.
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.core import clock
from agent.core.clock import monotonic
from agent.core.errors import OutOfStep
from agent.core.i18n import EMPTY, Text
from agent.core.model import Why
from agent.drivers.line_disturbance import DRAINED_WITHIN, MEANT, QUIET, TALKED_OUT, How, Listener
from agent.drivers.modbus.answer import (
    BITS,
    MBAP,
    RANGE,
    READS,
    REFUSED,
    Latency,
    LineUsage,
    RequestResult,
    checked,
    expected_size,
    in_step,
    of_another,
)
from agent.drivers.modbus.codec import LONGEST_OF
from agent.drivers.modbus.rtu import (
    LONGEST,
    SHORTEST,
    Speed,
    asked_in,
    began_in,
    find,
    framed,
    frames_in,
)

if TYPE_CHECKING:
    from agent.drivers.modbus.stream import ByteStream

OWED_FOR = 60.0
"""seconds after which an overdue answer is no longer expected"""
LATEST = 10
"""timeouts for which a unit is not asked that cannot be asked for a longer answer instead"""

Overdue = dict[int, tuple[float, bytes]]
"""by the length of the overdue answer in bytes: monotonic time of the request, and its PDU"""
ANSWERED, UNKNOWN, SILENT = 8, 3, 2
"""allowance of a unit for failed attempts in one exchange: if it answered last time, if it was
never asked, if it was silent
"""
GARBLED_COSTS, SILENCE_COSTS = 1, 3
"""what an attempt takes off the allowance: a unit that answered has three silent attempts, one that
was silent has one
"""
REPEATED = 4
"""timeouts within which the answer to a request is accepted for its repetition"""
OVERSLEEP = 0.001
"""seconds by which the event loop may wake up late"""
NOT_ASKED = -1
"""code of a result for which nothing was sent"""
LONGEST_TALK = 0.5
"""seconds to wait at most for others to finish before a request is sent all the same"""
DENSE = 0.8
"""share of the time that the line is occupied by a device that sends without end"""
NETWORKED = Speed(9600)
"""assumed speed of a line behind a converter, which alone knows the real one"""
GARBLED = Text("garbled answer")


def no_answer(within: float) -> Text:
    """Return what is said of a request that got no answer."""
    return Text("no answer in {seconds:g} s", seconds=within)


MOST = 2 * LONGEST
"""bytes in which an answer is searched; older ones are dropped"""
HEADER = struct.Struct(">HHHB")
"""transaction, protocol (0), bytes that follow (unit included), unit"""
LONGEST_TCP = 254
"""bytes of the unit id and the longest PDU"""
REMEMBERED = 64
"""last requests of which a late or repeated answer is recognized"""


class LateResponses:
    """The overdue answers of all units of one line."""

    def __init__(self) -> None:
        self.slowest = 0.0
        """seconds of the slowest answer so far, including late ones"""
        self._by_unit: dict[int, Overdue] = {}
        self._unpadded: set[int] = set()
        """units that refused a read of one cell more than needed"""

    def of(self, unit: int) -> Overdue:
        """The overdue answers of one unit that may still arrive."""
        since = monotonic() - OWED_FOR
        left = {
            size: overdue
            for size, overdue in self._by_unit.get(unit, {}).items()
            if overdue[0] > since
        }
        self._by_unit[unit] = left
        return left

    def asked(self, unit: int, pdu: bytes, at: float) -> None:
        """Note a request sent at a monotonic time."""
        # 0: an answer whose length is not known beforehand (43/14).
        self._by_unit.setdefault(unit, {})[expected_size(pdu) or 0] = (at, pdu)

    def answered(self, unit: int, pdu: bytes) -> None:
        """Note that the answer to a request has arrived, intact or not."""
        self._by_unit[unit].pop(expected_size(pdu) or 0, None)

    def refused(self, unit: int, function: int) -> None:
        """Note an exception. It does not tell which request it answers.

        It is taken for the oldest one of its function, since a device answers in order. The answers
        to later requests may still arrive.
        """
        overdue = self._by_unit[unit]
        waiting = [(at, size) for size, (at, pdu) in overdue.items() if pdu[0] == function]
        if waiting:
            at, size = min(waiting)
            self.took(min(monotonic() - at, OWED_FOR))
            del overdue[size]

    def has(self, unit: int, pdu: bytes) -> bool:
        """Whether an answer is one that is overdue from a unit."""
        if pdu[0] & REFUSED:
            return any(asked[0] == pdu[0] & ~REFUSED for _, asked in self.of(unit).values())
        return len(pdu) in self.of(unit)

    def took(self, seconds: float) -> None:
        """Note how long an answer took."""
        self.slowest = max(self.slowest, seconds)

    def patience(self, timeout: float) -> float:
        """Seconds after a request during which its answer may still arrive."""
        return min(OWED_FOR, max(LATEST * timeout, 2 * self.slowest))

    def refused_more(self, unit: int) -> None:
        """Note that a unit refuses to read more cells than needed."""
        self._unpadded.add(unit)

    def longer(self, unit: int, pdu: bytes) -> bytes | None:
        """The same read with more cells, so that its answer has a length that is not overdue.

        None if there is no such read.
        """
        if pdu[0] not in READS or unit in self._unpadded:
            return None
        overdue = self.of(unit)
        start, count = int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
        # An answer with bits is longer only by a whole byte, which is eight more bits.
        step, most = 8 if pdu[0] in BITS else 1, LONGEST_OF[pdu[0]]
        for more in range(count + step, min(most, 0x10000 - start) + 1, step):
            longer = pdu[:3] + more.to_bytes(2, "big")
            if expected_size(longer) not in overdue:
                return longer
        return None

    def settle(self, heard: bytes | bytearray) -> bool:
        """Remove late answers among received bytes from the overdue ones. Returns whether there
        were any.
        """
        settled = False
        for unit, overdue in self._by_unit.items() if heard else ():
            # One exception is found again for each overdue request of its function, but it answers
            # only one of them.
            refusals: set[int] = set()
            for size, (at, pdu) in list(overdue.items()):
                came = find(heard, unit, pdu).pdu
                settled |= bool(came)
                if came and came[0] & REFUSED:
                    refusals.add(pdu[0])
                elif came:
                    self.took(min(monotonic() - at, OWED_FOR))
                    del overdue[size]
            for function in refusals:
                self.refused(unit, function)
        return settled


class RtuWire:
    """An open line that speaks RTU; one request at a time."""

    def __init__(self, stream: ByteStream, speed: Speed, timeout: float) -> None:
        self.stream, self.speed, self.timeout = stream, speed, timeout
        self.usage = LineUsage()
        self.pace = Latency()
        self.quiet_until = monotonic() + timeout
        """nothing is sent before: requests from before the line was opened may still be answered"""
        self.echo: bool | None = None
        """whether the adapter returns the bytes that are sent; None: not known yet"""
        self.turnaround: dict[int, float] = {}
        """by unit: the fewest seconds from a request to its answer, without their characters"""
        self._late = LateResponses()
        self._allowance: dict[int, int] = {}
        """by unit: its allowance for failed attempts, from its last exchange"""
        self._sent = b""
        """the last request; it may come back late, as an echo"""
        self._noisy = False
        """noise was heard on this line, which may damage requests as well as answers"""
        self.listener = Listener()
        self._loud = False
        """a device was sending without end at the last look"""
        self._spoilt = False
        """noise was heard instead of an answer, and counts against the unit that was asked"""
        self._ended, self._answered, self._weighed = 0.0, False, 0
        """when the last request was answered or given up, whether it was answered, and how many of
        the received bytes were evaluated already
        """

    async def exchange(self, unit: int, pdu: bytes) -> RequestResult:
        """Send a request to one unit; repeat it if noise damaged the answer. Raises LinkLost.

        A unit that answered last time gets three attempts, since noise may have damaged the request
        as well. A unit that was silent last time costs one timeout. So does one that was never
        asked, if the line is without noise.
        """
        self._spoilt = False
        answer = await self._ask_repeatedly(unit, pdu)
        if answer.garbled and self._spoilt:
            self.listener.blame(str(unit), How.NOISE)
        if answer.garbled or self.listener.watched[str(unit)]:
            await self._drain()
        return answer

    async def _ask_repeatedly(self, unit: int, pdu: bytes) -> RequestResult:
        left = self._allowance.get(unit, UNKNOWN)
        known = unit in self._allowance
        self._allowance[unit] = SILENT
        while True:
            answer = await self._ask_distinctly(unit, pdu)
            silent = answer.why is Why.SILENT and not answer.garbled
            if not silent and not answer.garbled:
                self._allowance[unit] = ANSWERED
                return answer
            if answer.garbled and self._loud:
                return answer  # a repeated request would not be heard either
            left -= SILENCE_COSTS if silent else GARBLED_COSTS
            if left < 0 or (silent and (answer.code or not (known or self._noisy))):
                return answer

    async def once(self, unit: int, pdu: bytes, linger: float = 0.0) -> tuple[RequestResult, int]:
        """Send a request once, for a scan. Returns also how many further bytes came within `linger`
        seconds after the answer: a second device may have the same unit id.
        """
        answer = await self._ask_once(unit, pdu)
        before = len(self.stream.received)
        until = monotonic() + (0.0 if answer.why is Why.SILENT else linger)
        while (left := until - monotonic()) > 0:
            await self.stream.more(left)
        return answer, len(self.stream.received) - (0 if answer.pdu else before)

    async def overhear(self, seconds: float) -> int:
        """Listen for `seconds` without sending: how many bytes others sent."""
        self.stream.received.clear()
        until, heard = monotonic() + seconds, 0
        while (left := until - monotonic()) > 0:
            await self.stream.more(left)
            heard += len(self.stream.received)
            self.stream.received.clear()
        return heard

    async def _ask_distinctly(self, unit: int, pdu: bytes) -> RequestResult:
        """Send a request in a form whose answer cannot be confused with an overdue one."""
        if expected_size(pdu) not in (overdue := self._late.of(unit)):
            return await self._ask_once(unit, pdu)
        longer = self._late.longer(unit, pdu)
        if longer is not None:
            answer = await self._ask_once(unit, longer)
            if answer.code not in RANGE:
                return _trimmed(answer, pdu)
            self._late.refused_more(unit)
        return await self._only_if_safe(unit, pdu, overdue)

    async def _only_if_safe(self, unit: int, pdu: bytes, overdue: Overdue) -> RequestResult:
        """Send a request whose answer is as long as an overdue one, if that is safe.

        It is safe if the overdue request was the same one, or if its answer is unlikely to arrive
        any more. If not, nothing is sent; the result is silent at once, so that other devices are
        read meanwhile.
        """
        at, before = overdue[expected_size(pdu) or 0]
        if before == pdu and monotonic() - at < REPEATED * self.timeout:
            answer = await self._ask_once(unit, pdu)
            self._late.asked(unit, before, at)  # of two answers, one may still arrive
            return answer
        if (left := at + self._late.patience(self.timeout) - monotonic()) > 0:
            detail = Text(
                "a late answer may still arrive: the device is asked again in {left:.0f} s",
                left=left,
            )
            return RequestResult(clock.seconds(), why=Why.SILENT, detail=detail, code=NOT_ASKED)
        return await self._ask_once(unit, pdu)

    async def _ask_once(self, unit: int, pdu: bytes) -> RequestResult:
        """Send one request and wait for its answer. Note late answers that arrive meanwhile."""
        if (left := self.quiet_until - monotonic()) > 0:
            await asyncio.sleep(left)
        busy = not await self._silence()
        self.listener.asks(str(unit), monotonic(), busy=busy)
        frame, began, came = framed(unit, pdu), monotonic(), self.stream.came
        any_overdue = bool(self._late.of(unit))
        self._late.asked(unit, pdu, began)
        self.stream.send(frame)
        self._sent = frame
        length = len(frame) + (expected_size(pdu) or SHORTEST) + 3
        reply, other = await self._wait(
            unit, pdu, frame, began + self.timeout + length * self.speed.character
        )
        heard, self._ended, self._answered = len(self.stream.received), monotonic(), bool(reply)
        self._loud = reply is None and self._without_end(came, began)
        self.usage.note(unit, began, reply is not None)
        if reply is not None:
            if reply[0] & REFUSED:
                self._late.refused(unit, pdu[0])
            else:
                self._late.answered(unit, pdu)
            taken = monotonic() - began
            self._late.took(taken)
            turnaround = max(0.0, taken - (len(frame) + len(reply) + 3) * self.speed.character)
            self.turnaround[unit] = min(turnaround, self.turnaround.get(unit, turnaround))
            answer = checked(pdu, reply, clock.seconds())
            self.pace.note(unit, pdu, answer, taken)
            # An exception does not tell its request. With others overdue it may belong to one of
            # them, and dividing this block for it would make all later reads slower.
            return replace(answer, range_refused=answer.range_refused and not any_overdue)
        self._spoilt |= self._weigh(self.stream.received, unit, answered=False)
        self._weighed = heard
        late = self._settle(self.stream.received)
        if began_in(self.stream.received, unit, pdu) or (other and not late):
            self._late.answered(unit, pdu)  # it did answer, but the answer is damaged
        at = clock.seconds()
        if other:
            return RequestResult(at, why=Why.BAD, detail=other, garbled=True)
        if heard:
            self._noisy = True
            return RequestResult(at, why=Why.SILENT, detail=GARBLED, garbled=True)
        return RequestResult(at, why=Why.SILENT, detail=no_answer(self.timeout))

    async def _wait(
        self, unit: int, pdu: bytes, frame: bytes, deadline: float
    ) -> tuple[bytes | None, Text]:
        """Wait for the answer. Without one: None, and why an answer of that unit does not fit."""
        received, echoed = self.stream.received, False
        while True:
            echoed = echoed or self._skip_echo(frame)
            heard = find(received, unit, pdu)
            if heard.pdu:
                # The answer came without an echo before it, so this adapter does not echo.
                if self.echo is None:
                    self.echo = False
                before = received[: heard.end - len(heard.pdu) - 3]
                if not before:
                    self.listener.clean()
                if self._weigh(before, unit, answered=True):
                    self.listener.blame(str(unit), How.MORE)
                self._settle(before)
                del received[: heard.end]
                return heard.pdu, EMPTY
            if len(received) > MOST:
                # A device sends without end. Without a limit, each new byte would be searched with
                # all older ones.
                self._settle(received[:-LONGEST])
                del received[:-LONGEST]
            left = deadline - monotonic()
            if left <= 0:
                return None, heard.other
            looked = len(received)
            if looked and heard.missing > 1:
                # Waking up for each byte of a long answer costs a slow machine much CPU time.
                rest = (heard.missing - 1) * self.speed.character - OVERSLEEP
                await asyncio.sleep(max(0.0, min(left, rest)))
            if len(received) == looked and not await self.stream.more(left):
                return None, heard.other

    def _skip_echo(self, frame: bytes) -> bool:
        """Remove the echo of the request, if the adapter returns it. Returns whether it did."""
        received = self.stream.received
        read = frame[1] in READS
        # The confirmation of a write looks like its echo. Only a read shows whether the adapter
        # echoes, so until then nothing is removed after a write.
        if self.echo is False or not (read or self.echo) or (at := received.find(frame)) < 0:
            return False
        del received[: at + len(frame)]
        self.echo = self.echo or read
        return True

    async def _silence(self) -> bool:
        """Wait until the line has been quiet for 3.5 characters, and evaluate the bytes received.

        Returns whether the line became quiet.
        """
        # An adapter delivers bytes in pieces, and the pauses between them look like silence: while
        # a device sends without end, only a long pause counts.
        if self._loud:
            quiet = await self._quiet(QUIET, TALKED_OUT)
        else:
            quiet = await self._quiet(self.speed.gap, LONGEST_TALK)
        self._loud &= not quiet
        self._strays()
        return quiet

    async def _drain(self) -> None:
        """Wait for a quiet line after a device that disturbs it, so that the next one is heard."""
        came, began = self.stream.came, monotonic()
        quiet = await self._quiet(QUIET, DRAINED_WITHIN)
        self._loud = not quiet and self._without_end(came, began)
        self.listener.drained(quiet=not self._loud)
        self._strays()

    def _without_end(self, came: int, since: float) -> bool:
        """Whether a device has sent without end since the time `since`, when `came` bytes had come.

        Sparks and a single answer leave gaps.
        """
        character = self.speed.character or NETWORKED.character
        return (self.stream.came - came) * character >= DENSE * (monotonic() - since)

    async def _quiet(self, gap: float, within: float) -> bool:
        """Wait until the line is quiet for `gap` seconds. Returns False if it was not in time."""
        until = monotonic() + within
        while (left := self.stream.heard_at + gap - (now := monotonic())) > 0:
            if now >= until:
                return False
            await asyncio.sleep(min(left, until - now))
        return True

    def _strays(self) -> None:
        """Evaluate and drop the bytes after the last answer; late answers are no longer overdue."""
        who, behind = self.listener.turn, self.stream.received[self._weighed :]
        if who and self.stream.began_at <= self._ended + QUIET:
            if self._weigh(behind, int(who), answered=self._answered):
                self.listener.blame(who, How.MORE if self._answered else How.NOISE)
        elif self.listener.watched[who] and any(
            frame.unit == int(who) and self._late.has(frame.unit, frame.pdu)
            for frame in frames_in(behind)
        ):
            self.listener.blame(who, How.LATE)  # no other device was asked meanwhile
        self._settle(self.stream.received)
        self.stream.received.clear()
        self._weighed = 0

    def _weigh(self, heard: bytes | bytearray, unit: int, *, answered: bool) -> bool:
        """Attribute the bytes that were heard beside the answer of a unit, or instead of it.

        Returns whether there was noise that counts against that unit.
        """
        if not heard or asked_in(heard, self._sent):
            return False  # another master asked: its devices answer, and disturb nothing
        noise_bytes = len(heard)
        for frame in frames_in(heard):
            noise_bytes -= len(frame.data)
            if frame.data == self._sent or frame.unit not in self._allowance:
                continue
            overdue = self._late.has(frame.unit, frame.pdu)
            if frame.unit == unit:
                if answered and not overdue:
                    self.listener.blame(str(unit), How.TWICE)
            elif overdue:
                self.listener.blame(str(frame.unit), How.LATE)
            elif answered:
                self.listener.blame(str(frame.unit), How.SPEAKS)
            else:
                self.listener.blame(str(unit), How.OTHER)
        if noise_bytes >= MEANT:
            self.listener.spoilt()
        cut_short = bytes(heard[:2]) == self._sent[:2] and not answered
        return (noise_bytes >= MEANT or cut_short) and self.listener.noise(self.stream.heard_at)

    def _settle(self, heard: bytes | bytearray) -> bool:
        """Note answers that came late. Returns whether there were any."""
        if asked_in(heard, self._sent):
            self.usage.foreign_request()
        settled = self._late.settle(heard)
        self._noisy |= bool(heard) and not settled
        return settled


def _trimmed(answer: RequestResult, pdu: bytes) -> RequestResult:
    """Cut a longer answer down to the cells that were needed."""
    size = expected_size(pdu)
    if not answer.pdu or size is None:
        return answer
    return replace(answer, pdu=bytes([pdu[0], size - 2]) + answer.pdu[2:size])


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
            raise OutOfStep("{name} sent a broken frame", name=self.stream.name)
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
                raise OutOfStep("{name} sent a broken frame", name=self.stream.name)
            self._noticed = True
            self.listener.blame(str(unit), How.NOISE)
            self.listener.spoilt()
        self._unanswered.add(unit)
        return RequestResult(clock.seconds(), why=Why.SILENT, detail=no_answer(self.timeout))

    def _other(self, unit: int, answering: int, pdu: bytes) -> RequestResult:
        """The result when another unit answered. Raises OutOfStep if its answer was overdue."""
        answer = of_another(answering, pdu, clock.seconds())
        if answer.unit is None:
            return answer
        if answering in self._unanswered:
            self.listener.blame(str(answering), How.LATE)
            raise OutOfStep("{name} gives the answer to an earlier question", name=self.stream.name)
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
            if protocol or not 1 < length <= LONGEST_TCP or len(received) < MBAP + length:
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

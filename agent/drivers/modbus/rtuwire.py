"""Modbus RTU on a stream: trust nothing late.

After a timeout a unit owes us an answer, and until it has come, or can hardly come any more, it is
never asked again for an answer of the same length: one cell more is read or, where the device will
not have that, it is left alone meanwhile.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from agent import clock
from agent.clock import monotonic
from agent.drivers.line_disturbance import (
    DRAINED_WITHIN,
    MEANT,
    QUIET,
    TALKED_OUT,
    How,
    Listener,
)
from agent.drivers.modbus.answer import RANGE, READS, REFUSED, RequestResult, checked, expected_size
from agent.drivers.modbus.late_responses import LateResponses
from agent.drivers.modbus.latency import Latency
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
from agent.drivers.modbus.statistics import Spent
from agent.model import Why

if TYPE_CHECKING:
    from agent.drivers.modbus.late_responses import Debts
    from agent.drivers.modbus.stream import ByteStream

ANSWERED, UNKNOWN, SILENT = 8, 3, 2
"""how much a unit is forgiven in one exchange, as it was last time: one that answered, one never
asked before, one that was silent"""
GARBLED_COSTS, SILENCE_COSTS = 1, 3
"""of that: three attempts at one that answered, one at one that was silent"""
REPEATED = 4
"""timeouts within which a repeated question may be answered by the answer to the first"""
OVERSLEEP = 0.001
"""seconds by which the event loop may wake us late"""
NOT_ASKED = -1
LONGEST_TALK = 0.5
"""seconds for which somebody else's talk is waited out before we speak all the same"""
DENSE = 0.8
"""of the time: so long the wire is taken by one that goes on and on"""
NETWORKED = Speed(9600)
"""how fast a line is taken to be of which only a converter knows it"""
GARBLED = "garbled answer"
MOST = 2 * LONGEST
"""bytes in which an answer is looked for"""


class RtuWire:
    """An open line that speaks RTU; one request at a time."""

    def __init__(self, stream: ByteStream, speed: Speed, timeout: float) -> None:
        self.stream, self.speed, self.timeout = stream, speed, timeout
        self.spent = Spent()
        self.pace = Latency()
        self.quiet_until = monotonic() + timeout
        """until then nothing is asked: what was asked before we opened it may still be answered"""
        self.echo: bool | None = None
        """whether the adapter hands us back what we send; None: not known yet"""
        self.turnaround: dict[int, float] = {}
        """by unit: the least seconds between a question and its answer, without their characters"""
        self._owed = LateResponses()
        self._forgiven: dict[int, int] = {}
        """by unit: how much, as it was last time"""
        self._sent = b""
        """our last question: it may come back late, as an echo"""
        self._noisy = False
        """something was heard that nobody could read: a question may have been spoilt as well"""
        self.listener = Listener()
        self._loud = False
        """somebody went on and on when we last listened"""
        self._spoilt = False
        """bytes were heard instead of an answer that count against whoever is asked"""
        self._ended, self._answered, self._weighed = 0.0, False, 0
        """when the last question was given up or answered, whether it was answered, and how many of
        the bytes that are still there were looked at
        """

    async def exchange(self, unit: int, pdu: bytes) -> RequestResult:
        """Ask one unit, again where noise spoilt the answer. Raises LinkLost when the line is gone.

        A unit that answered last time is asked three times, since noise may as well have spoilt the
        question; one that did not costs one timeout, and so does one that was never asked, on a
        line without noise.
        """
        self._spoilt = False
        answer = await self._insistently(unit, pdu)
        if answer.garbled and self._spoilt:
            self.listener.blame(str(unit), How.NOISE)
        if answer.garbled or self.listener.watched[str(unit)]:
            await self._drain()
        return answer

    async def _insistently(self, unit: int, pdu: bytes) -> RequestResult:
        left = self._forgiven.get(unit, UNKNOWN)
        known = unit in self._forgiven
        self._forgiven[unit] = SILENT
        while True:
            answer = await self._unmistakable(unit, pdu)
            silent = answer.why is Why.SILENT and not answer.garbled
            if not silent and not answer.garbled:
                self._forgiven[unit] = ANSWERED
                return answer
            if answer.garbled and self._loud:
                return answer  # whoever is asked now is not heard
            left -= SILENCE_COSTS if silent else GARBLED_COSTS
            if left < 0 or (silent and (answer.code or not (known or self._noisy))):
                return answer

    async def once(self, unit: int, pdu: bytes, linger: float = 0.0) -> tuple[RequestResult, int]:
        """Ask once, for a scan; also how many bytes came within `linger` seconds behind it."""
        answer = await self._asked(unit, pdu)
        before = len(self.stream.received)
        until = monotonic() + (0.0 if answer.why is Why.SILENT else linger)
        while (left := until - monotonic()) > 0:
            await self.stream.more(left)
        return answer, len(self.stream.received) - (0 if answer.pdu else before)

    async def overhear(self, seconds: float) -> int:
        """Listen without speaking: how many bytes others sent."""
        self.stream.received.clear()
        until, heard = monotonic() + seconds, 0
        while (left := until - monotonic()) > 0:
            await self.stream.more(left)
            heard += len(self.stream.received)
            self.stream.received.clear()
        return heard

    async def _unmistakable(self, unit: int, pdu: bytes) -> RequestResult:
        """Ask so that an answer still owed cannot be taken for this one."""
        if expected_size(pdu) not in (owed := self._owed.of(unit)):
            return await self._asked(unit, pdu)
        longer = self._owed.longer(unit, pdu)
        if longer is not None:
            answer = await self._asked(unit, longer)
            if answer.code not in RANGE:
                return _trimmed(answer, pdu)
            self._owed.refused_more(unit)
        return await self._only_if_safe(unit, pdu, owed)

    async def _only_if_safe(self, unit: int, pdu: bytes, owed: Debts) -> RequestResult:
        """Ask for an answer as long as one that is owed, if that is the same or hardly comes now.

        Nobody waits for it: other devices are asked meanwhile.
        """
        at, before = owed[expected_size(pdu) or 0]
        if before == pdu and monotonic() - at < REPEATED * self.timeout:
            answer = await self._asked(unit, pdu)
            self._owed.asked(unit, before, at)  # two were asked for, one may still come
            return answer
        if (left := at + self._owed.patience(self.timeout) - monotonic()) > 0:
            detail = f"a late answer may still arrive: the device is asked again in {left:.0f} s"
            return RequestResult(clock.seconds(), why=Why.SILENT, detail=detail, code=NOT_ASKED)
        return await self._asked(unit, pdu)

    async def _asked(self, unit: int, pdu: bytes) -> RequestResult:
        """Send one request and wait for its answer. What was owed and came meanwhile is settled."""
        if (left := self.quiet_until - monotonic()) > 0:
            await asyncio.sleep(left)
        busy = not await self._silence()
        self.listener.asks(str(unit), monotonic(), busy=busy)
        frame, began, came = framed(unit, pdu), monotonic(), self.stream.came
        owing = bool(self._owed.of(unit))
        self._owed.asked(unit, pdu, began)
        self.stream.send(frame)
        self._sent = frame
        length = len(frame) + (expected_size(pdu) or SHORTEST) + 3
        reply, other = await self._wait(
            unit, pdu, frame, began + self.timeout + length * self.speed.character
        )
        heard, self._ended, self._answered = len(self.stream.received), monotonic(), bool(reply)
        self._loud = reply is None and self._without_end(came, began)
        self.spent.note(unit, began, reply is not None)
        if reply is not None:
            if reply[0] & REFUSED:
                self._owed.refused(unit, pdu[0])
            else:
                self._owed.answered(unit, pdu)
            taken = monotonic() - began
            self._owed.took(taken)
            idle = max(0.0, taken - (len(frame) + len(reply) + 3) * self.speed.character)
            self.turnaround[unit] = min(idle, self.turnaround.get(unit, idle))
            answer = checked(pdu, reply, clock.seconds())
            self.pace.note(unit, pdu, answer, taken)
            return replace(answer, range_refused=answer.range_refused and not owing)
        self._spoilt |= self._weigh(self.stream.received, unit, answered=False)
        self._weighed = heard
        late = self._settle(self.stream.received)
        if began_in(self.stream.received, unit, pdu) or (other and not late):
            self._owed.answered(unit, pdu)  # it has answered, and nobody can read it
        at = clock.seconds()
        if other:
            return RequestResult(at, why=Why.BAD, detail=other, garbled=True)
        if heard:
            self._noisy = True
            return RequestResult(at, why=Why.SILENT, detail=GARBLED, garbled=True)
        return RequestResult(at, why=Why.SILENT, detail=f"no answer in {self.timeout:g} s")

    async def _wait(
        self, unit: int, pdu: bytes, frame: bytes, deadline: float
    ) -> tuple[bytes | None, str]:
        """Wait for the answer; or None, and an answer of that unit which was none to this."""
        received, echoed = self.stream.received, False
        while True:
            echoed = echoed or self._skip_echo(frame)
            heard = find(received, unit, pdu)
            if heard.pdu:
                if self.echo is None:
                    self.echo = False
                before = received[: heard.end - len(heard.pdu) - 3]
                if not before:
                    self.listener.clean()
                if self._weigh(before, unit, answered=True):
                    self.listener.blame(str(unit), How.MORE)
                self._settle(before)
                del received[: heard.end]
                return heard.pdu, ""
            if len(received) > MOST:
                # somebody goes on and on: what cannot be part of an answer any more is not kept
                self._settle(received[:-LONGEST])
                del received[:-LONGEST]
            left = deadline - monotonic()
            if left <= 0:
                return None, heard.other
            looked = len(received)
            if looked and heard.missing > 1:
                # no use in looking at each byte of a long answer
                rest = (heard.missing - 1) * self.speed.character - OVERSLEEP
                await asyncio.sleep(max(0.0, min(left, rest)))
            if len(received) == looked and not await self.stream.more(left):
                return None, heard.other

    def _skip_echo(self, frame: bytes) -> bool:
        """Drop our own words where the adapter hands them back; whether it just did."""
        received = self.stream.received
        read = frame[1] in READS
        # what a write is answered with looks like its echo: only a read tells whether there is one
        if self.echo is False or not (read or self.echo) or (at := received.find(frame)) < 0:
            return False
        del received[: at + len(frame)]
        self.echo = self.echo or read
        return True

    async def _silence(self) -> bool:
        """Wait until nobody has spoken for 3.5 characters, and take note of what was said; whether
        there was such a silence.
        """
        if self._loud:  # an adapter hands over what it hears in pieces: between them is no silence
            quiet = await self._quiet(QUIET, TALKED_OUT)
        else:
            quiet = await self._quiet(self.speed.gap, LONGEST_TALK)
        self._loud &= not quiet
        self._strays()
        return quiet

    async def _drain(self) -> None:
        """Wait until the line is quiet behind one that disturbs it, so that the next is heard."""
        came, began = self.stream.came, monotonic()
        quiet = await self._quiet(QUIET, DRAINED_WITHIN)
        self._loud = not quiet and self._without_end(came, began)
        self.listener.drained(quiet=not self._loud)
        self._strays()

    def _without_end(self, came: int, since: float) -> bool:
        """Whether somebody has gone on and on since then, when so many bytes had come: sparks, and
        an answer, leave gaps.
        """
        character = self.speed.character or NETWORKED.character
        return (self.stream.came - came) * character >= DENSE * (monotonic() - since)

    async def _quiet(self, gap: float, within: float) -> bool:
        """Wait until nobody has spoken for `gap` seconds; whether that was so in time."""
        until = monotonic() + within
        while (left := self.stream.heard_at + gap - (now := monotonic())) > 0:
            if now >= until:
                return False
            await asyncio.sleep(min(left, until - now))
        return True

    def _strays(self) -> None:
        """Forget what nobody asked for; answers among it are owed no longer."""
        who, behind = self.listener.turn, self.stream.received[self._weighed :]
        if who and self.stream.began_at <= self._ended + QUIET:
            if self._weigh(behind, int(who), answered=self._answered):
                self.listener.blame(who, How.MORE if self._answered else How.NOISE)
        elif self.listener.watched[who] and any(
            frame.unit == int(who) and self._owed.has(frame.unit, frame.pdu)
            for frame in frames_in(behind)
        ):
            self.listener.blame(who, How.LATE)  # for nobody's harm, as it was asked last
        self._settle(self.stream.received)
        self.stream.received.clear()
        self._weighed = 0

    def _weigh(self, heard: bytes | bytearray, unit: int, *, answered: bool) -> bool:
        """Take note of whose the bytes are that were heard in the turn of a unit, beside its
        answer or instead of it; whether there were bytes without sense that count against it.
        """
        if not heard or asked_in(heard, self._sent):
            return False  # another master: its devices answer it
        senseless = len(heard)
        for frame in frames_in(heard):
            senseless -= len(frame.data)
            if frame.data == self._sent or frame.unit not in self._forgiven:
                continue
            owed = self._owed.has(frame.unit, frame.pdu)
            if frame.unit == unit:
                if answered and not owed:
                    self.listener.blame(str(unit), How.TWICE)
            elif owed:
                self.listener.blame(str(frame.unit), How.LATE)
            elif answered:
                self.listener.blame(str(frame.unit), How.SPEAKS)
            else:
                self.listener.blame(str(unit), How.OTHER)
        if senseless >= MEANT:
            self.listener.spoilt()
        cut_short = bytes(heard[:2]) == self._sent[:2] and not answered
        return (senseless >= MEANT or cut_short) and self.listener.noise(self.stream.heard_at)

    def _settle(self, heard: bytes | bytearray) -> bool:
        """Take note of answers that came late; whether there were any."""
        if asked_in(heard, self._sent):
            self.spent.stranger()
        settled = self._owed.settle(heard)
        self._noisy |= bool(heard) and not settled
        return settled


def _trimmed(answer: RequestResult, pdu: bytes) -> RequestResult:
    """Cut a longer answer down to what was wanted."""
    size = expected_size(pdu)
    if not answer.pdu or size is None:
        return answer
    return replace(answer, pdu=bytes([pdu[0], size - 2]) + answer.pdu[2:size])

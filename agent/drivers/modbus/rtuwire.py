"""Modbus RTU on a stream: trust nothing late.

An RTU answer does not say which request it is for, only by whom it was sent, for which function,
and how long it is. So after a timeout that unit owes us an answer, and until it has come, or can
hardly come any more, the unit is never asked again for an answer of the same length: one cell more
is read or, where the device will not have that, it is left alone meanwhile.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from agent import clock
from agent.clock import monotonic
from agent.drivers.modbus.answer import BITS, RANGE, READS, Answer, checked, expected_size
from agent.drivers.modbus.plan import LONGEST_OF
from agent.drivers.modbus.rtu import SHORTEST, Speed, find, framed
from agent.drivers.modbus.use import Spent
from agent.model import Why

if TYPE_CHECKING:
    from agent.drivers.modbus.stream import Stream

OWED_FOR = 60.0
"""seconds after which an answer that never came is not feared any more"""
REPEATS = 4
"""of a request whose answer was garbled; half as many where nothing at all was heard"""
LATEST = 10
"""timeouts after which a device that reads no cell more than it is asked for is believed again"""
REPEATED = 4
"""timeouts within which a repeated question may be answered by the answer to the first"""
NOT_ASKED = -1
LONGEST_TALK = 0.5
"""seconds for which somebody else's talk is waited out before we speak all the same"""
GARBLED = "garbled answer"


class RtuWire:
    """An open line that speaks RTU; one request at a time."""

    def __init__(self, stream: Stream, speed: Speed, timeout: float) -> None:
        self.stream, self.speed, self.timeout = stream, speed, timeout
        self.spent = Spent()
        self.echo: bool | None = None
        """whether the adapter hands us back what we send; None: not known yet"""
        self.slowest = 0.0
        """seconds of the slowest answer so far, late ones too"""
        self.turnaround: dict[int, float] = {}
        """by unit: the least seconds between a question and its answer, without their characters"""
        self._owed: dict[int, dict[int, tuple[float, bytes]]] = {}
        """by unit and length of the answer: when it was asked for, and how"""
        self._unpadded: set[int] = set()
        """units that refused a cell more than was wanted"""
        self._live: set[int] = set()
        """units that answered last time"""

    async def exchange(self, unit: int, pdu: bytes) -> Answer:
        """Ask one unit, again where noise spoilt the answer. Raises LinkLost when the line is gone.

        A unit that answered last time is asked three times, since noise may as well have spoilt the
        question; one that did not costs one timeout.
        """
        live, repeats = unit in self._live, REPEATS
        self._live.discard(unit)
        while True:
            answer = await self._unmistakable(unit, pdu)
            silent = answer.why is Why.SILENT and not answer.garbled
            if not silent and not answer.garbled:
                self._live.add(unit)
                return answer
            if repeats <= 0 or (silent and (answer.code or not live)):
                return answer
            repeats -= 2 if silent else 1

    async def once(self, unit: int, pdu: bytes, linger: float = 0.0) -> tuple[Answer, int]:
        """Ask once, for a scan; also how many bytes came within `linger` seconds behind it."""
        answer = await self._asked(unit, pdu)
        before = len(self.stream.received)
        if linger and answer.why is not Why.SILENT:
            await asyncio.sleep(linger)
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

    async def _unmistakable(self, unit: int, pdu: bytes) -> Answer:
        """Ask so that an answer still owed cannot be taken for this one."""
        size = expected_size(pdu)
        owed = self._owing(unit)
        if size not in owed:
            return await self._asked(unit, pdu)
        longer = self._longer(unit, pdu, owed)
        if longer is not None:
            answer = await self._asked(unit, longer)
            if answer.code not in RANGE:
                return _trimmed(answer, pdu)
            self._unpadded.add(unit)
        return await self._only_if_safe(unit, pdu, owed)

    async def _only_if_safe(
        self, unit: int, pdu: bytes, owed: dict[int, tuple[float, bytes]]
    ) -> Answer:
        """Ask for an answer as long as one that is owed, if that is the same or hardly comes now.

        Nobody waits for it: other devices are asked meanwhile.
        """
        size = expected_size(pdu) or 0
        at, before = owed[size]
        patience = min(OWED_FOR, max(LATEST * self.timeout, 2 * self.slowest))
        if before == pdu and monotonic() - at < REPEATED * self.timeout:
            answer = await self._asked(unit, pdu)
            self._owed[unit][size] = (at, before)  # two were asked for, one may still come
            return answer
        if (left := at + patience - monotonic()) > 0:
            detail = f"a late answer of it may still come: asked again in {left:.0f} s"
            return Answer(clock.seconds(), why=Why.SILENT, detail=detail, code=NOT_ASKED)
        return await self._asked(unit, pdu)

    def _owing(self, unit: int) -> dict[int, tuple[float, bytes]]:
        since = monotonic() - OWED_FOR
        left = {size: one for size, one in self._owed.get(unit, {}).items() if one[0] > since}
        self._owed[unit] = left
        return left

    def _longer(self, unit: int, pdu: bytes, owed: dict[int, tuple[float, bytes]]) -> bytes | None:
        """The same read with an answer of a length that is not owed; None where there is none."""
        if pdu[0] not in READS or unit in self._unpadded:
            return None
        start, count = int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
        step, most = 8 if pdu[0] in BITS else 1, LONGEST_OF[pdu[0]]
        for more in range(count + step, min(most, 0x10000 - start) + 1, step):
            longer = pdu[:3] + more.to_bytes(2, "big")
            if expected_size(longer) not in owed:
                return longer
        return None

    async def _asked(self, unit: int, pdu: bytes) -> Answer:
        """Send one request and wait for its answer. What was owed and came meanwhile is settled."""
        await self._silence()
        frame, size = framed(unit, pdu), expected_size(pdu)
        began = monotonic()
        owing = bool(self._owing(unit))
        self._owed[unit][size or 0] = (began, pdu)
        self.stream.send(frame)
        length = len(frame) + (size or SHORTEST) + 3
        found, other = await self._wait(
            unit, pdu, frame, began + self.timeout + length * self.speed.character
        )
        heard = len(self.stream.received)
        self.spent.note(unit, began, found is not None)
        if found is not None:
            self._owed[unit].pop(size or 0, None)
            taken = monotonic() - began
            self.slowest = max(self.slowest, taken)
            idle = max(0.0, taken - (len(frame) + len(found) + 3) * self.speed.character)
            self.turnaround[unit] = min(idle, self.turnaround.get(unit, idle))
            answer = checked(pdu, found, clock.seconds())
            return replace(answer, range_refused=answer.range_refused and not owing)
        if heard >= (size or SHORTEST):
            self._owed[unit].pop(size or 0, None)  # it has answered, and nobody can read it
        at = clock.seconds()
        if other:
            return Answer(at, why=Why.BAD, detail=other, garbled=True)
        if heard:
            return Answer(at, why=Why.SILENT, detail=GARBLED, garbled=True)
        return Answer(at, why=Why.SILENT, detail=f"no answer in {self.timeout:g} s")

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
                self._settle(received[: heard.end - len(heard.pdu) - 3])
                del received[: heard.end]
                return heard.pdu, ""
            left = deadline - monotonic()
            if left <= 0:
                return None, heard.other
            looked = len(received)
            if looked and heard.missing > 1:
                # no use in looking at each byte of a long answer
                await asyncio.sleep(min(left, (heard.missing - 1) * self.speed.character))
            if len(received) == looked and not await self.stream.more(left):
                self._settle(received)
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

    async def _silence(self) -> None:
        """Wait until nobody has spoken for 3.5 characters, and take note of what was said."""
        until = monotonic() + LONGEST_TALK
        while (now := monotonic()) < until:
            left = self.stream.heard_at + self.speed.gap - now
            if left <= 0:
                break
            await asyncio.sleep(left)
        self._strays()

    def _strays(self) -> None:
        """Forget what nobody asked for; answers among it are owed no longer."""
        self._settle(self.stream.received)
        self.stream.received.clear()

    def _settle(self, heard: bytes | bytearray) -> None:
        """Take answers that came late off what their units owe."""
        if not heard:
            return
        for unit, owed in self._owed.items():
            for size, (at, pdu) in list(owed.items()):
                if find(heard, unit, pdu).pdu:
                    self.slowest = max(self.slowest, min(monotonic() - at, OWED_FOR))
                    del owed[size]


def _trimmed(answer: Answer, pdu: bytes) -> Answer:
    """Cut a longer answer down to what was wanted."""
    size = expected_size(pdu)
    if not answer.pdu or size is None:
        return answer
    return replace(answer, pdu=bytes([pdu[0], size - 2]) + answer.pdu[2:size])

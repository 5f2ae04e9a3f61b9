"""A pretend RS-485 line: a pseudo-terminal paced at wire speed, with devices and trouble on it.

What is written to `port` takes its time on the wire, is heard by every device, and answered at the
same pace; two who speak at once destroy each other's characters. It shares no code with the driver.
Source: Modbus over Serial Line V1.02, 2.5.1 and 6.2.2.
"""

from __future__ import annotations

import asyncio
import os
import pty
import random
import termios
import tty
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from hil.uart import Framing, framing_of, heard

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TICK = 0.002
"""seconds between two looks at characters on their way; begins and ends are looked at in time"""

RATES = (300, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)

Answerer = Callable[[bytes], bytes | None]
"""request PDU → answer PDU, or None for silence"""

Says = Sequence[tuple[float, bytes]]
"""what is put on the wire, each so many seconds after the answer would begin"""


def crc(data: bytes) -> bytes:
    """The checksum, bit by bit as the specification has it."""
    register = 0xFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            carry = register & 1
            register >>= 1
            if carry:
                register ^= 0xA001
    return bytes([register & 0xFF, register >> 8])


def frame(unit: int, pdu: bytes) -> bytes:
    """A frame as it goes over the wire."""
    return bytes([unit]) + pdu + crc(bytes([unit]) + pdu)


@dataclass(slots=True)
class Unit:
    """One device on the line."""

    unit: int
    answer: Answerer
    after: Callable[[], float] = lambda: 0.01
    """seconds from the end of a question to the beginning of its answer"""
    dead: bool = False
    heard: int = 0
    """questions"""
    spoils: Callable[[bytes], Says] | None = None
    """what it says instead of its answer, as a frame; None: its answer (hil.disturber)"""


@dataclass(slots=True)
class Trouble:
    """What goes wrong on the line."""

    noise: Callable[[bytes], bytes] = lambda sent: sent
    """what becomes of each frame, questions and answers, on its way"""
    echo: bool = False
    """the adapter hands back what it is given"""
    deaf: Callable[[], bool] = lambda: False
    """whether the devices understand nothing now, because the adapter speaks otherwise than they"""


@dataclass(slots=True)
class _Speech:
    """Characters on their way to the adapter."""

    data: bytes
    begins: float
    done: int = 0


def _now() -> float:
    return asyncio.get_running_loop().time()  # a test may let it jump


class SerialLine:
    """An open pretend line; `port` is what the agent opens."""

    def __init__(
        self,
        baudrate: int,
        seed: int,
        master: int = -1,
        slave: int = -1,
        framing: Framing | None = None,
    ) -> None:
        self.framing = framing
        """how its devices send and receive; None: they understand the adapter however it is set"""
        self.units: list[Unit] = []
        self.trouble = Trouble()
        self.baudrate = baudrate
        self.tick = TICK
        """see there"""
        self.random = random.Random(seed)
        self.port = os.ttyname(slave) if slave >= 0 else ""
        self.requests = 0
        self.characters = 0
        """on the wire, in both directions"""
        self.hands_over: Callable[[bytes], object] = self._into_port
        """where the adapter gives what it hears"""
        self._open = True
        self._master, self._slave = master, slave
        self._speeches: list[_Speech] = []
        self._asked = bytearray()
        self._asked_at = 0.0
        self._began = 0.0
        self._news = asyncio.Event()
        """somebody has begun to speak"""

    @classmethod
    @asynccontextmanager
    async def open(
        cls, baudrate: int = 9600, *, seed: int = 1, framing: Framing | None = None
    ) -> AsyncIterator[Self]:
        """Open a line on which nobody is yet. A baud rate of 0: as fast as this machine.

        With a framing, bytes sent at another speed or parity arrive as garbage (hil.uart).
        """
        master, slave = pty.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        line = cls(baudrate, seed, master, slave, framing)
        asyncio.get_running_loop().add_reader(master, line._listen)
        try:
            async with line._paced():
                yield line
        finally:
            os.close(slave)
            line.unplug()

    @classmethod
    @asynccontextmanager
    async def bare(cls, baudrate: int = 9600, *, seed: int = 1) -> AsyncIterator[Self]:
        """Open a line without a port: bytes go in by `take`, and out by `hands_over`."""
        line = cls(baudrate, seed)
        async with line._paced():
            yield line

    @asynccontextmanager
    async def _paced(self) -> AsyncIterator[None]:
        pacing = asyncio.ensure_future(self._pace())
        try:
            yield
        finally:
            pacing.cancel()
            await asyncio.wait([pacing])
            self._open = False

    def unplug(self) -> None:
        """Pull the adapter out."""
        self._open = False
        if self._master >= 0:
            asyncio.get_running_loop().remove_reader(self._master)
            os.close(self._master)
            self._master = -1
        self._news.set()

    @property
    def adapter(self) -> int:
        """The baud rate that the adapter is set to."""
        speed = termios.tcgetattr(self._slave)[4]
        return next(rate for rate in RATES if getattr(termios, f"B{rate}") == speed)

    @property
    def character(self) -> float:
        """Seconds of one character, 8N1."""
        return 10 / self.baudrate if self.baudrate else 0.0

    def add(self, unit: int, answer: Answerer, after: Callable[[], float] | float = 0.01) -> Unit:
        """Put a device on the line."""
        wait = after if callable(after) else lambda: after
        self.units.append(Unit(unit, answer, wait))
        return self.units[-1]

    def say(self, data: bytes, after: float = 0.0) -> None:
        """Put characters on the wire that nobody asked for."""
        if self.framing:
            data = heard(data, self.framing, framing_of(self._slave))
        self._speeches.append(_Speech(data, _now() + after))
        self._news.set()

    async def _pace(self) -> None:
        while self._open:
            self._news.clear()
            self._hear()
            self._speak()
            if (wait := self._next()) is None:
                await self._news.wait()
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._news.wait()

    def _next(self) -> float | None:
        """Seconds until something happens on the wire; None: not before somebody speaks."""
        now, moments = _now(), [self._over] if self._asked else []
        for one in self._speeches:
            end = one.begins + len(one.data) * self.character
            moments.append(one.begins if one.begins > now else min(end, now + self.tick))
        return max(0.0, min(moments) - now) if moments else None

    def _listen(self) -> None:
        try:
            data = os.read(self._master, 4096)
        except (BlockingIOError, OSError):
            data = b""
        if data:
            self.take(data)

    def take(self, data: bytes) -> None:
        """Bytes for the wire, from the master."""
        if not self._asked:
            self._began = _now()
        self._asked += data
        if self.trouble.echo:
            self.say(data)
        self._news.set()

    @property
    def _over(self) -> float:
        """When the question has arrived: its characters have had their time and 3.5 more."""
        return self._began + (len(self._asked) + 3.5) * self.character

    def _hear(self) -> None:
        if self._asked and _now() >= self._over:
            asked, self._asked = bytes(self._asked), bytearray()
            self.characters += len(asked)
            if self.framing:
                asked = heard(asked, framing_of(self._slave), self.framing, checks=True)
            self._ask(self.trouble.noise(asked))

    def _ask(self, asked: bytes) -> None:
        self.requests += 1
        if len(asked) < 4 or crc(asked[:-2]) != asked[-2:]:
            return
        if self.trouble.deaf():
            return
        for one in self.units:
            if one.unit == asked[0] and not one.dead:
                one.heard += 1
                answer = one.answer(asked[1:-2])
                if answer is not None:
                    own = frame(one.unit, answer)
                    for after, data in one.spoils(own) if one.spoils else [(0.0, own)]:
                        self.say(self.trouble.noise(data), one.after() + after)

    def _into_port(self, data: bytes) -> None:
        os.write(self._master, data)

    def _speak(self) -> None:
        now = _now()
        speaking = [one for one in self._speeches if one.begins <= now]
        due: list[bytes] = []
        for one in speaking:
            until = len(one.data)
            if self.baudrate:
                until = min(until, int((now - one.begins) / self.character + 1e-6))
            due.append(one.data[one.done : until])
            one.done = until
        if len([piece for piece in due if piece]) > 1:
            # both pull the wire: what arrives is neither's
            longest = max(map(len, due))
            due = [bytes(self.random.randrange(256) for _ in range(longest))]
        for piece in due:
            if piece and self._open:
                self.characters += len(piece)
                self.hands_over(piece)
        self._speeches = [one for one in self._speeches if one.done < len(one.data)]


@dataclass
class Registers:
    """A device of nothing but cells, by function and address; what is not there it refuses."""

    cells: dict[tuple[int, int], int] = field(default_factory=dict)
    fills: bool = False
    """addresses without a cell read 0"""

    def __call__(self, pdu: bytes) -> bytes:
        """Answer a request to read or write (Modbus Application Protocol V1.1b3, 6 and 7)."""
        function, start, count = pdu[0], int.from_bytes(pdu[1:3], "big"), 1
        count = int.from_bytes(pdu[3:5], "big")
        if function in {5, 6, 15, 16}:
            return self._write(pdu, function, start, count)
        if function not in {1, 2, 3, 4}:
            return bytes([function | 0x80, 1])
        wanted = [(function, start + n) for n in range(count)]
        if not 1 <= count <= (125 if function > 2 else 2000):
            return bytes([function | 0x80, 3])
        if start + count > 0x10000 or not (self.fills or all(one in self.cells for one in wanted)):
            return bytes([function | 0x80, 2])
        values = [self.cells.get(one, 0) for one in wanted]
        if function > 2:
            return bytes([function, 2 * count]) + b"".join(v.to_bytes(2, "big") for v in values)
        packed = bytearray(-(-count // 8))
        for n, value in enumerate(values):
            packed[n // 8] |= (value & 1) << n % 8
        return bytes([function, len(packed)]) + packed

    def _write(self, pdu: bytes, function: int, start: int, count: int) -> bytes:
        table = 1 if function in {5, 15} else 3
        several = function in {15, 16}
        wanted = [(table, start + n) for n in range(count if several else 1)]
        if not all(one in self.cells for one in wanted):
            return bytes([function | 0x80, 2])
        for n, one in enumerate(wanted):
            if function == 16:
                self.cells[one] = int.from_bytes(pdu[6 + 2 * n : 8 + 2 * n], "big")
            elif function == 15:
                self.cells[one] = pdu[6 + n // 8] >> n % 8 & 1
            else:
                self.cells[one] = int(count == 0xFF00) if function == 5 else count
        return pdu[:5]

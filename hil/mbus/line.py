"""The pretend line: who hears what, how answers collide, what noise does, how long it all takes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hil.mbus.slave import Slave

BITS = 11
"""of a byte: start, eight, even parity, stop"""
FIRST_BITS = 11
"""bit times after which a meter answers at the earliest (EN 13757-2, 5.7.4)"""
PIECE = 0.004
"""seconds of wire that are handed over in one piece"""


@dataclass
class Bus:
    """Meters on two wires, and what is wrong with the wires."""

    slaves: Sequence[Slave]
    baudrate: int = 2400
    paced: bool = False
    """at the speed of the wire; else at once"""
    overlaps: bool = False
    """who speaks goes on though the master asks somebody else"""
    echo: bool = False
    """the converter gives back what the master sends"""
    noise: float = 0.0
    """share of questions and answers to which something happens"""
    seed: int = 1
    busy: float = 0.0
    """seconds for which bytes were on the wire"""
    collisions: int = 0
    damaged: int = 0
    questions: int = 0
    random: Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)

    def ask(self, frame: bytes) -> tuple[float, bytes]:
        """One sound question: the bit times until an answer begins, and the answer's bytes."""
        self.questions += 1
        if self.noise and self.random.random() < self.noise / 2:
            self.damaged += 1
            return 0.0, b""  # nobody understood the question
        hearing = [one for one in self.slaves if not self._missed_by(one)]
        said = [(one.late, answer) for one in hearing if (answer := one.hears(frame))]
        if not said:
            return 0.0, self._noise_alone()
        first = min(late for late, _ in said)
        answer = collided([(round((late - first) / BITS), data) for late, data in said])
        self.collisions += len(said) > 1
        return FIRST_BITS + first, self._disturbed(answer)

    def _missed_by(self, slave: Slave) -> bool:
        """One that is selected does not hear that another one is, and goes on answering with it."""
        deaf = slave.selected and self.noise and self.random.random() < self.noise / 2
        return bool(deaf)

    def _noise_alone(self) -> bytes:
        happens = self.noise and self.random.random() < self.noise / 10
        return self.random.randbytes(self.random.randint(1, 4)) if happens else b""

    def _disturbed(self, answer: bytes) -> bytes:
        """One thing that can happen to an answer: each is one that a checksum cannot overlook."""
        if not self.noise or self.random.random() >= self.noise:
            return answer
        self.damaged += 1
        at = self.random.randrange(len(answer))
        match self.random.randrange(4):
            case 0:  # a byte changed
                other = answer[at] ^ self.random.randint(1, 255)
                return answer[:at] + bytes((other,)) + answer[at + 1 :]
            case 1:  # a byte lost
                return answer[:at] + answer[at + 1 :]
            case 2:  # the end lost
                return answer[:at]
            case _:  # something before it
                return self.random.randbytes(self.random.randint(1, 6)) + answer


def collided(answers: Sequence[tuple[int, bytes]]) -> bytes:
    """Several answers at once, each begun so many byte times after the first: a 0 wins each bit."""
    end = max(late + len(data) for late, data in answers)
    heard = bytearray(b"\xff" * end)
    for late, data in answers:
        for at, byte in enumerate(data, start=late):
            heard[at] &= byte
    return bytes(heard)


class Converter:
    """The level converter: questions come in as bytes in any pieces, answers go out."""

    def __init__(self, bus: Bus, write: Callable[[bytes], object]) -> None:
        self.bus, self.write = bus, write
        self._buffer = b""
        self._speaking: list[asyncio.Task[None]] = []

    def feed(self, data: bytes) -> None:
        """Bytes from the master."""
        self._buffer += data
        while self._buffer:
            frame, rest = _question(self._buffer)
            if frame is None:
                return
            self._buffer = rest
            if frame:
                self._answer(frame)

    def close(self) -> None:
        """Say nothing more."""
        for one in self._speaking:
            one.cancel()

    def _answer(self, frame: bytes) -> None:
        bits, answer = self.bus.ask(frame)
        byte = BITS / self.bus.baudrate
        self.bus.busy += byte * (len(frame) + len(answer))
        if not self.bus.paced:
            said = (frame if self.bus.echo else b"") + answer
            if said:
                self.write(said)
            return
        if not self.bus.overlaps:
            self.close()
        self._speaking = [one for one in self._speaking if not one.done()]
        self._speaking.append(asyncio.create_task(self._speak(frame, bits, answer)))

    async def _speak(self, frame: bytes, bits: float, answer: bytes) -> None:
        """Every byte when it would be through on the wire, in pieces of some milliseconds."""
        now = asyncio.get_running_loop().time
        byte = BITS / self.bus.baudrate
        began = now()
        if self.bus.echo:
            await self._piecewise(frame, began, byte, now)
        begins = began + len(frame) * byte + bits / self.bus.baudrate
        await self._piecewise(answer, begins, byte, now)

    async def _piecewise(
        self, data: bytes, begins: float, byte: float, now: Callable[[], float]
    ) -> None:
        at = 0
        while at < len(data):
            through = min(len(data), max(at + 1, int((now() + PIECE - begins) / byte)))
            await asyncio.sleep(max(0.0, begins + through * byte - now()))
            self.write(data[at:through])
            at = through


def _question(data: bytes) -> tuple[bytes | None, bytes]:
    """The next frame and the rest: None where more must come, empty where a byte makes no sense."""
    if data[0] not in (0x10, 0x68):
        return b"", data[1:]
    head = 1 if data[0] == 0x10 else 4
    if len(data) < head:
        return None, data
    if head == 4 and (data[1] != data[2] or data[3] != 0x68):
        return b"", data[1:]
    size = 5 if head == 1 else data[1] + 6
    if len(data) < size:
        return None, data
    frame = data[:size]
    sound = frame[-1] == 0x16 and sum(frame[head:-2]) % 256 == frame[-2]
    return (frame, data[size:]) if sound else (b"", data[1:])

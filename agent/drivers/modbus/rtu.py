"""Modbus RTU frames: finding them among received bytes, checksums, and transmission times. Pure.

Modbus over Serial Line V1.02, 2.5.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from agent.core.i18n import EMPTY, Text
from agent.drivers.modbus.answer import READS, REFUSED, REGISTERS, expected_size

if TYPE_CHECKING:
    from collections.abc import Iterator

SHORTEST_GAP = 0.00175
"""seconds of silence between frames above 19200 baud (2.5.1.1)"""
GAP_CHARACTERS = 3.5
SHORTEST = 5
"""bytes of the shortest frame, an exception: unit, function, code, checksum"""
LONGEST = 256
"""bytes of the longest frame"""
QUESTION = 8
"""bytes of a read request, and of the confirmation of a write"""
WRITES = frozenset({5, 6, 15, 16})


@dataclass(frozen=True, slots=True)
class Speed:
    """The settings of a serial line. A baud rate of 0 means a network, where a character takes no
    time that matters.
    """

    baudrate: int
    parity: str = "none"
    stopbits: int = 1

    @property
    def character(self) -> float:
        """Seconds for one character: start, 8 data, parity and stop bits."""
        bits = 9 + (self.parity != "none") + self.stopbits
        return bits / self.baudrate if self.baudrate else 0.0

    @property
    def gap(self) -> float:
        """Seconds of silence that end a frame."""
        return max(SHORTEST_GAP, GAP_CHARACTERS * self.character) if self.baudrate else 0.0

    def __str__(self) -> str:
        return f"{self.baudrate} 8{self.parity[0].upper()}{self.stopbits}"


def _table() -> list[int]:
    made = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
        made.append(crc)
    return made


_CRC = _table()


def checksum(data: bytes | bytearray | memoryview) -> bytes:
    """CRC-16 of a frame as it is sent, low byte first (6.2.2)."""
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc.to_bytes(2, "little")


def framed(unit: int, pdu: bytes) -> bytes:
    """The frame for a PDU, with unit id and checksum."""
    body = bytes([unit]) + pdu
    return body + checksum(body)


@dataclass(frozen=True, slots=True)
class Heard:
    """The result of looking for an answer among received bytes."""

    pdu: bytes = b""
    """the answer; empty: not found yet"""
    end: int = 0
    """one past its last byte"""
    missing: int = 1
    """bytes that must still arrive, at least, before it is worth looking again"""
    other: Text = EMPTY
    """why an answer of that unit and function does not fit this request; empty: none was found"""


def find(heard: bytes | bytearray, unit: int, request: bytes) -> Heard:
    """Look for the answer to a request among received bytes, which may hold noise and other frames.

    An answer counts only with the right unit, function, length and checksum.
    """
    size, function, other, missing = expected_size(request), request[0], EMPTY, LONGEST
    for start in range(len(heard) - 1):
        # Noise may hold these two bytes by chance, so each place is tried until a checksum fits.
        if heard[start] != unit or heard[start + 1] & 0x7F != function:
            continue
        for length in _lengths(heard, start, size):
            end = start + length
            if end > len(heard):
                missing = min(missing, end - len(heard))
            elif heard[end - 2 : end] == checksum(heard[start : end - 2]):
                pdu = bytes(heard[start + 1 : end - 2])
                if size is None or len(pdu) == size or pdu[0] & REFUSED:
                    return Heard(pdu, end)
                other = Text(
                    "{number} bytes of values in the answer, {size} expected",
                    number=len(pdu) - 2,
                    size=size - 2,
                )
    if missing == LONGEST:
        missing = SHORTEST
    return Heard(missing=missing, other=other)


class RtuFrame(NamedTuple):
    """A whole frame with a correct checksum."""

    unit: int
    pdu: bytes
    data: bytes
    """all its bytes"""


def frames_in(heard: bytes | bytearray) -> Iterator[RtuFrame]:
    """All whole frames among received bytes, requests and answers; they never overlap."""
    at = 0
    while at <= len(heard) - SHORTEST:
        for length in _whole(heard, at):
            frame = bytes(heard[at : at + length])
            # Skipping the whole frame keeps bytes inside it from being taken for another frame.
            if len(frame) == length and frame[-2:] == checksum(frame[:-2]):
                yield RtuFrame(frame[0], frame[1:-2], frame)
                at += length
                break
        else:
            at += 1


def _whole(heard: bytes | bytearray, at: int) -> tuple[int, ...]:
    """The possible lengths of a frame that begins at `at`."""
    function = heard[at + 1]
    if function & ~REFUSED not in READS | WRITES:
        return ()
    if function & REFUSED:
        return (SHORTEST,)
    return (heard[at + 2] + SHORTEST, QUESTION) if function in READS else (QUESTION,)


def began_in(heard: bytes | bytearray, unit: int, request: bytes) -> bool:
    """Whether at least the beginning of the answer to a request was received.

    The beginning of an answer of another length does not count: it may be the damaged answer to an
    earlier request.
    """
    size = expected_size(request)
    length_or_address = bytes([size - 2]) if request[0] in READS and size else request[1:3]
    return size is not None and bytes([unit, request[0]]) + length_or_address in heard


def asked_in(heard: bytes | bytearray, ours: bytes) -> bool:
    """Whether the received bytes contain a request to read registers other than `ours`.

    A request has eight bytes. No answer with registers has eight: that would be three bytes of
    values, an odd number. So an answer cannot be taken for a request.
    """
    for at in range(len(heard) - QUESTION + 1):
        frame = heard[at : at + QUESTION]
        if frame[1] in REGISTERS and frame != ours and checksum(frame[:-2]) == frame[-2:]:
            return True
    return False


def _lengths(heard: bytes | bytearray, start: int, size: int | None) -> list[int]:
    """The possible lengths of an answer that begins at `start`."""
    if heard[start + 1] & REFUSED:
        return [SHORTEST]
    if size is None:  # its own length is known only to its end (43/14)
        return list(range(SHORTEST, len(heard) - start + 1)) or [SHORTEST]
    # Also the length that the frame itself gives: it may be the late answer to a request for
    # another number of cells, which must be recognized as such.
    lengths = [size + 3]
    if heard[start + 1] <= 4 and start + 2 < len(heard) and heard[start + 2] + 5 != size + 3:  # noqa: PLR2004 -- the four reads
        own = heard[start + 2] + 5
        lengths.append(own) if start + own <= len(heard) else None
    return lengths

"""A serial Modbus line as bad as they get: 20 devices, 3 dead, 2 slow, 1 late, every second frame
disturbed.

The test of our driver and the bench that compares it with pymodbus read the same line.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from hil.serial_line import SerialLine

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Callable

BAUDRATE = 115_200
TIMEOUT = 0.05
"""seconds that whoever reads the line waits for an answer"""
UNITS = range(1, 21)
DEAD, SLOW, LATE = {3, 9, 17}, {5, 12}, {14}
REST = 2.0
"""seconds that a silent device is left alone: the daemon's minute, shortened with all else"""
SHAPES = ((0, 1), (7, 1), (20, 3), (50, 1), (60, 3), (80, 8))
"""address and length of the blocks that are read: several of one length, so that a late answer
could pass for another
"""


def cell(unit: int, address: int) -> int:
    """What one register of one device holds: no two in reach of each other are alike."""
    return unit << 8 ^ address * 257 & 0xFFFF


def _device(unit: int) -> Callable[[bytes], bytes]:
    def answer(pdu: bytes) -> bytes:
        start, count = int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
        data = b"".join(cell(unit, start + n).to_bytes(2, "big") for n in range(count))
        return bytes([pdu[0], len(data)]) + data

    return answer


def _noisy(dice: random.Random) -> Callable[[bytes], bytes]:
    """Every second frame: characters before it, behind it, one bit of it, or its tail lost."""
    turn = iter(range(10**9))

    def noise(sent: bytes) -> bytes:
        if next(turn) % 2:
            return sent
        what = dice.randrange(8)
        if what < 4:
            return dice.randbytes(dice.randrange(1, 4)) + sent if len(sent) > 8 else sent
        if what < 6:
            return sent + dice.randbytes(dice.randrange(1, 4)) if len(sent) > 8 else sent
        at = dice.randrange(len(sent))
        if what == 6:
            return sent[:at] + bytes([sent[at] ^ 1 << dice.randrange(8)]) + sent[at + 1 :]
        return sent[: at or 1]

    return noise


@asynccontextmanager
async def torture_line(dice: random.Random) -> AsyncIterator[SerialLine]:
    """Open the line; what goes wrong on it is drawn with `dice`."""
    async with SerialLine.open(BAUDRATE) as line:
        for unit in UNITS:
            line.add(unit, _device(unit), _after(unit, dice)).dead = unit in DEAD
        line.trouble.noise = _noisy(dice)
        yield line


def _after(unit: int, dice: random.Random) -> Callable[[], float] | float:
    if unit in LATE:
        return lambda: dice.uniform(0.0, 6 * TIMEOUT)
    return 0.03 if unit in SLOW else 0.002

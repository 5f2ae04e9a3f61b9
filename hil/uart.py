"""What a serial receiver makes of the bits on a wire: bytes sent otherwise than it is set arrive as
garbage.

The bits of the sender are laid out in time and sampled in the middle of the receiver's bits, as a
UART does. A byte without its stop bit or with the wrong parity arrives as 00 if the receiver checks
(INPCK of termios; a device always does), else as it was sampled. It shares no code with the agent.
"""

from __future__ import annotations

import termios
from dataclasses import dataclass

RATES = (300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)
ODD, DATA = "odd", 8


@dataclass(frozen=True, slots=True)
class Framing:
    """How one side of a line sends and receives."""

    baudrate: int = 9600
    parity: str = "none"
    stopbits: int = 1
    inverted: bool = False
    """the two wires are swapped"""


def framing_of(handle: int) -> Framing:
    """What a program has set a pseudo terminal to.

    The kernel drops PARENB of a pseudo terminal, so parity is known by its check: whoever sets a
    parity has it checked, too (INPCK).
    """
    flags = termios.tcgetattr(handle)
    rate = next((one for one in RATES if getattr(termios, f"B{one}") == flags[4]), 0)
    parity = (ODD if flags[2] & termios.PARODD else "even") if flags[0] & termios.INPCK else "none"
    return Framing(rate, parity, 2 if flags[2] & termios.CSTOPB else 1)


def heard(data: bytes, sender: Framing, receiver: Framing, *, checks: bool | None = None) -> bytes:
    """The bytes that the receiver takes from what the sender sends without a pause.

    checks: it checks what it receives; None: only if it has a parity, as a port does.
    """
    checks = receiver.parity != "none" if checks is None else checks
    levels = [level for byte in data for level in _bits(byte, sender)]
    inverted = sender.inverted != receiver.inverted
    if inverted:
        levels = [1 - level for level in levels]
    idle, ratio = int(not inverted), sender.baudrate / receiver.baudrate

    def level(at: float) -> int:
        return levels[int(at)] if 0 <= at < len(levels) else idle

    bits, taken, at = 1 + DATA + (receiver.parity != "none"), bytearray(), 0
    high = idle
    while at < len(levels):
        if levels[at] or not high:
            high, at = levels[at], at + 1
            continue
        # a start bit begins: all further samples are counted from its edge
        sampled = [level(at + (number + 0.5) * ratio) for number in range(bits + 1)]
        byte = sum(bit << number for number, bit in enumerate(sampled[1 : 1 + DATA]))
        framed = bool(sampled[bits])
        right = receiver.parity == "none" or sampled[1 + DATA] == _parity(byte, receiver.parity)
        if not sampled[0]:
            taken.append(byte if (framed and right) or not checks else 0)
        high = level(at + (bits + 0.5) * ratio)
        at = int(at + (bits + 0.5) * ratio) + (0 if high else 1)
    return bytes(taken)


def _bits(byte: int, framing: Framing) -> list[int]:
    data = [byte >> number & 1 for number in range(DATA)]
    check = [] if framing.parity == "none" else [_parity(byte, framing.parity)]
    return [0, *data, *check, *[1] * framing.stopbits]


def _parity(byte: int, parity: str) -> int:
    return (byte.bit_count() & 1) ^ (parity == ODD)

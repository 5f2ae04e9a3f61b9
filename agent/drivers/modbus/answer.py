"""What came back for one request: registers, or in words why none. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.model import Why

if TYPE_CHECKING:
    from collections.abc import Sequence

EXCEPTIONS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "device failure",
    5: "acknowledged, not ready yet",
    6: "device busy",
    7: "negative acknowledge",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target device failed to respond",
}
"""exception codes (Modbus Application Protocol V1.1b3, 7; 7 is from older editions)"""

RANGE = frozenset({2, 3})
"""the device refuses this address or this count: a part of the block may still be read"""
NOBODY_THERE = 11
REGISTERS = frozenset({3, 4})
"""functions whose cells are two bytes each"""
MBAP = 6
"""bytes before the counted part of a frame (Modbus Messaging on TCP/IP V1.0b, 3.1.3)"""


@dataclass(frozen=True, slots=True)
class Answer:
    """One request's end."""

    at: float
    """wall time at which it, or the end of waiting for it, came"""
    cells: Sequence[int] = ()
    """registers or bits, as many as were asked for; none unless `why` is None"""
    why: Why | None = None
    detail: str = ""
    range_refused: bool = False
    """fewer cells may be read where all of them may not"""


def refusal(code: int, at: float) -> Answer:
    """Put an exception code into words; a gateway that heard nobody means a silent device."""
    why = Why.SILENT if code == NOBODY_THERE else Why.BAD
    words = EXCEPTIONS.get(code, f"exception {code}")
    return Answer(at, why=why, detail=words, range_refused=code in RANGE)


def whole(pdu: bytes) -> bool:
    """Whether an answer's own byte count agrees with its length and function (1 to 4)."""
    if pdu and pdu[0] & 0x80:
        return len(pdu) > 1
    if len(pdu) <= 1 or len(pdu) != 2 + pdu[1]:
        return False
    return pdu[0] not in REGISTERS or not pdu[1] & 1


def in_step(left: bytes) -> bool:
    """Whether what was received and not consumed is whole frames, so that the next bytes begin one.

    What is not leaves the stream without a beginning to hold on to: only a new connection helps.
    """
    while left:
        end = MBAP + int.from_bytes(left[4:6], "big")
        if len(left) < max(MBAP, end) or left[2:4] != b"\0\0":
            return False
        left = left[end:]
    return True

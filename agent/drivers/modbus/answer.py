"""What came back for one request: its bytes, or in words why none can be believed. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from agent.model import Why

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
FROM_GATEWAY = frozenset({10, 11})
"""the gateway says, under whatever unit id, that it did not reach the device"""
BITS = frozenset({1, 2})
REGISTERS = frozenset({3, 4})
"""functions whose cells are two bytes each"""
READS = BITS | REGISTERS
REFUSED = 0x80
"""set in the function of an exception"""
MBAP = 6
"""bytes before the counted part of a frame (Modbus Messaging on TCP/IP V1.0b, 3.1.3)"""


@dataclass(frozen=True, slots=True)
class RequestResult:
    """One request's end."""

    at: float
    """wall time at which it, or the end of waiting for it, came"""
    pdu: bytes = b""
    """function and data, of the shape that was asked for; nothing unless `why` is None"""
    why: Why | None = None
    detail: str = ""
    range_refused: bool = False
    """fewer cells may be read where all of them may not"""
    code: int = 0
    """of the exception, where it is one"""
    garbled: bool = False
    """something was heard that was no answer"""
    unit: int | None = None
    """the unit id that answered, where that is not the one that was asked; nothing else is known"""


def refusal(code: int, at: float) -> RequestResult:
    """Put an exception code into words; a gateway that heard nobody means a silent device."""
    why = Why.SILENT if code == NOBODY_THERE else Why.BAD
    text = EXCEPTIONS.get(code, f"exception {code}")
    return RequestResult(at, why=why, detail=text, range_refused=code in RANGE, code=code)


def of_another(unit: int, pdu: bytes, at: float) -> RequestResult:
    """What another unit answered to our question: never a value of the one that was asked."""
    if len(pdu) > 1 and pdu[0] & REFUSED and pdu[1] in FROM_GATEWAY:
        return refusal(pdu[1], at)
    detail = (
        f"another unit answered: {unit}. If that is this device, write address: {unit};"
        " behind a gateway, set the gateway to answer with the unit id of the request"
    )
    return RequestResult(at, why=Why.BAD, detail=detail, unit=unit)


def expected_size(request: bytes) -> int | None:
    """How long the answer to a request PDU is; None where only the answer itself says so."""
    function, count = request[0], int.from_bytes(request[3:5], "big")
    if function in BITS:
        return 2 + -(-count // 8)
    if function in REGISTERS:
        return 2 + 2 * count
    return 5 if function in {5, 6, 15, 16} else None


def checked(request: bytes, pdu: bytes, at: float) -> RequestResult:
    """Believe an answer PDU, or say why not."""
    if not whole(pdu):
        return RequestResult(at, why=Why.BAD, detail="garbled answer", garbled=True)
    if pdu[0] & 0x7F != request[0]:
        return RequestResult(
            at, why=Why.BAD, detail=f"the answer is for function {pdu[0] & 0x7F}", garbled=True
        )
    if pdu[0] & REFUSED:
        return refusal(pdu[1], at)
    size = expected_size(request)
    if size is not None and len(pdu) != size:
        detail = f"{len(pdu) - 2} bytes of values in the answer, {size - 2} expected"
        return RequestResult(at, why=Why.BAD, detail=detail, garbled=True)
    # who writes is told back what was written where (Application Protocol 6.5, 6.6, 6.11, 6.12)
    if request[0] not in READS and size is not None and pdu != request[:size]:
        return RequestResult(
            at, why=Why.BAD, detail="the device confirmed a different write", garbled=True
        )
    return RequestResult(at, pdu)


def cells(pdu: bytes, count: int) -> list[int]:
    """Give the registers or bits of a believed answer to a read of `count` cells."""
    if pdu[0] in BITS:
        return [pdu[2 + n // 8] >> n % 8 & 1 for n in range(count)]
    return [int.from_bytes(pdu[at : at + 2], "big") for at in range(2, 2 + 2 * count, 2)]


def whole(pdu: bytes) -> bool:
    """Whether an answer's own byte count agrees with its length and function."""
    if not pdu or len(pdu) == 1:
        return False
    if pdu[0] & REFUSED:
        return True
    if pdu[0] not in READS:
        return True
    return len(pdu) == 2 + pdu[1] and (pdu[0] not in REGISTERS or not pdu[1] & 1)


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

"""The result of one request, or why there is none; and what requests cost on a line."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.core.clock import monotonic
from agent.core.i18n import EMPTY, N_, Text
from agent.core.model import Why
from agent.drivers.modbus.codec import NETWORK, Tariff

if TYPE_CHECKING:
    from collections.abc import Mapping

EXCEPTIONS = {
    1: N_("illegal function"),
    2: N_("illegal data address"),
    3: N_("illegal data value"),
    4: N_("device failure"),
    5: N_("acknowledged, not ready yet"),
    6: N_("device busy"),
    7: N_("negative acknowledge"),
    8: N_("memory parity error"),
    10: N_("gateway path unavailable"),
    11: N_("gateway target device failed to respond"),
}
"""exception codes (Modbus Application Protocol V1.1b3, 7; 7 is from older editions)"""

RANGE = frozenset({2, 3})
"""the device refuses this address or count; a part of the block may still be readable"""
NOBODY_THERE = 11
FROM_GATEWAY = frozenset({10, 11})
"""a Modbus gateway did not reach the device; its unit id in the answer varies"""
BITS = frozenset({1, 2})
REGISTERS = frozenset({3, 4})
"""functions whose cells are two bytes each"""
READS = BITS | REGISTERS
REFUSED = 0x80
"""bit of the function code that marks an exception"""
MBAP = 6
"""bytes before the counted part of a frame (Modbus Messaging on TCP/IP V1.0b, 3.1.3)"""
RECENT = 900.0
"""seconds over which the usage of a line is measured"""
FULL = 0.9
"""share of the time above which one more silent device breaks the schedule"""
SURE = 3
"""requests of another master within RECENT seconds that are not an accident of noise"""
SERIAL = 0.00015
"""seconds per register from which a serial line is assumed: one takes 0.17 ms at 115200 baud"""
APART = 10
"""registers by which two answers must differ to be compared"""
DEAREST, CHEAPEST = 4.0, 128.0
"""least and greatest cost of a request, in registers. The cost is rounded to a power of two, so
that small variations do not change the plan
"""


@dataclass(frozen=True, slots=True)
class RequestResult:
    """The result of one request."""

    at: float
    """wall time of the answer, or of the end of the wait"""
    pdu: bytes = b""
    """function and data of a valid answer; empty unless `why` is None"""
    why: Why | None = None
    """None: the answer is valid"""
    detail: Text = EMPTY
    range_refused: bool = False
    """the device refused this block; a part of it may still be readable"""
    code: int = 0
    """exception code; 0: no exception"""
    garbled: bool = False
    """bytes were received that were not a valid answer"""
    unit: int | None = None
    """the unit id that answered, if not the one that was asked; then nothing else is known"""


def refusal(code: int, at: float) -> RequestResult:
    """The result for an exception code. If a Modbus gateway got no answer, the device is silent."""
    why = Why.SILENT if code == NOBODY_THERE else Why.BAD
    text = Text(EXCEPTIONS.get(code, "exception {code}"), code=code)
    return RequestResult(at, why=why, detail=text, range_refused=code in RANGE, code=code)


def of_another(unit: int, pdu: bytes, at: float) -> RequestResult:
    """The result for an answer of another unit: never a value of the unit that was asked."""
    if len(pdu) > 1 and pdu[0] & REFUSED and pdu[1] in FROM_GATEWAY:
        return refusal(pdu[1], at)
    detail = Text(
        "another unit answered: {unit}. If that is this device, write address: {unit}; behind a"
        " gateway, set the gateway to answer with the unit id of the request",
        unit=unit,
    )
    return RequestResult(at, why=Why.BAD, detail=detail, unit=unit)


def expected_size(request: bytes) -> int | None:
    """Bytes of the answer to a request PDU; None if only the answer itself tells."""
    function, count = request[0], int.from_bytes(request[3:5], "big")
    if function in BITS:
        return 2 + -(-count // 8)
    if function in REGISTERS:
        return 2 + 2 * count
    return 5 if function in {5, 6, 15, 16} else None


def checked(request: bytes, pdu: bytes, at: float) -> RequestResult:
    """Check an answer PDU against its request."""
    if not whole(pdu):
        return RequestResult(at, why=Why.BAD, detail=Text("garbled answer"), garbled=True)
    if pdu[0] & 0x7F != request[0]:
        return RequestResult(
            at,
            why=Why.BAD,
            detail=Text("the answer is for function {pdu}", pdu=pdu[0] & 127),
            garbled=True,
        )
    if pdu[0] & REFUSED:
        return refusal(pdu[1], at)
    size = expected_size(request)
    if size is not None and len(pdu) != size:
        detail = Text(
            "{number} bytes of values in the answer, {size} expected",
            number=len(pdu) - 2,
            size=size - 2,
        )
        return RequestResult(at, why=Why.BAD, detail=detail, garbled=True)
    # A write is confirmed by an echo of address and value, or of address and count (Application
    # Protocol 6.5, 6.6, 6.11, 6.12). Anything else confirms some other write.
    if request[0] not in READS and size is not None and pdu != request[:size]:
        return RequestResult(
            at, why=Why.BAD, detail=Text("the device confirmed a different write"), garbled=True
        )
    return RequestResult(at, pdu)


def cells(pdu: bytes, count: int) -> list[int]:
    """The registers or bits in a valid answer to a read of `count` cells."""
    if pdu[0] in BITS:
        return [pdu[2 + n // 8] >> n % 8 & 1 for n in range(count)]
    return [int.from_bytes(pdu[at : at + 2], "big") for at in range(2, 2 + 2 * count, 2)]


def whole(pdu: bytes) -> bool:
    """Whether the byte count in an answer matches its length and function."""
    if not pdu or len(pdu) == 1:
        return False
    if pdu[0] & REFUSED:
        return True
    if pdu[0] not in READS:
        return True
    return len(pdu) == 2 + pdu[1] and (pdu[0] not in REGISTERS or not pdu[1] & 1)


def in_step(left: bytes) -> bool:
    """Whether the unread bytes of a TCP stream are whole frames, so that the next byte begins one.

    If they are not, the beginning of the next frame is unknown, and only a new connection helps.
    """
    while left:
        end = MBAP + int.from_bytes(left[4:6], "big")
        if len(left) < max(MBAP, end) or left[2:4] != b"\0\0":
            return False
        left = left[end:]
    return True


class LineUsage:
    """The usage of one open line."""

    def __init__(self) -> None:
        self.since = monotonic()
        self.busy = 0.0
        self.answer_ms: dict[str, float] = {}
        self.failed: dict[str, int] = {}
        """by unit: requests without an answer since it was opened"""
        self.requests = 0
        self._parts: deque[tuple[float, float]] = deque()
        self._foreign_requests: deque[float] = deque(maxlen=SURE)

    def note(self, unit: int, began: float, answered: bool) -> None:
        """Note that a request ended now, and whether it was answered."""
        now = monotonic()
        self.requests += 1
        self._parts.append((now, now - began))
        self.busy += now - began
        while self._parts[0][0] < now - RECENT:
            self.busy -= self._parts.popleft()[1]
        if answered:
            self.answer_ms[str(unit)] = round((now - began) * 1000, 1)
        else:
            self.failed[str(unit)] = self.failed.get(str(unit), 0) + 1

    def foreign_request(self) -> None:
        """Note a request of another master on this line, now."""
        self._foreign_requests.append(monotonic())

    def health(self) -> Mapping[str, Any]:
        """The figures; see `agent.drivers.base.ObservableBus`."""
        share = min(1.0, self.busy / max(min(RECENT, monotonic() - self.since), 1.0))
        figures: dict[str, Any] = {
            "requests": self.requests,
            "busy": round(share, 4),
            "answer_ms": dict(self.answer_ms),
            "failed": dict(self.failed),
            "words": self._summary(share),
        }
        if share > FULL and monotonic() - self.since > RECENT:
            figures["worry"] = Text(
                "the line is busy {share:.0%} of the time: read some devices less often",
                share=share,
            )
        if len(self._foreign_requests) == SURE and self._foreign_requests[0] > monotonic() - RECENT:
            figures["worry"] = Text(
                "another master reads the devices on this line, so an answer to it may be taken"
                " for an answer to gardien: stop it, or take the readings from it"
            )
        return figures

    def _summary(self, share: float) -> str:
        if not self.answer_ms:
            return Text("no device has answered yet")
        slowest = max(self.answer_ms, key=lambda unit: self.answer_ms[unit])
        return Text(
            "busy {share:.0%} of the time; slowest: address {address}, {number:.0f} ms",
            share=share, address=slowest, number=self.answer_ms[slowest],
        )  # fmt: skip


class Latency:
    """The quickest answers of each unit, by how many registers they carried."""

    def __init__(self) -> None:
        self._quickest: dict[int, dict[int, float]] = {}

    def note(self, unit: int, pdu: bytes, answer: RequestResult, seconds: float) -> None:
        """Note how long an answer took."""
        if answer.why is None and pdu[0] in REGISTERS:
            count = int.from_bytes(pdu[3:5], "big")
            # The quickest answer is the one with the least waiting in queues, so it shows the cost.
            seen = self._quickest.setdefault(unit, {})
            seen[count] = min(seconds, seen.get(count, seconds))

    def tariff(self, unit: int) -> Tariff:
        """The costs of reading this unit."""
        seen = self._quickest.get(unit, {})
        few, many = min(seen, default=0), max(seen, default=0)
        # With answers of nearly one length, the difference is mostly jitter.
        if many - few < APART:
            return NETWORK
        register = (seen[many] - seen[few]) / (many - few)
        if register < SERIAL:
            return NETWORK
        request = max(1.0, (seen[few] - few * register) / register)
        return Tariff(request=min(CHEAPEST, max(DEAREST, 2.0 ** round(math.log2(request)))))

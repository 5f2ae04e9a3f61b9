"""How a line is used, and what requests and registers cost on it."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any

from agent.core.clock import monotonic
from agent.drivers.modbus.answer import REGISTERS
from agent.drivers.modbus.plan import NETWORK, Tariff

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.drivers.modbus.answer import RequestResult

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
            figures["worry"] = (
                f"the line is busy {share:.0%} of the time: read some devices less often"
            )
        if len(self._foreign_requests) == SURE and self._foreign_requests[0] > monotonic() - RECENT:
            figures["worry"] = (
                "another master reads the devices on this line, so an answer to it may be taken for"
                " an answer to gardien: stop it, or take the readings from it"
            )
        return figures

    def _summary(self, share: float) -> str:
        if not self.answer_ms:
            return "no device has answered yet"
        slowest = max(self.answer_ms, key=lambda unit: self.answer_ms[unit])
        return (
            f"busy {share:.0%} of the time, {1 - share:.0%} free;"
            f" slowest: address {slowest}, {self.answer_ms[slowest]:.0f} ms"
        )


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

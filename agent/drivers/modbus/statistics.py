"""How a line is used: the share of time, the answer time of each device, and other masters."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from agent.core.clock import monotonic

if TYPE_CHECKING:
    from collections.abc import Mapping

RECENT = 900.0
"""seconds over which the usage of a line is measured"""
FULL = 0.9
"""share of the time above which one more silent device breaks the schedule"""
SURE = 3
"""requests of another master within RECENT seconds that are not an accident of noise"""


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

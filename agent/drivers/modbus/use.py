"""How a line is used: what is spent on it, and how fast each device answers."""

from __future__ import annotations

from agent.clock import monotonic
from agent.drivers.base import Use


class Spent:
    """Time spent on one open line."""

    def __init__(self) -> None:
        self.since = monotonic()
        self.busy = 0.0
        self.answer_ms: dict[str, float] = {}
        self.requests = 0

    def note(self, unit: int, began: float, answered: bool) -> None:
        """One request has ended, now."""
        taken = monotonic() - began
        self.busy += taken
        self.requests += 1
        if answered:
            self.answer_ms[str(unit)] = taken * 1000

    def use(self) -> Use:
        """What it comes to."""
        return Use(monotonic() - self.since, self.busy, self.requests, dict(self.answer_ms))

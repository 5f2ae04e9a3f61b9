"""How much each recipient's line has moved this month: what a metered line is billed for.

Written down once an hour and at the end, so that a restart goes on counting; a kill -9 forgets less
than an hour.
"""

from __future__ import annotations

import json
from calendar import monthrange
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from agent.atomic_write import later

if TYPE_CHECKING:
    from pathlib import Path
    from zoneinfo import ZoneInfo


FILE = "data.json"
WRITE_EVERY = 3600.0
"""seconds: flash wears out"""


@dataclass(slots=True)
class MonthlyBytes:
    """Of one recipient: bytes in one month."""

    month: str = ""
    """such as 2026-11, in the building's time zone"""
    used: int = 0


class Traffic:
    """The counters of all recipients, by name."""

    def __init__(self, state: Path, zone: ZoneInfo) -> None:
        self._file, self._zone = state / FILE, zone
        self._counters = _recall(self._file)
        self._written = 0.0

    def count(self, recipient: str, number: int, now: float) -> None:
        """Add bytes; `now` in seconds since 1970."""
        counter = self.of(recipient, now)
        counter.used += number
        if number and abs(now - self._written) >= WRITE_EVERY:
            self.remember(now)

    def of(self, recipient: str, now: float) -> MonthlyBytes:
        """Give this month's counter of a recipient."""
        month = f"{datetime.fromtimestamp(now, self._zone):%Y-%m}"
        counter = self._counters.setdefault(recipient, MonthlyBytes(month))
        if counter.month != month:
            counter.month, counter.used = month, 0
        return counter

    def share(self, now: float) -> float:
        """How much of this month is over, in [0, 1]."""
        here = datetime.fromtimestamp(now, self._zone)
        days = monthrange(here.year, here.month)[1]
        return (here.day - 1 + (here.hour + here.minute / 60) / 24) / days

    def remember(self, now: float) -> None:
        """Write the counters down."""
        self._written = now
        stored = {name: [one.month, one.used] for name, one in self._counters.items()}
        later.write(self._file, json.dumps(stored).encode())


def _recall(file: Path) -> dict[str, MonthlyBytes]:
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
        return {name: MonthlyBytes(str(month), int(used)) for name, (month, used) in known.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}

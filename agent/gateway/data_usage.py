"""The data that each recipient's connection has used this month, as a mobile contract counts it.

The counters are stored once an hour and at shutdown, so a restart goes on counting. A kill loses
less than an hour.
"""

from __future__ import annotations

from calendar import monthrange
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from agent.core.state_file import StateFile
from agent.uplink import budget

if TYPE_CHECKING:
    from pathlib import Path
    from zoneinfo import ZoneInfo


FILE = "data.json"
WRITE_EVERY = 3600.0
"""seconds between two writes, to spare the flash"""


@dataclass(slots=True)
class MonthlyBytes:
    """The bytes of one recipient in one month."""

    month: str = ""
    """such as 2026-11, in the building's time zone"""
    used: int = 0


class Traffic:
    """The counters of all recipients."""

    def __init__(self, state: Path, zone: ZoneInfo) -> None:
        self._zone = zone
        self._file = StateFile[dict[str, MonthlyBytes]](
            state / FILE,
            lambda stored: {
                name: MonthlyBytes(str(month), int(used)) for name, (month, used) in stored.items()
            },
            missing=dict,
        )
        self._counters = self._file.load()
        self._written = 0.0

    def count(self, recipient: str, number: int, now: float) -> None:
        """Add `number` bytes to a recipient's counter. `now`: Unix seconds."""
        counter = self.of(recipient, now)
        counter.used += number
        if number and abs(now - self._written) >= WRITE_EVERY:
            self.remember(now)

    def of(self, recipient: str, now: float) -> MonthlyBytes:
        """Return the counter of a recipient for this month."""
        month = f"{datetime.fromtimestamp(now, self._zone):%Y-%m}"
        counter = self._counters.setdefault(recipient, MonthlyBytes(month))
        if counter.month != month:
            counter.month, counter.used = month, 0
        return counter

    def share(self, now: float) -> float:
        """Return how much of this month is over, in [0, 1]."""
        here = datetime.fromtimestamp(now, self._zone)
        days = monthrange(here.year, here.month)[1]
        return (here.day - 1 + (here.hour + here.minute / 60) / 24) / days

    def slowed(self, seal: float, recipient: str, allowed: int | None, now: float) -> float:
        """Return the seal interval in seconds, longer while the data run ahead of the budget.

        `allowed`: the budget of a month in bytes; None: there is none.
        """
        if allowed is None:
            return seal
        return budget.slowed(seal, self.of(recipient, now).used, allowed, self.share(now))

    def remember(self, now: float) -> None:
        """Queue the counters to be stored."""
        self._written = now
        stored = {name: [one.month, one.used] for name, one in self._counters.items()}
        self._file.save_later(stored)

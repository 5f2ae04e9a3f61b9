"""A device's own watchdog: what it is told again and again, so that it gives back once we are gone.

Who holds a point on such a device writes `word` to `point` when the hold begins and every `pause`
seconds from then on; when nobody does any more, the device falls back to what `fallback` holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.drivers.scaled import from_raw, to_raw

if TYPE_CHECKING:
    from decimal import Decimal

    from agent.model import Point


@dataclass(frozen=True, slots=True)
class DeviceWatchdog:
    """One device's, as its profile names it."""

    point: Point
    timeout: Decimal
    """seconds without a word, after which it falls back"""
    fallback: Point
    """holds the value to which it falls back"""

    @property
    def pause(self) -> float:
        """Seconds from one word to the next: one may be lost."""
        return float(self.timeout) / 2

    @property
    def raw_timeout(self) -> Decimal:
        """What the driver writes to `point`."""
        return to_raw(self.point, self.timeout)

    def on(self, held: Decimal) -> bool:
        """Whether it watches, by the raw value that stands in `point`: 0 turns it off, and what is
        longer than we say would give back later than we promise.
        """
        return 0 < from_raw(self.point, held) <= self.timeout

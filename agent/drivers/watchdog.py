"""A device's own watchdog: it falls back by itself once the gateway does not write any more.

While a hold is in force, the controller writes `raw_timeout` to `point`, first at the beginning of
the hold and then every `pause` seconds. If these writes stop, the device falls back to the value
in `fallback`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.drivers.scaled import from_raw, to_raw

if TYPE_CHECKING:
    from decimal import Decimal

    from agent.core.model import Point


@dataclass(frozen=True, slots=True)
class DeviceWatchdog:
    """The watchdog of one device, as its profile describes it."""

    point: Point
    timeout: Decimal
    """seconds without a write after which the device falls back"""
    fallback: Point
    """the point that holds the fallback value"""

    @property
    def pause(self) -> float:
        """Seconds between two writes: half of the timeout, so that one write may be lost."""
        return float(self.timeout) / 2

    @property
    def raw_timeout(self) -> Decimal:
        """The raw value that the driver writes to `point`."""
        return to_raw(self.point, self.timeout)

    def on(self, held: Decimal) -> bool:
        """Whether the watchdog is active, by the raw value `held` in `point`.

        0 switches it off. A time longer than `timeout` does not count either: the device would fall
        back later than the form for the assembly promises.
        """
        return 0 < from_raw(self.point, held) <= self.timeout

"""The last readings of points, as far as a guard may rely on them.

A broken sensor often still gives values: 3276.7 °C if its wire is cut, or the same value for days.
With either, a guard would never trip. So neither value is used (channels.yaml: `least`, `most`,
`still`).
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from agent.control.guard import GuardReading, measured, plain
from agent.control.settings import split
from agent.core.channels import channels
from agent.core.units import factor

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.config import Config
    from agent.core.clock import Clock
    from agent.core.model import Point, Sample


class PointReadings:
    """See the module. The configuration is read anew for each reading, because it may change."""

    def __init__(
        self,
        config: Callable[[], Config],
        clock: Clock,
        latest: Callable[[str, str], Sample | None],
    ) -> None:
        self._config, self._clock, self._latest = config, clock, latest
        self._still: dict[str, tuple[Decimal, float]] = {}
        """the value of a sensor, and since when it has not changed (monotonic)"""

    def seen(self, device: str, name: str) -> GuardReading:
        """The last value of a point, in its own unit, with its age and any doubt."""
        point, sample = self._config().point(f"{device}/{name}"), self._latest(device, name)
        if sample is None:
            return GuardReading(None, 0.0, point.every)
        age = self._clock.now() - sample.at
        if sample.why is not None or not isinstance(sample.value, Decimal):
            # an invalid value interrupts the time without a change
            self._still.pop(f"{device}/{name}", None)
            doubt = f"has no valid value: {sample.detail}" if sample.detail else ""
            return GuardReading(None, age, point.every, doubt)
        value = sample.value * point.scale
        doubt = self._doubt(point, value)
        return GuardReading(None if doubt else value, age, point.every, doubt)

    def _doubt(self, point: Point, value: Decimal) -> str:
        """Why a value is not plausible; empty: it is."""
        channel = channels().get(point.channel or "")
        by = factor(point.unit, channel.unit) if channel else None
        if channel is None or by is None:
            return ""
        comparable, since = value * by, self._since(f"{point.device}/{point.name}", value)
        low = channel.least is not None and comparable < channel.least
        if low or (channel.most is not None and comparable > channel.most):
            return f"reads {measured(value, point.unit)}, which is not plausible"
        if channel.still is not None and self._clock.steady() - since > channel.still:
            hours = f"{channel.still / 3600:g} h"
            return f"has read {measured(value, point.unit)} for more than {hours}: it is stuck"
        return ""

    def _since(self, name: str, value: Decimal) -> float:
        known = self._still.get(name)
        if known is None or known[0] != value:
            known = self._still[name] = value, self._clock.steady()
        return known[1]

    def power(self, control: str) -> str:
        """The power of a control's plant now, with its unit; empty: it is not known."""
        options = self._config().controls.get(control)
        if options is None or options.measure is None:
            return ""
        point, sample = self._config().point(options.measure), self._latest(*split(options.measure))
        if sample is None or not isinstance(sample.value, Decimal):
            return ""
        return f"{plain(sample.value * point.scale)} {point.unit}"

"""Gathers what the small history keeps: quarters of an hour of common areas, plant and the gateway.

A poller hands over every sample that it accepts, once its slot is known. Samples wait here, in
bounded memory, until their quarter is over and the next commit takes them.
"""

from __future__ import annotations

import math
from array import array
from decimal import Decimal
from typing import TYPE_CHECKING

from agent.acquisition.slots import multiplier
from agent.acquisition.values import GOOD
from agent.buffer.history_store import (
    AMOUNT,
    GAUGE,
    QUARTER,
    REGISTER,
    SeriesName,
    SlotValue,
    mean,
    rounded,
)
from agent.core.model import ValueKind
from agent.core.quantities import channels

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from agent.core.model import Point, Sample

OWN = "@gateway"
"""in place of the device, for series of the gateway itself; no device can have this name"""
MOST_WAITING = 4_000
"""slots in memory at most: while the disk fails, the oldest are dropped (40 series: a day)"""
MINUTES = 48 * 60
"""minutes for which the points of controls are kept in memory"""
MOST_MINUTE_POINTS = 16

PointName = tuple[str, str]
"""device and point"""


class MinuteValues:
    """The values of one point for the last 48 h, by minute, in 11.5 kB."""

    def __init__(self) -> None:
        self._values = array("f", [math.nan]) * MINUTES
        self._last = 0
        """the latest minute with a value"""

    def put(self, t: int, value: float) -> None:
        """Note a value at a moment (Unix seconds). The first value of a minute stays."""
        minute = t // 60
        if self._last and minute > self._last:
            for passed in range(max(self._last + 1, minute - MINUTES + 1), minute + 1):
                self._values[passed % MINUTES] = math.nan
        elif minute <= self._last - MINUTES:
            return
        self._last = max(self._last, minute)
        if math.isnan(self._values[minute % MINUTES]):
            self._values[minute % MINUTES] = value

    def forget_after(self, t: int) -> None:
        """Drop values of the future: a wrong clock has dated them."""
        now = t // 60 + 1
        if self._last > now:
            kept = self.between(0, t)
            self._values, self._last = array("f", [math.nan]) * MINUTES, 0
            for at, value in kept:
                self.put(at, value)

    def between(self, since: float, until: float) -> list[tuple[int, float]]:
        """The values in [since, until] with their times, the oldest first."""
        first = max(self._last - MINUTES + 1, math.ceil(since / 60))
        last = min(self._last, int(until // 60))
        values = (
            (minute * 60, self._values[minute % MINUTES]) for minute in range(first, last + 1)
        )
        return [(at, rounded(value)) for at, value in values if not math.isnan(value)]


class _OpenSlot:
    """The samples of one series in one quarter."""

    __slots__ = ("high", "last", "low", "number", "total")

    def __init__(self) -> None:
        self.number, self.total, self.low, self.high = 0, 0.0, math.inf, -math.inf
        self.last = (0, 0.0)

    def add(self, slot: int, value: float) -> None:
        if slot <= self.last[0]:
            return  # read twice, or late: the first value stays
        self.number, self.total = self.number + 1, self.total + value
        self.low, self.high = min(self.low, value), max(self.high, value)
        self.last = slot, value

    def values(self, kind: str) -> tuple[float, ...]:
        if kind == REGISTER:
            return (self.last[1],)
        if kind == AMOUNT:
            return (rounded(self.total),)
        if self.low == self.high:
            return (self.low,)
        return self.low, mean(self.total, self.number), self.high


class CommonHistory:
    """What waits for the history, and the minutes of the points of controls."""

    def __init__(self) -> None:
        self.kept: frozenset[PointName] = frozenset()
        """the points that are kept: of common areas and plant, never of a dwelling"""
        self.minutes: dict[PointName, MinuteValues] = {}
        self._open: dict[tuple[SeriesName, int], _OpenSlot] = {}
        self._serials: dict[PointName, str] = {}
        self.dropped = 0
        """slots dropped since the start because the disk failed"""

    def keep(self, points: frozenset[PointName], by_minute: Sequence[PointName]) -> None:
        """Set which points are kept, and which of them by minute too; drop what waits of others."""
        self.kept = points
        self._open = {
            key: slot
            for key, slot in self._open.items()
            if key[0].device == OWN or (key[0].device, key[0].point) in points
        }
        names = [name for name in dict.fromkeys(by_minute) if name in points]
        self.minutes = {
            name: self.minutes.get(name) or MinuteValues() for name in names[:MOST_MINUTE_POINTS]
        }

    def note(self, slot: int, samples: Iterable[Sample], serial: str | None) -> None:
        """Keep the good values of a slot, as far as their points are kept."""
        for sample in samples:
            point = sample.point
            name = point.device, point.name
            if name not in self.kept or point.derived or sample.why is not None:
                continue
            if not isinstance(sample.value, Decimal) or sample.quality not in GOOD:
                continue
            value = float(sample.value * multiplier(point))
            if not math.isfinite(value):
                continue
            if serial:
                self._serials[name] = serial
            self._put(series_of(point, self._serials.get(name, "")), slot, value)
            if name in self.minutes:
                self.minutes[name].put(slot, value)

    def note_own(self, point: str, unit: str, at: float, value: float, kind: str = GAUGE) -> None:
        """Keep a value of the gateway itself."""
        self._put(SeriesName(OWN, point, None, unit, kind), int(at), value)

    def _put(self, name: SeriesName, slot: int, value: float) -> None:
        t = -(-slot // QUARTER) * QUARTER
        self._open.setdefault((name, t), _OpenSlot()).add(slot, value)
        while len(self._open) > MOST_WAITING:
            del self._open[next(iter(self._open))]
            self.dropped += 1

    def forget_after(self, now: int) -> None:
        """Drop what a wrong clock has dated in the future."""
        self._open = {key: slot for key, slot in self._open.items() if key[1] <= now + QUARTER}
        for minutes in self.minutes.values():
            minutes.forget_after(now)

    def waiting(self, until: float) -> list[SlotValue]:
        """The slots that ended at or before `until`, the oldest first."""
        over = [key for key in self._open if key[1] <= until]
        return [
            SlotValue(name, t, self._open[name, t].values(name.kind))
            for name, t in sorted(over, key=lambda key: key[1])
        ]

    def stored(self, values: Iterable[SlotValue]) -> None:
        """Drop slots that were committed."""
        for value in values:
            self._open.pop((value.name, value.t), None)


def series_of(point: Point, serial: str) -> SeriesName:
    """The series of a configured point, with the meter that is there now."""
    channel = channels().get(point.channel or "")
    register = channel is not None and channel.kind is ValueKind.REG
    unit = channel.unit if channel else point.unit
    kind = REGISTER if register else GAUGE
    return SeriesName(
        point.device, point.name, point.channel, unit, kind, serial if register else ""
    )


def quantities(
    parts: Sequence[Mapping[int, tuple[float, ...]]],
) -> dict[int, tuple[float | None, float]]:
    """The quantity and the index at each slot of a register. `parts`: one for each meter.

    The quantity is the difference to the meter's previous index that is known; None for its first
    one, and where it fell.
    """
    slots: dict[int, tuple[float | None, float]] = {}
    for part in parts:
        before: float | None = None
        for t in sorted(part):
            index = part[t][0]
            rise = None if before is None or index < before else float(f"{index - before:.10g}")
            slots[t], before = (rise, index), index
    return dict(sorted(slots.items()))

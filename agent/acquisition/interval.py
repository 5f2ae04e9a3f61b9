"""Derives intervals from indexes: the index is measured, the difference is calculated (rule M2)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from agent.acquisition.timetable import following
from agent.core.model import Flag, Quality, Sample, Why

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from zoneinfo import ZoneInfo

    from agent.core.model import MarkKey, Point


class _Last(NamedTuple):
    """The state of an index at its last slot."""

    slot: int
    missing: Why | None
    """why the index of that slot is not known; None: it is known"""
    good: int
    """the last slot with a known index"""


NEVER = _Last(-1, Why.AGENT, -1)


class Intervals:
    """Remembers, for each index from which an interval is derived, whether its last slot was
    good.
    """

    def __init__(self, zone: ZoneInfo | None) -> None:
        self._zone = zone
        self._last: dict[tuple[MarkKey, str], _Last] = {}

    def derive(self, points: Sequence[Point], slot: int, samples: Sequence[Sample]) -> list[Sample]:
        """One sample for each derived point of this slot: a difference, or the reason why there is
        none.

        A difference needs two good indexes in consecutive slots. Over a gap only the indexes state
        the consumption; nothing is split by guessing.
        """
        return [self._interval(point, slot, index) for point, index in _pairs(points, samples)]

    def late(self, points: Sequence[Point], slot: int, samples: Sequence[Sample]) -> list[Sample]:
        """The differences up to the last slot whose indexes came late. The next slot is then
        calculated with these indexes (rule M2).
        """
        differences = []
        for point, index in _pairs(points, samples):
            before = self._last.get(_key(point), NEVER)
            # Only the last slot can still be completed: later differences have been made without
            # it.
            if index.why is None and before.slot == slot and before.missing is not None:
                self._last[_key(point)] = before._replace(slot=before.good, missing=None)
                differences.append(self._interval(point, slot, index))
        return [sample for sample in differences if sample.why is None]

    def _interval(self, point: Point, slot: int, index: Sample) -> Sample:
        before = self._last.get(_key(point), NEVER)
        good = index.why is None and index.quality in (Quality.MEASURED, Quality.RAW)
        known, missing = (slot, None) if good else (before.good, index.why or Why.BAD)
        self._last[_key(point)] = _Last(slot, missing, known)
        blank = replace(index, point=point, value=None, delta=None, flags=())
        if missing is not None:
            return replace(blank, why=missing)
        follows = before.slot >= 0 and following(before.slot, point.every, self._zone) == slot
        if index.delta is None or before.missing is not None or not follows:
            # A delta without a predecessor slot: slots were skipped, so the line was too slow.
            why = Why.BUSY if index.delta is not None else Why.BAD
            return replace(blank, why=before.missing or why)
        flags = tuple(flag for flag in index.flags if flag == Flag.ROLLED)
        return replace(blank, value=index.delta, quality=Quality.CALCULATED, flags=flags)


def _key(point: Point) -> tuple[MarkKey, str]:
    return (point.device, point.every), str(point.channel)


def _pairs(points: Sequence[Point], samples: Sequence[Sample]) -> Iterator[tuple[Point, Sample]]:
    for point in points:
        for sample in samples:
            if sample.point.channel == point.channel:
                yield point, sample

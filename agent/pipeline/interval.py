"""Intervals out of indexes: the index is truth, the difference is derived (rule M2)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from agent.model import Flag, Quality, Sample, Why
from agent.pipeline.timetable import following

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from zoneinfo import ZoneInfo

    from agent.model import MarkKey, Point


class _Last(NamedTuple):
    """What is known of an index at the last slot."""

    slot: int
    gone: Why | None
    """why it is not known then"""
    good: int
    """the last slot of which it is known"""


NEVER = _Last(-1, Why.AGENT, -1)


class Intervals:
    """Remembers, of each index that an interval is asked of, whether its last slot was good."""

    def __init__(self, zone: ZoneInfo | None) -> None:
        self._zone = zone
        self._last: dict[tuple[MarkKey, str], _Last] = {}

    def derive(self, points: Sequence[Point], slot: int, samples: Sequence[Sample]) -> list[Sample]:
        """One sample for each derived point of this slot: a difference, or why there is none.

        It is calculated only from two good indexes in slots that follow each other; over a gap the
        indexes themselves say what flowed, and nothing is split by guessing.
        """
        return [self._interval(point, slot, index) for point, index in _pairs(points, samples)]

    def late(self, points: Sequence[Point], slot: int, samples: Sequence[Sample]) -> list[Sample]:
        """The differences up to the last slot that its indexes, which came late, make known; the
        slot after it is reckoned with them (rule M2).
        """
        found = []
        for point, index in _pairs(points, samples):
            before = self._last.get(_key(point), NEVER)
            if index.why is None and before.slot == slot and before.gone is not None:
                self._last[_key(point)] = before._replace(slot=before.good, gone=None)
                found.append(self._interval(point, slot, index))
        return [one for one in found if one.why is None]

    def _interval(self, point: Point, slot: int, index: Sample) -> Sample:
        before = self._last.get(_key(point), NEVER)
        good = index.why is None and index.quality in (Quality.MEASURED, Quality.RAW)
        known, gone = (slot, None) if good else (before.good, index.why or Why.BAD)
        self._last[_key(point)] = _Last(slot, gone, known)
        blank = replace(index, point=point, value=None, delta=None, flags=())
        if gone is not None:
            return replace(blank, why=gone)
        follows = before.slot >= 0 and following(before.slot, point.every, self._zone) == slot
        if index.delta is None or before.gone is not None or not follows:
            why = Why.BUSY if index.delta is not None else Why.BAD
            return replace(blank, why=before.gone or why)
        flags = tuple(flag for flag in index.flags if flag == Flag.ROLLED)
        return replace(blank, value=index.delta, quality=Quality.CALCULATED, flags=flags)


def _key(point: Point) -> tuple[MarkKey, str]:
    return (point.device, point.every), str(point.channel)


def _pairs(points: Sequence[Point], samples: Sequence[Sample]) -> Iterator[tuple[Point, Sample]]:
    for point in points:
        for sample in samples:
            if sample.point.channel == point.channel:
                yield point, sample

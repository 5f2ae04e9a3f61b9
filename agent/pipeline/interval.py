"""Intervals out of indexes: the index is truth, the difference is derived (MDP-1, rule 2)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.model import Flag, Quality, Sample, Why
from agent.pipeline.timetable import following

if TYPE_CHECKING:
    from collections.abc import Sequence
    from zoneinfo import ZoneInfo

    from agent.model import MarkKey, Point


class Intervals:
    """Remembers, of each index that an interval is asked of, whether its last slot was good."""

    def __init__(self, zone: ZoneInfo | None) -> None:
        self._zone = zone
        self._last: dict[tuple[MarkKey, str], tuple[int, Why | None]] = {}

    def derive(self, points: Sequence[Point], slot: int, samples: Sequence[Sample]) -> list[Sample]:
        """One sample for each derived point of this slot: a difference, or why there is none.

        It is calculated only from two good indexes in slots that follow each other; over a gap the
        indexes themselves say what flowed, and nothing is split by guessing.
        """
        return [
            self._interval(point, slot, sample)
            for point in points
            for sample in samples
            if sample.point.channel == point.channel
        ]

    def _interval(self, point: Point, slot: int, index: Sample) -> Sample:
        key = ((point.device, point.every), str(point.channel))
        before, gone = self._last.get(key, (-1, Why.AGENT))
        good = index.why is None and index.quality in (Quality.MEASURED, Quality.RAW)
        self._last[key] = (slot, None if good else index.why or Why.BAD)
        blank = replace(index, point=point, value=None, delta=None, flags=())
        if index.why is not None or not good:
            return replace(blank, why=index.why or Why.BAD)
        next_one = before >= 0 and following(before, point.every, self._zone) == slot
        if index.delta is None or gone is not None or not next_one:
            return replace(blank, why=gone or (Why.BUSY if index.delta is not None else Why.BAD))
        flags = tuple(flag for flag in index.flags if flag == Flag.ROLLED)
        return replace(blank, value=index.delta, quality=Quality.CALCULATED, flags=flags)

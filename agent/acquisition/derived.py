"""Values that are derived from readings: intervals from indexes, means over a step. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from decimal import Context, Decimal
from typing import TYPE_CHECKING, NamedTuple

from agent.acquisition.slots import multiplier
from agent.acquisition.timetable import following
from agent.core.model import Flag, Quality, Sample, Why
from agent.registry.dates import slot_before

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from zoneinfo import ZoneInfo

    from agent.core.model import MarkKey, Point

LEAST = Decimal("0.8")
"""share of the reads of a step that must be good"""
GOOD = (Quality.MEASURED, Quality.RAW)
EXACT = Context(prec=80)


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


class Means:
    """Remembers, for each source of a mean, the values of the longest step that uses it."""

    def __init__(self, zone: ZoneInfo | None) -> None:
        self._zone = zone
        self._values_of: dict[tuple[str, str], dict[int, Decimal | Why]] = {}
        self._every: dict[tuple[str, str], int] = {}

    def note(self, means: Sequence[Point], slot: int, samples: Sequence[Sample]) -> None:
        """Remember the values of a slot from which one of these means is calculated."""
        for sample in samples:
            steps = [mean.every for mean in means if mean.of == sample.point.name]
            if steps:
                self._remember(sample, slot, max(steps))

    def derive(self, means: Sequence[Point], slot: int) -> list[Sample]:
        """One sample for each of these means whose step ends at `slot`."""
        return [self._mean(point, slot) for point in means]

    def _remember(self, sample: Sample, slot: int, longest: int) -> None:
        key = (sample.point.device, sample.point.name)
        values = self._values_of.setdefault(key, {})
        values[slot] = _value(sample)
        self._every[key] = sample.point.every
        for old_slot in [slot_ for slot_ in values if slot_ <= slot - 2 * longest]:
            del values[old_slot]

    def _mean(self, point: Point, slot: int) -> Sample:
        key, since = (point.device, point.of), slot_before(slot, point.every, self._zone)
        values = [value for at, value in self._values_of.get(key, {}).items() if since < at <= slot]
        good = [value for value in values if isinstance(value, Decimal)]
        wanted = (slot - since) // self._every.get(key, point.every)
        if not good or len(good) < LEAST * wanted:
            return Sample(point, float(slot), why=_why(values, wanted))
        return Sample(point, float(slot), _rounded(good), quality=Quality.CALCULATED)


def _value(sample: Sample) -> Decimal | Why:
    """The value in the channel's unit; a suspect value counts as bad."""
    if sample.why is not None:
        return sample.why
    if not isinstance(sample.value, Decimal) or sample.quality not in GOOD:
        return Why.BAD
    return EXACT.multiply(sample.value, multiplier(sample.point))


def _why(values: Sequence[Decimal | Why], wanted: int) -> Why:
    """The most frequent reason among the missing reads; a read that was never made counts as
    `agent`.
    """
    reasons = Counter(value for value in values if isinstance(value, Why))
    reasons[Why.AGENT] += wanted - len(values)
    return reasons.most_common(1)[0][0]


def _rounded(values: Sequence[Decimal]) -> Decimal:
    """The mean, with one digit more than the finest value has."""
    total, finest = Decimal(0), 0
    for value in values:
        total = EXACT.add(total, value)
        finest = min(finest, int(value.as_tuple().exponent))
    return EXACT.quantize(EXACT.divide(total, Decimal(len(values))), Decimal(1).scaleb(finest - 1))

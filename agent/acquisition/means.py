"""Means over a step of values that are read more often (kind AVG, rule M16). Pure.

A mean counts for its whole step only if nearly all reads of the step were good. Otherwise it is
missing, for the most frequent reason among the reads.
"""

from __future__ import annotations

from collections import Counter
from decimal import Context, Decimal
from typing import TYPE_CHECKING

from agent.acquisition.slots import multiplier
from agent.core.model import Quality, Sample, Why
from agent.registry.dates import slot_before

if TYPE_CHECKING:
    from collections.abc import Sequence
    from zoneinfo import ZoneInfo

    from agent.core.model import Point

LEAST = Decimal("0.8")
"""share of the reads of a step that must be good"""
GOOD = (Quality.MEASURED, Quality.RAW)
EXACT = Context(prec=80)


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

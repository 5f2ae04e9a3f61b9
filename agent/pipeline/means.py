"""Means over a step of what is read more often than that: kind AVG (rule M16). Pure.

A mean speaks for its whole step only if nearly all of it was read; else it is missing, for the
reason for which most of the reads are.
"""

from __future__ import annotations

from collections import Counter
from decimal import Context, Decimal
from typing import TYPE_CHECKING

from agent.model import Quality, Sample, Why
from agent.pipeline.slots import multiplier
from agent.registry.dates import slot_before

if TYPE_CHECKING:
    from collections.abc import Sequence
    from zoneinfo import ZoneInfo

    from agent.model import Point

LEAST = Decimal("0.8")
"""of the reads of a step that must have brought a good value"""
GOOD = (Quality.MEASURED, Quality.RAW)
EXACT = Context(prec=80)


class Means:
    """Remembers, of each value that a mean is asked of, what the slots of the longest one said."""

    def __init__(self, zone: ZoneInfo | None) -> None:
        self._zone = zone
        self._said: dict[tuple[str, str], dict[int, Decimal | Why]] = {}
        self._every: dict[tuple[str, str], int] = {}

    def note(self, means: Sequence[Point], slot: int, samples: Sequence[Sample]) -> None:
        """Remember what was read for a slot, where it is the source of one of a device's means."""
        for sample in samples:
            steps = [mean.every for mean in means if mean.of == sample.point.name]
            if steps:
                self._remember(sample, slot, max(steps))

    def derive(self, means: Sequence[Point], slot: int) -> list[Sample]:
        """One sample for each of these means, whose step ends at `slot`."""
        return [self._mean(point, slot) for point in means]

    def _remember(self, sample: Sample, slot: int, longest: int) -> None:
        key = (sample.point.device, sample.point.name)
        said = self._said.setdefault(key, {})
        said[slot] = _value(sample)
        self._every[key] = sample.point.every
        for old in [one for one in said if one <= slot - 2 * longest]:
            del said[old]

    def _mean(self, point: Point, slot: int) -> Sample:
        key, since = (point.device, point.of), slot_before(slot, point.every, self._zone)
        said = [one for at, one in self._said.get(key, {}).items() if since < at <= slot]
        values = [one for one in said if isinstance(one, Decimal)]
        wanted = (slot - since) // self._every.get(key, point.every)
        if not values or len(values) < LEAST * wanted:
            return Sample(point, float(slot), why=_why(said, wanted))
        return Sample(point, float(slot), _rounded(values), quality=Quality.CALCULATED)


def _value(sample: Sample) -> Decimal | Why:
    """In the channel's unit; a suspect one counts for nothing."""
    if sample.why is not None:
        return sample.why
    if not isinstance(sample.value, Decimal) or sample.quality not in GOOD:
        return Why.BAD
    return EXACT.multiply(sample.value, multiplier(sample.point))


def _why(said: Sequence[Decimal | Why], wanted: int) -> Why:
    """The reason of most of the reads that are missing; those nobody made are ours."""
    reasons = Counter(one for one in said if isinstance(one, Why))
    reasons[Why.AGENT] += wanted - len(said)
    return reasons.most_common(1)[0][0]


def _rounded(values: Sequence[Decimal]) -> Decimal:
    """With one digit more than the finest value has."""
    total, finest = Decimal(0), 0
    for value in values:
        total = EXACT.add(total, value)
        finest = min(finest, int(value.as_tuple().exponent))
    return EXACT.quantize(EXACT.divide(total, Decimal(len(values))), Decimal(1).scaleb(finest - 1))

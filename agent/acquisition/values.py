"""How far a value can be trusted, and values derived from readings (rules M6, M8). Pure.

Values are in their channel's unit, times are monotonic. Nothing is changed or dropped here: a value
that fails a check is kept and marked S, and the next values are compared with the last good one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from decimal import Context, Decimal
from typing import TYPE_CHECKING, NamedTuple

from agent.acquisition.slots import multiplier
from agent.acquisition.timetable import following
from agent.core.model import Flag, Quality, Sample, ValueKind, Why
from agent.core.quantities import channels
from agent.registry.dates import slot_before

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from zoneinfo import ZoneInfo

    from agent.core.model import Channel, MarkKey, Point

MARGIN = Decimal("1.2")
"""factor above its rating that a meter may count before the value is suspect"""
NEAR_THE_END = Decimal("0.9")
"""share of the highest index: only above it may the index have rolled over"""
STILL = 30 * 86_400.0
"""seconds without a change after which an index is flagged FRZ"""
LEAST = Decimal("0.8")
"""share of the reads of a step that must be good"""
GOOD = (Quality.MEASURED, Quality.RAW)
EXACT = Context(prec=80)


class CheckedValue(NamedTuple):
    """The result for one value."""

    quality: Quality
    flags: tuple[Flag, ...]
    delta: Decimal | None
    """the consumption since the last good value, if the two can be compared (rollover corrected)"""


@dataclass(frozen=True, slots=True)
class PreviousValue:
    """A value and when it was read."""

    value: Decimal
    at: float


class Validation:
    """Remembers, for each point, the last good value and a suspect value since then."""

    def __init__(self) -> None:
        self._good: dict[tuple[str, str], PreviousValue] = {}
        self._odd: dict[tuple[str, str], PreviousValue] = {}
        self._still: dict[tuple[str, str], PreviousValue] = {}

    def forget(self, device: str) -> None:
        """Forget a device: another meter may be installed, and its values cannot be compared."""
        for memory in (self._good, self._odd, self._still):
            for key in [key for key in memory if key[0] == device]:
                del memory[key]

    def check(self, point: Point, value: Decimal, at: float) -> CheckedValue:
        """Check one value of a point that has a channel, read at monotonic time `at`.

        A suspect value that the next one confirms was right: the meter was reset or set.
        """
        key, now = (point.device, point.name), PreviousValue(value, at)
        channel = channels()[str(point.channel)]
        verdict = _against(point, channel, self._good.get(key), now)
        odd = self._odd.pop(key, None)
        if verdict.quality is Quality.SUSPECT and Flag.RANGE not in verdict.flags:
            # Two suspect values that agree with each other: the meter was reset, so start from
            # them.
            if odd is None or _against(point, channel, odd, now).quality is Quality.SUSPECT:
                self._odd[key] = now
                return verdict
            verdict = CheckedValue(Quality.RAW, (), None)
        elif verdict.quality is Quality.SUSPECT:
            return verdict
        self._good[key] = now
        return verdict._replace(flags=(*verdict.flags, *self._frozen(key, channel, now)))

    def _frozen(
        self, key: tuple[str, str], channel: Channel, now: PreviousValue
    ) -> tuple[Flag, ...]:
        since = self._still.get(key)
        if since is None or since.value != now.value:
            self._still[key] = now
            return ()
        longest = STILL if channel.kind is ValueKind.REG else channel.still
        return (Flag.FROZEN,) if longest is not None and now.at - since.at > longest else ()


def _against(
    point: Point, channel: Channel, before: PreviousValue | None, now: PreviousValue
) -> CheckedValue:
    if channel.kind is ValueKind.REG:
        return _index(point, before, now)
    return _momentary(channel, before, now)


def _momentary(channel: Channel, before: PreviousValue | None, now: PreviousValue) -> CheckedValue:
    """Within the range of the quantity, and changing no faster than it can."""
    least, most, jump = channel.least, channel.most, channel.jump
    if (least is not None and now.value < least) or (most is not None and now.value > most):
        return CheckedValue(Quality.SUSPECT, (Flag.RANGE,), None)
    checked = least is not None and most is not None
    if jump is not None and before is not None:
        # At least a minute: between two quick reads any change would look like a jump.
        minutes = max(Decimal(1), Decimal((now.at - before.at) / 60))
        if abs(now.value - before.value) > jump * minutes:
            return CheckedValue(Quality.SUSPECT, (Flag.SPIKE,), None)
    # The first value cannot be checked for jumps, so it is not V yet.
    checked = checked and (jump is None or before is not None)
    return CheckedValue(Quality.MEASURED if checked else Quality.RAW, (), None)


def _index(point: Point, before: PreviousValue | None, now: PreviousValue) -> CheckedValue:
    """Rising no faster than the meter's rating; lower only after a rollover."""
    if now.value < 0 or (point.rolls_at is not None and now.value > point.rolls_at):
        return CheckedValue(Quality.SUSPECT, (Flag.RANGE,), None)
    if before is None:
        return CheckedValue(Quality.RAW, (), None)
    delta, most = now.value - before.value, _most(point, before, now)
    fine = Quality.RAW if most is None else Quality.MEASURED
    if delta >= 0:
        if most is not None and delta > most:
            return CheckedValue(Quality.SUSPECT, (Flag.SPIKE,), None)
        return CheckedValue(fine, (), delta)
    end = point.rolls_at or _power_of_ten(before.value)
    rolled = delta + end
    # Without a rating a rollover is accepted only at a configured end, and up to a tenth of it.
    likely = end / 10 if most is None and point.rolls_at is not None else most
    if before.value > NEAR_THE_END * end and likely is not None and rolled <= likely:
        return CheckedValue(fine, (Flag.ROLLED,), rolled)
    return CheckedValue(Quality.SUSPECT, (Flag.RESET,), None)


def _most(point: Point, before: PreviousValue, now: PreviousValue) -> Decimal | None:
    """The highest possible consumption between two reads, with one digit of rounding."""
    if point.rating is None:
        return None
    hours = Decimal(max(1.0, now.at - before.at)) / 3600
    return point.rating * hours * MARGIN + max(_digit(before.value), _digit(now.value))


def _digit(value: Decimal) -> Decimal:
    exponent = value.as_tuple().exponent
    return Decimal(1).scaleb(exponent if isinstance(exponent, int) else 0)


def _power_of_ten(value: Decimal) -> Decimal:
    return Decimal(1).scaleb(value.adjusted() + 1)


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

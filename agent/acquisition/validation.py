"""How far a value can be trusted: the checks of rules M6, M8. Pure.

Values are in their channel's unit, times are monotonic. Nothing is changed or dropped here: a value
that fails a check is kept and marked S, and the next values are compared with the last good one.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from agent.core.model import Flag, Quality, ValueKind
from agent.core.quantities import channels

if TYPE_CHECKING:
    from agent.core.model import Channel, Point

MARGIN = Decimal("1.2")
"""factor above its rating that a meter may count before the value is suspect"""
NEAR_THE_END = Decimal("0.9")
"""share of the highest index: only above it may the index have rolled over"""
STILL = 30 * 86_400.0
"""seconds without a change after which an index is flagged FRZ"""


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

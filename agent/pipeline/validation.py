"""How far a value can be trusted: the checks of rules M6, M8. Pure.

Values are in their channel's unit, times monotonic. Nothing is changed or left out here: what fails
a check is kept, marked S, and the next values are judged against the last good one.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from agent.channels import channels
from agent.model import Flag, Quality, ValueKind

if TYPE_CHECKING:
    from agent.model import Channel, Point

MARGIN = Decimal("1.2")
"""how far above its rating a meter may count before it is not believed"""
NEAR_THE_END = Decimal("0.9")
"""of what an index can show: only above may it have rolled over"""
STILL = 30 * 86_400.0
"""seconds for which an index may stand still before it is said so"""


class Weighed(NamedTuple):
    """The verdict on one value."""

    quality: Quality
    flags: tuple[Flag, ...]
    delta: Decimal | None
    """what flowed since the last good value, if the two can be compared (rollover corrected)"""


@dataclass(frozen=True, slots=True)
class PreviousValue:
    """A value and when it was read."""

    value: Decimal
    at: float


class Validation:
    """Remembers, of each point, the last good value and one that was not believed since."""

    def __init__(self) -> None:
        self._good: dict[tuple[str, str], PreviousValue] = {}
        self._odd: dict[tuple[str, str], PreviousValue] = {}
        self._still: dict[tuple[str, str], PreviousValue] = {}

    def forget(self, device: str) -> None:
        """Another meter may stand there now: its values are compared with nothing before."""
        for memory in (self._good, self._odd, self._still):
            for key in [key for key in memory if key[0] == device]:
                del memory[key]

    def weigh(self, point: Point, value: Decimal, at: float) -> Weighed:
        """Judge one value of a point that has a channel, read at monotonic time `at`.

        An odd value that the next one confirms was the truth: the meter was reset or set.
        """
        key, now = (point.device, point.name), PreviousValue(value, at)
        channel = channels()[str(point.channel)]
        verdict = _against(point, channel, self._good.get(key), now)
        odd = self._odd.pop(key, None)
        if verdict.quality is Quality.SUSPECT and Flag.RANGE not in verdict.flags:
            if odd is None or _against(point, channel, odd, now).quality is Quality.SUSPECT:
                self._odd[key] = now
                return verdict
            verdict = Weighed(Quality.RAW, (), None)
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
) -> Weighed:
    if channel.kind is ValueKind.REG:
        return _index(point, before, now)
    return _momentary(channel, before, now)


def _momentary(channel: Channel, before: PreviousValue | None, now: PreviousValue) -> Weighed:
    """Inside what the quantity can be, and no faster than it can change."""
    least, most, jump = channel.least, channel.most, channel.jump
    if (least is not None and now.value < least) or (most is not None and now.value > most):
        return Weighed(Quality.SUSPECT, (Flag.RANGE,), None)
    checked = least is not None and most is not None
    if jump is not None and before is not None:
        minutes = max(Decimal(1), Decimal((now.at - before.at) / 60))
        if abs(now.value - before.value) > jump * minutes:
            return Weighed(Quality.SUSPECT, (Flag.SPIKE,), None)
    checked = checked and (jump is None or before is not None)
    return Weighed(Quality.MEASURED if checked else Quality.RAW, (), None)


def _index(point: Point, before: PreviousValue | None, now: PreviousValue) -> Weighed:
    """No faster than the meter's rating; smaller only where it has rolled over."""
    if now.value < 0 or (point.rolls_at is not None and now.value > point.rolls_at):
        return Weighed(Quality.SUSPECT, (Flag.RANGE,), None)
    if before is None:
        return Weighed(Quality.RAW, (), None)
    delta, most = now.value - before.value, _most(point, before, now)
    fine = Quality.RAW if most is None else Quality.MEASURED
    if delta >= 0:
        if most is not None and delta > most:
            return Weighed(Quality.SUSPECT, (Flag.SPIKE,), None)
        return Weighed(fine, (), delta)
    end = point.rolls_at or _power_of_ten(before.value)
    rolled = delta + end
    # without a rating only an end that people wrote down is believed, and a tenth of it at most
    likely = end / 10 if most is None and point.rolls_at is not None else most
    if before.value > NEAR_THE_END * end and likely is not None and rolled <= likely:
        return Weighed(fine, (Flag.ROLLED,), rolled)
    return Weighed(Quality.SUSPECT, (Flag.RESET,), None)


def _most(point: Point, before: PreviousValue, now: PreviousValue) -> Decimal | None:
    """What can have flowed between two reads; a digit of rounding on top."""
    if point.rating is None:
        return None
    hours = Decimal(max(1.0, now.at - before.at)) / 3600
    return point.rating * hours * MARGIN + max(_digit(before.value), _digit(now.value))


def _digit(value: Decimal) -> Decimal:
    exponent = value.as_tuple().exponent
    return Decimal(1).scaleb(exponent if isinstance(exponent, int) else 0)


def _power_of_ten(value: Decimal) -> Decimal:
    return Decimal(1).scaleb(value.adjusted() + 1)

"""Proofs of the factors of meters: what must be proven, and what comparisons show.

A Modbus register has no unit. Its factor comes from a file, and a wrong one bills a home wrongly.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from agent.acquisition.slots import GOOD, multiplier
from agent.acquisition.timetable import is_slot
from agent.core.quantities import channels, units
from agent.registry.dates import DAY, slot_before
from agent.registry.inputs import FactorResult
from agent.registry.records import EXACT, Installation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from zoneinfo import ZoneInfo

    from agent.core.model import Point, Sample
    from agent.registry.registry import Registry

ENOUGH = Decimal("1.4")
"""a comparison proves a factor if it excludes every error of this size and more"""
ERRORS = tuple(
    Decimal(text) for text in ["10", "100", "1000", "0.1", "0.01", "0.001", "3.6", "0.277778"]
)
"""likely errors: powers of ten, and MJ taken for kWh or the other way round"""
ONE = Decimal(1)
SLOWEST = 300
"""seconds between two reads of the power: between slower ones a kettle may run unseen"""
GAP, GAPS = 900, 3600
"""seconds without power that may lie between two reads, and in the whole day"""
METERS_DIFFER = 0.05
"""share by which an index may differ from its power: accuracy class, timing of the two reads"""
LEAST_POWER = {"power": 20.0, "flow": 0.02}
"""mean power in W, or flow in m³/h, below which a meter shows it too coarsely"""
SUM_WITHIN = Decimal("0.1")
"""share of the building's index by which the sum of its dwellings may differ: losses, stairwells"""
SUM_AGREES = Decimal("0.03")
"""share within which one corrected factor explains a sum that differs"""
SUM_ERRORS = tuple(Decimal(text) for text in ["1.5", "2", "3", "5", "10"])
PER_SECOND = {
    ("power", "energy"): 1.0,
    ("flow", "volume"): 1 / 3600,
    ("reactive power", "reactive energy"): 1.0,
}
"""what a quantity in its base unit adds in a second, by its dimension and that of the index"""


class FactorToProve(NamedTuple):
    """A meter and channel whose factor needs a proof."""

    point: Point
    meter: Installation


def needed(
    points: Mapping[str, Sequence[Point]],
    serial: Callable[[str], str | None],
    registry: Registry,
    now: int,
) -> Iterator[FactorToProve]:
    """Every index of a dwelling whose factor needs a proof, proven or not; or is contradicted."""
    for device, group in points.items():
        for point in group:
            if point.to_prove and not point.derived:
                meter = registry.whose(device, serial(device), str(point.channel), now)
                if not isinstance(meter, Installation) or meter.place[0] != "D":
                    continue
                if must_be_proven(registry, meter, point):
                    yield FactorToProve(point, meter)


def must_be_proven(registry: Registry, meter: Installation, point: Point) -> bool:
    """Whether the factor of an index needs a proof, or a comparison contradicts it."""
    return bool(point.to_prove) and not (
        point.confirmed
        and registry.factor_proven(meter, str(point.channel), point.to_prove, confirmed=True)
    )


def digit(value: Decimal) -> Decimal:
    """One unit of the last digit."""
    exponent = value.as_tuple().exponent
    return ONE.scaleb(exponent if isinstance(exponent, int) else 0)


def excludes(value: Decimal, low: Decimal, high: Decimal) -> Decimal | None:
    """The smallest error of the factor that is excluded if the true value lies from low to high;
    None: none is.
    """
    if value <= 0 or low <= 0:
        return None
    return max(EXACT.divide(high, value), EXACT.divide(value, low)).quantize(Decimal("0.001"))


def likely_error(value: Decimal, low: Decimal, high: Decimal, *more: Decimal) -> Decimal | None:
    """By which likely factor a value is too high if the true one lies from low to high; None: by
    none, or by several. `more`: the multiplier of the installation.
    """
    errors = [*ERRORS, *(one for one in more if one != 1), *(ONE / one for one in more if one != 1)]
    fits = {error for error in errors if low <= EXACT.divide(value, error) <= high}
    return fits.pop() if len(fits) == 1 else None


@dataclass(slots=True)
class _Day:
    """The integral of the power since an index. It takes the same memory however long it lasts."""

    index: Decimal | None = None
    since: float = 0.0
    low: float = 0.0
    high: float = 0.0
    """the quantity if between two reads the power was always the lower, or the higher, of both"""
    missing: float = 0.0
    last: tuple[float, float] | None = None
    """time and value of the last read of the power"""

    def begin(self, at: float, index: Decimal | None) -> None:
        self.index, self.since, self.low, self.high, self.missing = index, at, 0.0, 0.0, 0.0

    def add(self, at: float, power: float) -> None:
        before, self.last = self.last, (at, power)
        if self.index is None or before is None:
            return
        seconds = at - before[0]
        # not exactly SLOWEST: a reading comes some seconds later in its slot than the one before
        self.missing += seconds if seconds > 1.5 * SLOWEST else 0.0
        if not 0 < seconds <= GAP or self.missing > GAPS:
            self.begin(at, None)
            return
        self.low += min(power, before[1]) * seconds
        self.high += max(power, before[1]) * seconds


class DayResult(NamedTuple):
    """What a day of power has shown about an index."""

    factor: Decimal
    excludes: Decimal
    evidence: str
    since: float
    """when the day began"""


class FactorDays:
    """Compares indexes with the power of the same device, and dwellings with their building, over
    days.

    All is in memory: after a restart a day begins again, and a day with a restart proves nothing.
    """

    def __init__(self) -> None:
        self._days: dict[tuple[str, str], _Day] = {}
        self._results: dict[tuple[str, str], DayResult] = {}
        self._midnights: dict[tuple[str, str], tuple[tuple[int, Decimal], ...]] = {}
        self.whole: Mapping[str, str] = {}
        """by channel, the device that measures it for the building"""

    def forget(self, device: str) -> None:
        """Forget a device: another meter may be installed."""
        for memory in (self._days, self._results, self._midnights):
            for key in [key for key in memory if key[0] == device]:
                del memory[key]

    def note(
        self, points: Sequence[Point], slot: int, samples: Iterable[Sample], zone: ZoneInfo | None
    ) -> None:
        """Take the samples of one step of a device; `points`: all points of that device."""
        for sample in samples:
            point, value = sample.point, sample.value
            if sample.why is not None or not isinstance(value, Decimal) or point.derived:
                continue
            if sample.quality not in GOOD:
                continue
            for index in points:
                if not index.to_prove or index.confirmed:
                    continue
                if not index.derived and power_of(index, points) is point:
                    day = self._days.setdefault((point.device, index.name), _Day())
                    day.add(sample.at, _signed(index, float(value * multiplier(point))))
            day_proves = point.to_prove and not point.confirmed
            if day_proves and (power := power_of(point, points)) is not None:
                self._close(point, power, sample.at, value * multiplier(point), digit(value))
            if str(point.channel) in self.whole and is_slot(slot, DAY, zone):
                key = (point.device, str(point.channel))
                before = [one for one in self._midnights.get(key, ()) if one[0] < slot]
                self._midnights[key] = (*before[-1:], (slot, value * multiplier(point)))

    def _close(
        self, point: Point, power: Point, at: float, value: Decimal, last_digit: Decimal
    ) -> None:
        key = (point.device, point.name)
        day = self._days.setdefault(key, _Day())
        if day.index is None or value < day.index or at < day.since:
            day.begin(at, value)
        elif at - day.since >= DAY:
            delta = value - day.index
            if result := _compare(point, power, day, at, delta, last_digit * multiplier(point)):
                self._results[key] = result
            day.begin(at, value)

    def results(
        self,
        of: Iterable[FactorToProve],
        points: Mapping[str, Sequence[Point]],
        serial: Callable[[str], str | None],
        registry: Registry,
        zone: ZoneInfo | None,
    ) -> list[FactorResult]:
        """What the days since the last call have shown about these meters."""
        every, made = [*of], []
        for point, meter in every:
            result = self._results.pop((point.device, point.name), None)
            # power and energy have the same multiplier, so their ratio does not show it
            if result is None or meter.since > result.since:
                continue  # the day was that of two meters
            if meter.multiplier == 1 or result.factor != 1:
                made.append(
                    FactorResult(
                        meter, str(point.channel), "power", result.factor, result.excludes,
                        point.to_prove, result.evidence,
                    )
                )  # fmt: skip
        self._results.clear()
        for channel, device in self.whole.items():
            made += self._sum(channel, device, every, points, serial, registry, zone)
        return made

    def _sum(  # noqa: PLR0913, PLR0917 -- what a sum is made of
        self,
        channel: str,
        device: str,
        of: Sequence[FactorToProve],
        points: Mapping[str, Sequence[Point]],
        serial: Callable[[str], str | None],
        registry: Registry,
        zone: ZoneInfo | None,
    ) -> Iterator[FactorResult]:
        """What the sum over the dwellings' meters shows, if all of them were read at both ends."""
        ends = self._midnights.get((device, channel), ())
        if not ends[1:] or slot_before(t := ends[1][0], DAY, zone) != ends[0][0]:
            return
        whole, used = ends[1][1] - ends[0][1], dict[str, Decimal]()
        for name, group in points.items():
            if not any(p.channel == channel and not p.derived and not p.place for p in group):
                continue
            meter = registry.whose(name, serial(name), channel, t - 1)
            if not isinstance(meter, Installation) or meter.place[0] != "D":
                continue
            if meter.since > ends[0][0]:
                return
            both = self._midnights.get((name, channel), ())
            if [one[0] for one in both] != [one[0] for one in ends]:
                return
            used[name] = EXACT.multiply(both[1][1] - both[0][1], meter.multiplier)
        self._midnights = {
            key: both[-1:] if key[1] == channel else both for key, both in self._midnights.items()
        }
        mine = [one for one in of if one.point.channel == channel and one.point.device in used]
        for (point, meter), factor, error in judged(whole, used, mine):
            share = used[point.device] / whole
            ratio = sum(used.values()) / whole
            evidence = f"ratio={ratio:.4f};meters={len(used)};share={share:.3f}"
            yield FactorResult(meter, channel, "sum", factor, error, point.to_prove, evidence)


def judged(
    whole: Decimal, used: Mapping[str, Decimal], of: Sequence[FactorToProve]
) -> Iterator[tuple[FactorToProve, Decimal, Decimal]]:
    """Meters with their factor, and the smallest error that is excluded.

    A sum that agrees says something only of those meters whose error would have shown in it. One
    that differs accuses a meter only if no other can explain it.
    """
    if whole <= 0:
        return
    rest = whole - sum(used.values())

    def differs(index: FactorToProve, error: Decimal) -> Decimal:
        share = used[index.point.device]
        return abs(rest + share - EXACT.divide(share, error)) / whole

    if abs(rest) <= SUM_WITHIN * whole:
        for index in of:
            for error in SUM_ERRORS:
                if min(differs(index, error), differs(index, ONE / error)) > SUM_WITHIN:
                    yield index, ONE, error
                    break
        return
    fits = [
        (index, error) for index in of for error in ERRORS if differs(index, error) <= SUM_AGREES
    ]
    if len(fits) == 1 and used[fits[0][0].point.device] > 0:
        yield *fits[0], ENOUGH


def power_of(index: Point, points: Sequence[Point]) -> Point | None:
    """The power, or flow, of the same device from which an index grows; None: it is not read often
    enough, or it is not clear which.
    """
    dimension = units()[channels()[str(index.channel)].unit][0]
    fitting = [
        point
        for point in points
        if not point.derived
        and (units()[point.unit][0], dimension) in PER_SECOND
        and 0 < point.every <= SLOWEST
    ]
    named = [point for point in fitting if point.channel is not None]
    chosen = named if len(fitting) > 1 else fitting
    return chosen[0] if len(chosen) == 1 else None


def _signed(index: Point, power: float) -> float:
    """The part of the power that this index counts: both directions have one of their own."""
    if str(index.channel).endswith((".imp", ".exp")):
        return max(0.0, -power if str(index.channel).endswith(".exp") else power)
    return abs(power)


def _compare(  # noqa: PLR0913, PLR0917 -- an index and its power
    point: Point, power: Point, day: _Day, at: float, delta: Decimal, last_digit: Decimal
) -> DayResult | None:
    """What a day has shown; None: nothing, because little flowed or too unevenly."""
    unit = channels()[str(power.channel)].unit if power.channel else power.unit
    index_unit = channels()[str(point.channel)].unit
    (dimension, size), (of, index_size) = units()[unit], units()[index_unit]
    seconds = at - day.since
    if day.high * float(size) / seconds < LEAST_POWER.get(dimension, 0.0):
        return None
    scale = PER_SECOND[dimension, of] * float(size) / float(index_size)
    margin = 2 * last_digit
    low = Decimal(day.low * scale * (1 - METERS_DIFFER)) - margin
    high = Decimal(day.high * scale * (1 + METERS_DIFFER)) + margin
    # ratios only: how much was used is nobody's to keep
    evidence = f"ratio={delta / high:.4f}..{delta / low:.4f}" if low > 0 else ""
    excluded = excludes(delta, low, high)
    if low <= delta <= high:
        fine = excluded is not None and excluded <= ENOUGH
        return DayResult(ONE, excluded or ONE, evidence, day.since) if fine else None
    # the same test as for agreement: a spread that excludes nothing accuses nobody either
    if low <= 0 or high > ENOUGH * ENOUGH * low:
        return None
    if error := likely_error(delta, low, high):
        return DayResult(error, ENOUGH, evidence, day.since)
    ratio = EXACT.divide(delta, (low + high) / 2)
    if ENOUGH >= ratio >= ONE / ENOUGH:
        return None
    return DayResult(Decimal(f"{ratio:.2g}"), ENOUGH, evidence, day.since)

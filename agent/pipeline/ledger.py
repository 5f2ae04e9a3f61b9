"""One recipient's account of slots: each closes once, in order, by a value or by a reason."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from agent.channels import channels
from agent.model import Flag, Kind, Mark, MarkKey, Quality, Reading, Series, Why
from agent.pipeline.gate import Gate, Held
from agent.pipeline.timetable import DAY, following, length, running_slot, spans
from agent.units import factor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from zoneinfo import ZoneInfo

    from agent.model import Point, Sample
    from agent.registry.gate import Policy


def multiplier(point: Point) -> Decimal:
    """From a point's raw value to its channel's canonical unit, exact."""
    unit = channels()[point.channel].unit if point.channel else point.unit
    return point.scale * (factor(point.unit, unit) or Decimal(1))


def _multipliers(points: Mapping[MarkKey, Sequence[Point]]) -> dict[tuple[str, str], Decimal]:
    return {(one.device, one.name): multiplier(one) for group in points.values() for one in group}


class Owed(NamedTuple):
    """A series of which the recipient is owed every slot."""

    place: str
    channel: str
    kind: str
    unit: str
    step: int


class Ledger:
    """The slots of all devices for one recipient, closed up to the marks."""

    def __init__(
        self,
        gate: Gate,
        points: Mapping[MarkKey, Sequence[Point]],
        marks: Mapping[MarkKey, Mark],
        zone: ZoneInfo | None = None,
    ) -> None:
        self.gate = gate
        self.zone = zone
        """at whose midnight daily slots lie; None: UTC"""
        self.marks = {key: mark for key, mark in marks.items() if key in points}
        self.held: dict[str, str] = {}
        """why the last row of a device was held back, by device"""
        self.owed: dict[Owed, int] = {}
        """the first slot that was closed of each series since the start"""
        self._points = points
        self._claims: dict[tuple[str, str, str, int], tuple[str, int]] = {}
        self._times = _multipliers(points)

    def renew(
        self,
        points: Mapping[MarkKey, Sequence[Point]],
        marks: Mapping[MarkKey, Mark],
        policy: Policy,
        zone: ZoneInfo | None,
    ) -> None:
        """Go on with other points, from the marks that stand on the disk, under other rules."""
        self.gate = Gate(self.gate.registry, policy, self.gate.recipient)
        self.marks = {key: mark for key, mark in marks.items() if key in points}
        self.zone, self._points, self._times = zone, points, _multipliers(points)
        self.held.clear()

    def resume(self, now: float) -> list[Reading]:
        """Close as M `agent` every slot that went by since the marks, but the running one."""
        rows: list[Reading] = []
        for key in self.marks:
            rows += self.catch_up(key, now, Why.AGENT)
        return rows

    def catch_up(self, key: MarkKey, now: float, why: Why) -> list[Reading]:
        """Close the slots of one device up to, and without, the one running at `now`."""
        return self._gap(key, running_slot(key[1], now, self.zone), why)

    def close(  # noqa: PLR0913, PLR0917 -- a read, its slot and its circumstances
        self,
        key: MarkKey,
        slot: int,
        samples: Sequence[Sample],
        serial: str | None,
        skipped: Why,
        made: int | None = None,
    ) -> list[Reading]:
        """Close one slot with what was read, and the slots skipped before it for that reason.

        A slot at or before the mark is closed already and yields nothing. `made`: the Unix second
        at which a read is dated that was made while the clock was not to be believed.
        """
        mark = self.marks.get(key)
        if mark is not None and slot <= mark.slot:
            return []
        if mark is not None and mark.serial is None:
            # not known yet when they were skipped; the device that answers now is who was there
            self.marks[key] = mark._replace(serial=serial)
        rows = self._gap(key, slot, skipped)
        answered = any(sample.why in (None, Why.BAD) for sample in samples)
        heard = answered or (mark is not None and mark.heard)
        late = () if made is None else (Flag.CLOCK,)
        for sample in samples:
            if row := self._row(sample, slot, serial, heard, late):
                rows.append(replace(row, ver=made))
        self.marks[key] = Mark(slot, heard, serial or (mark.serial if mark else None))
        return rows

    def late(
        self, key: MarkKey, slot: int, samples: Sequence[Sample], serial: str | None, made: int
    ) -> list[Reading]:
        """Values that came for a slot which was closed without them: new versions, made now."""
        mark = self.marks.get(key)
        if mark is None or slot > mark.slot:
            return []
        rows = [self._row(one, slot, serial, True, (Flag.LATE,)) for one in samples]
        self.marks[key] = mark._replace(heard=True, serial=serial or mark.serial)
        return [replace(row, ver=made) for row in rows if row and row.value is not None]

    def _row(
        self, sample: Sample, slot: int, serial: str | None, heard: bool, more: tuple[Flag, ...]
    ) -> Reading | None:
        series = self._series(sample.point, serial, slot, slot)
        if isinstance(series, Held):
            self.held[sample.point.device] = series.words
            return None
        self.held.pop(sample.point.device, None)
        if sample.why is None and isinstance(sample.value, Decimal):
            value = sample.value * self._times[sample.point.device, sample.point.name]
            delay = max(0, int(sample.at) - slot)
            flags = {*sample.flags, *more, *self._of_the_slot(series, slot, delay)}
            said = "+".join(flag for flag in Flag if flag in flags)
            return Reading(series, slot, value, sample.quality, delay, flags=said)
        why = sample.why or Why.BAD
        return Reading(series, slot, None, Quality.MISSING, why=why if heard else Why.EARLY)

    def _of_the_slot(self, series: Series, slot: int, delay: int) -> Iterator[Flag]:
        """What the slot itself adds: a short or long day, an index read late (MDP-1, rule 9)."""
        if series.step == DAY and length(slot, self.zone) != DAY:
            yield Flag.DAYLIGHT
        if series.kind == Kind.REG and delay > series.step / 4:
            yield Flag.PART

    def _series(self, point: Point, serial: str | None, first: int, last: int) -> Series | Held:
        """The series of the slots from first to last, unless another device speaks for them.

        Two devices assigned to one dwelling may turn out to measure the same quantity; the
        platform could not tell their rows apart, so the second one's are held.
        """
        series = self.gate.series(point, serial, first)
        if isinstance(series, Held):
            return series
        key = (series.place, series.channel, series.kind, series.step)
        speaker, until = self._claims.get(key, (point.device, first - 1))
        if speaker != point.device and until >= first:
            return Held(f"{speaker} measures {series.channel} of the same place")
        self._claims[key] = (point.device, last)
        owed = Owed(series.place, series.channel, series.kind, series.unit, series.step)
        self.owed[owed] = min(first, self.owed.get(owed, first))
        return series

    def _gap(self, key: MarkKey, before: int, why: Why) -> list[Reading]:
        """M for the slots after the mark and before `before`; moves the mark there."""
        mark, step = self.marks.get(key), key[1]
        if mark is None or following(mark.slot, step, self.zone) >= before:
            return []
        reason = why if mark.heard else Why.EARLY
        rows = [
            Reading(series, first, None, Quality.MISSING, why=reason, span=slots)
            for point in self._points[key]
            for series, first, slots in self._stretches(point, mark, before)
        ]
        self.marks[key] = mark._replace(slot=running_slot(step, before - 1, self.zone))
        return rows

    def _stretches(
        self, point: Point, mark: Mark, before: int
    ) -> Iterator[tuple[Series, int, int]]:
        """The slots of a gap as runs that belong to one series each: (series, first, how many)."""
        step, first = point.every, following(mark.slot, point.every, self.zone)
        for turn in self.gate.turns(first, before, point):
            for start, slots in spans(first, turn, step, self.zone):
                last = start + (slots - 1) * step
                series = self._series(point, mark.serial, start, last)
                if not isinstance(series, Held):
                    yield series, start, slots
                first = following(last, step, self.zone)

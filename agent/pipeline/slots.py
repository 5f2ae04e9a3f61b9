"""One recipient's account of slots: each closes once, in order, by a value or by a reason."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from agent.channels import channels
from agent.model import Flag, MarkKey, Quality, Range, Reading, Series, SlotMark, ValueKind, Why
from agent.pipeline.history_backfill import DownGap
from agent.pipeline.meter_exchange import Exchanges
from agent.pipeline.row_assignment import RowAssignment, Withholding
from agent.pipeline.states import news, only
from agent.pipeline.timetable import following, is_slot, length, running_slot, spans, within
from agent.registry.dates import DAY, slot_before
from agent.registry.records import EXACT
from agent.units import factor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from zoneinfo import ZoneInfo

    from agent.buffer.periods import Wrong
    from agent.model import Point, Sample
    from agent.pipeline.row_assignment import Assignment
    from agent.registry.consent_policy import Policy


GOOD = (Quality.MEASURED, Quality.RAW)
"""of what something is reckoned"""


def multiplier(point: Point) -> Decimal:
    """From a point's raw value to its channel's canonical unit, exact."""
    unit = channels()[point.channel].unit if point.channel else point.unit
    return point.scale * (factor(point.unit, unit) or Decimal(1))


def _multipliers(points: Mapping[MarkKey, Sequence[Point]]) -> dict[tuple[str, str], Decimal]:
    return {(one.device, one.name): multiplier(one) for group in points.values() for one in group}


class ExpectedSeries(NamedTuple):
    """A series of which the recipient is owed every slot."""

    place: str
    channel: str
    kind: str
    unit: str
    step: int


class _Slot(NamedTuple):
    """A slot being closed, and what holds for every value of it."""

    t: int
    serial: str | None
    """what the device said it is"""
    heard: bool
    """has it ever answered?"""
    flags: tuple[Flag, ...] = ()
    made: int | None = None
    """the Unix second at which rows out of schedule are made"""


class SlotLedger:
    """The slots of all devices for one recipient, closed up to the marks."""

    def __init__(
        self,
        gate: RowAssignment,
        points: Mapping[MarkKey, Sequence[Point]],
        marks: Mapping[MarkKey, SlotMark],
        zone: ZoneInfo | None = None,
    ) -> None:
        self.gate = gate
        self.zone = zone
        """at whose midnight daily slots lie; None: UTC"""
        self.marks = {key: mark for key, mark in marks.items() if key in points}
        self.held: dict[str, dict[str, str]] = {}
        """why the last rows of a device were held back, by device and point"""
        self.gaps: dict[MarkKey, DownGap] = {}
        """slots that went by while the agent was down: the meter itself may know them"""
        self.owed: dict[ExpectedSeries, int] = {}
        """the first slot that was closed of each series since the start"""
        self.removed: tuple[float, float] | None = None
        """from when until when the recipient had no uplink here, seconds since 1970"""
        self._points = points
        self._claims: dict[tuple[str, str, str, int], tuple[str, int]] = {}
        self._times = _multipliers(points)
        self._exchanges = Exchanges()

    def renew(
        self,
        points: Mapping[MarkKey, Sequence[Point]],
        marks: Mapping[MarkKey, SlotMark],
        policy: Policy,
        zone: ZoneInfo | None,
        *,
        withholds: bool = False,
    ) -> None:
        """Go on with other points under other rules; `marks`: how far slots are closed."""
        before = self.gate
        words = (before.registry, policy, before.recipient)
        self.gate = RowAssignment(*words, withholds=withholds, held=before.held)
        self.marks = {key: mark for key, mark in marks.items() if key in points}
        self.zone, self._points, self._times = zone, points, _multipliers(points)
        self.held.clear()

    def taken_back(
        self, found: Wrong, now: float
    ) -> tuple[list[Range], list[Reading], dict[MarkKey, SlotMark]]:
        """What a wrong clock closed, as it is to be taken back: the ranges to be removed, rows that
        close the slots which have passed as M `clock`, and the marks then (`set_back`).

        The slot running at `now` stays open. Changes nothing here but who speaks for a series.
        """
        before, self._claims = self.marks, {}
        wrongly = {
            key: running_slot(key[1], since, self.zone) if since >= 0 else since
            for key, until in found.until.items()
            if key in before and (since := found.since.get(key, -1)) < until
        }
        rows: list[Reading] = []
        self.marks = dict(before)
        try:
            for key, since in wrongly.items():
                self.marks[key] = before[key]._replace(slot=max(since, 0), states=())
            firsts = {key: found.since.get(key, self._began(key, found)) for key in wrongly}
            of_keys = [(key, *of) for key in wrongly for of in self._of(key, found)]
            ranges = _ranges(of_keys, firsts, found.until)
            self._claims = {}
            for key, since in wrongly.items():
                rows += self._passed(key, since, found.until[key], now)
                if found.until[key] <= now:  # and what was closed since is right
                    slot = max(self.marks[key].slot, before[key].slot)
                    self.marks[key] = self.marks[key]._replace(slot=slot)
            return ranges, rows, {key: self.marks[key] for key in wrongly}
        finally:
            self.marks = before

    def set_back(self, marks: Mapping[MarkKey, SlotMark]) -> None:
        """Go on from these marks, which are on the disk: what was known of later slots is not."""
        self.marks.update(marks)
        self.gaps.clear()
        self._exchanges = Exchanges()

    def _began(self, key: MarkKey, found: Wrong) -> int:
        """The slot after which all of a key that had no mark was closed by a wrong clock."""
        return running_slot(key[1], max(0, found.began), self.zone) - 1

    def _of(self, key: MarkKey, found: Wrong) -> set[tuple[str, str]]:
        """The places and channels of which a wrong clock closed slots."""
        return {
            (series.place, series.channel)
            for point in self._points[key]
            for series, *_ in self._stretches(point, self.marks[key], found.until[key] + 1)
        }

    def _passed(self, key: MarkKey, since: int, until: int, now: float) -> list[Reading]:
        """M `clock` for the slots until then that have passed; moves the mark there."""
        running = running_slot(key[1], now, self.zone)
        if since >= 0:
            return self._gap(key, running if until > now else until + 1, Why.CLOCK)
        # first heard of by the wrong clock: nothing was owed before
        slot = min(until, running_slot(key[1], running - 1, self.zone))
        self.marks[key] = self.marks[key]._replace(slot=slot)
        return []

    def resume(self, now: float) -> list[Reading]:
        """Close as M `agent` (or `uplink`) every slot that went by since the marks, but the running
        one. They say `again`: what was kept in memory while the disk failed may have told of them.
        """
        rows: list[Reading] = []
        for key, mark in list(self.marks.items()):
            if missed := self.catch_up(key, now, Why.AGENT):
                rows += [replace(row, again=True) for row in missed]
                last = self.marks[key].slot
                if self.removed is not None:  # nothing is fetched of while nobody was to have it
                    last = min(last, int(self.removed[0]))
                if last > mark.slot:
                    self.gaps[key] = DownGap(mark.slot + 1, last)
        return rows

    def catch_up(self, key: MarkKey, now: float, why: Why) -> list[Reading]:
        """Close the slots of one device up to, and without, the one running at `now`.

        Those in which the recipient had no uplink are M `uplink`, whether or not the agent ran.
        """
        rows: list[Reading] = []
        if why is Why.AGENT and self.removed is not None:
            for moment, reason in zip(self.removed, (Why.AGENT, Why.UPLINK), strict=True):
                rows += self._gap(key, running_slot(key[1], min(moment, now), self.zone), reason)
        return rows + self._gap(key, running_slot(key[1], now, self.zone), why)

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
        gap = self._gap(key, slot, skipped)
        answered = any(sample.why in (None, Why.BAD) for sample in samples)
        heard = answered or (mark is not None and mark.heard)
        closing = _Slot(slot, serial, heard, () if made is None else (Flag.CLOCK,), made)
        rows: list[Reading] = []
        telling: list[Point] = []
        for sample in samples:
            answer = self.gate.at(sample.point, serial, slot)
            made_of = self._rows(sample, answer, closing)
            made_of += self._withheld(sample.point, answer, closing)
            rows += made_of
            telling += [sample.point] if made_of else []
        rows, told = news(rows, self.marks[key].states if mark else ())
        known = serial or (mark.serial if mark else None)
        self.marks[key] = SlotMark(slot, heard, known, only(told, telling))
        return gap + rows

    def late(
        self, key: MarkKey, slot: int, samples: Sequence[Sample], serial: str | None, made: int
    ) -> list[Reading]:
        """Values that came for a slot which was closed without them: new versions, made now.

        With an index comes what flowed since the one before, if that is known; that it is not
        where an exchange that nobody knew of lies between, for that slot has no row yet.
        """
        mark = self.marks.get(key)
        if mark is None or slot > mark.slot:
            return []
        closed = _Slot(slot, serial, heard=True, flags=(Flag.LATE,), made=made)
        rows: list[Reading] = []
        for sample in (*samples, *self._flows(key, samples)):
            answer = self.gate.at(sample.point, serial, slot)
            if sample.point.derived and sample.value is not None and answer.meters:
                continue  # reckoned from the dwelling's meters, one of which may be new
            for row in self._rows(sample, answer, closed):
                if row.value is not None:
                    rows.append(row)
                elif self._forgotten(sample.point, answer, slot):
                    rows.append(replace(row, why=Why.AGENT))
        rows, told = news(rows, mark.states)
        self.marks[key] = mark._replace(heard=True, serial=serial or mark.serial, states=told)
        return rows

    def _forgotten(self, point: Point, answer: Assignment, t: int) -> bool:
        """Whether what flowed until t is of two meters, of which a restart forgot the first."""
        if answer.meter is None or not point.derived:
            return False
        since = slot_before(t, point.every, self.zone)
        return self._exchanges.forgotten(answer.meters, answer.meter.place, point, since, t)

    def _flows(self, key: MarkKey, samples: Sequence[Sample]) -> list[Sample]:
        """Of good indexes that came late, the differences that are asked of them: yet unknown."""
        return [
            replace(one, point=point, value=None, flags=tuple({*one.flags} & {Flag.EXCHANGED}))
            for point in self._points.get(key, ())
            for one in samples
            if point.derived and point.channel == one.point.channel
            if one.why is None and one.quality in GOOD
        ]

    def registers(self, slot: int, sample: Sample, serial: str | None, made: int) -> list[Reading]:
        """The index of a midnight that a duty came to want after it, as a late version."""
        point = sample.point
        if not isinstance(sample.value, Decimal):
            return []
        owed = (self.gate.boundary(point, serial, slot), self.gate.month_end(point, serial, slot))
        shown = EXACT.multiply(sample.value, self._times[point.device, point.name])
        value = self.gate.at(point, serial, slot).measured(point, shown)
        delay = max(0, int(sample.at) - slot)
        rows = []
        for series in filter(None, owed):
            if delay > series.step:
                continue
            flags = _said({*sample.flags, Flag.LATE, *self._of_the_slot(series, slot, delay)})
            rows.append(Reading(series, slot, value, sample.quality, delay, flags=flags, ver=made))
        return rows

    def _rows(self, sample: Sample, answer: Assignment, slot: _Slot) -> list[Reading]:
        """One row for each step of which this is a slot, at which the recipient may have it."""
        point = sample.point
        series = self._series(point, answer, slot)
        if isinstance(series, Withholding):
            self.held.setdefault(point.device, {})[point.name] = series.words
            return []
        if held := self.held.get(point.device):
            held.pop(point.name, None)
            if not held:
                del self.held[point.device]
        said = self._value(sample, answer, slot.t)
        if said is None:
            why = (sample.why or Why.BAD) if slot.heard else Why.EARLY
            return [
                Reading(one, slot.t, None, Quality.MISSING, why=why, ver=slot.made)
                for one in series
            ]
        value, quality, flags = said
        delay = max(0, int(sample.at) - slot.t)
        return [
            Reading(
                one,
                slot.t,
                value,
                quality,
                delay,
                ver=slot.made,
                flags=_said({*flags, *slot.flags, *self._of_the_slot(one, slot.t, delay)}),
            )
            if delay <= one.step  # later it is of another slot
            else Reading(one, slot.t, None, Quality.MISSING, why=Why.BUSY, ver=slot.made)
            for one in series
        ]

    def _withheld(self, point: Point, answer: Assignment, slot: _Slot) -> list[Reading]:
        """Rows without a value, where the recipient wants to know that there is something; not
        beside the index of a midnight that a duty wants.
        """
        found = [(one, why) for one, why in answer.withheld if self._lies_at(one, point, slot.t)]
        beside = self.gate.boundary(point, slot.serial, slot.t) if found else None
        return [
            Reading(series, slot.t, None, Quality.WITHHELD, why=why, ver=slot.made)
            for series, why in found
            if beside is None or series.step != beside.step
            if self._claim(point, series, slot.t, slot.t)
        ]

    def _value(
        self, sample: Sample, answer: Assignment, t: int
    ) -> tuple[Decimal, str, tuple[str, ...]] | None:
        """What a sample means for the place, with its quality and flags; None: nothing.

        The first index after an exchange of meters is told as such; what flowed in the step in
        which it was made is reckoned from the indexes of both.
        """
        point, shown, flags = sample.point, None, sample.flags
        if sample.why is None and isinstance(sample.value, Decimal):
            shown = EXACT.multiply(sample.value, self._times[point.device, point.name])
        if answer.meter is not None and answer.meters:
            meters, place = answer.meters, answer.meter.place
            if shown is not None and not point.derived and sample.quality in GOOD:
                if self._exchanges.first_after(meters, place, point, t, shown):
                    flags = (*flags, Flag.EXCHANGED)
            elif shown is None and point.derived:
                since = slot_before(t, point.every, self.zone)
                found = self._exchanges.flowed(meters, place, point, since, t)
                if found is None or (sample.why is not None and Flag.EXCHANGED not in found[2]):
                    return None
                return (*found[:2], (*flags, *found[2]))
        if shown is None:
            return None
        return answer.measured(point, shown), sample.quality, flags

    def _of_the_slot(self, series: Series, slot: int, delay: int) -> list[Flag]:
        """What the slot itself adds: a short or long day, an index read late (rule M9)."""
        found = []
        if series.step == DAY and length(slot, self.zone) != DAY:
            found.append(Flag.DAYLIGHT)
        if series.kind == ValueKind.REG and delay > series.step / 4:
            found.append(Flag.PART)
        return found

    def _series(
        self, point: Point, answer: Assignment, slot: _Slot
    ) -> Sequence[Series] | Withholding:
        """The series that have a slot there, unless another device speaks for them all."""
        boundary = self.gate.boundary(point, slot.serial, slot.t)
        if isinstance(answer.series, Withholding) and boundary is None:
            return answer.series
        announced = () if isinstance(answer.series, Withholding) else answer.series
        planned = [one for one in announced if self._lies_at(one, point, slot.t)]
        if boundary is not None:  # of two bases the duty is the one harder to lose (rule T13)
            for one in planned:
                self._owe(one, slot.t)
            planned = [*(one for one in planned if one.step != boundary.step), boundary]
        mine = [one for one in planned if self._claim(point, one, slot.t, slot.t)]
        for one in mine:
            if one is not boundary:
                self._owe(one, slot.t)
        if planned and not mine:
            speaker = self._claims[_key(planned[0])][0]
            return Withholding(f"{speaker} measures {planned[0].channel} of the same place")
        return mine

    def _lies_at(self, series: Series, point: Point, t: int) -> bool:
        """Whether the series has a slot at t, which is one of the point's own."""
        return series.step == point.every or is_slot(t, series.step, self.zone)

    def _claim(self, point: Point, series: Series, first: int, last: int) -> bool:
        """Whether this device speaks for the series from slot first to last.

        Two devices assigned to one dwelling may turn out to measure the same quantity; the
        platform could not tell their rows apart, so the second one's are held.
        """
        speaker, until = self._claims.get(_key(series), (point.device, first - 1))
        if speaker != point.device and until >= first:
            return False
        self._claims[_key(series)] = (point.device, last)
        return True

    def _owe(self, series: Series, first: int) -> None:
        owed = ExpectedSeries(series.place, series.channel, series.kind, series.unit, series.step)
        self.owed[owed] = min(first, self.owed.get(owed, first))

    def _gap(self, key: MarkKey, before: int, why: Why) -> list[Reading]:
        """M for the slots after the mark and before `before`; moves the mark there."""
        mark, step = self.marks.get(key), key[1]
        if mark is None or following(mark.slot, step, self.zone) >= before:
            return []
        reason = why if mark.heard else Why.EARLY
        rows = [
            Reading(series, first, None, quality, why=withheld or reason, span=slots)
            for point in self._points[key]
            for series, first, slots, withheld in self._stretches(point, mark, before)
            for quality in (Quality.WITHHELD if withheld else Quality.MISSING,)
        ]
        rows, told = news(rows, mark.states)
        self.marks[key] = mark._replace(slot=running_slot(step, before - 1, self.zone), states=told)
        return rows

    def _stretches(
        self, point: Point, mark: SlotMark, before: int
    ) -> Iterator[tuple[Series, int, int, Why | None]]:
        """The slots of a gap as runs that belong to one series each: (series, first, how many, why
        they are withheld).
        """
        step, first = point.every, following(mark.slot, point.every, self.zone)
        for turn in self.gate.turns(first, before, point):
            for start, slots in spans(first, turn, step, self.zone):
                last = start + (slots - 1) * step
                yield from self._runs(point, mark.serial, start, slots, last)
                first = following(last, step, self.zone)

    def _runs(
        self, point: Point, serial: str | None, start: int, slots: int, last: int
    ) -> Iterator[tuple[Series, int, int, Why | None]]:
        """A run of the point's own slots, in which nothing changes, at each step wanted."""
        answer = self.gate.at(point, serial, start)
        found: list[tuple[Series, Why | None]] = [*answer.withheld]
        found += [
            (one, None) for one in (() if isinstance(answer.series, Withholding) else answer.series)
        ]
        for series, withheld in found:
            if not self._claim(point, series, start, last):
                continue
            each = within(series.step, start, last, point.every, self.zone)
            for slot, count in ((start, slots),) if series.step == point.every else each:
                if withheld is None:
                    self._owe(series, slot)
                yield series, slot, count, withheld


def _ranges(
    found: Sequence[tuple[MarkKey, str, str]],
    firsts: Mapping[MarkKey, int],
    lasts: Mapping[MarkKey, int],
) -> list[Range]:
    """One for each place and channel, of all the steps in which it was closed.

    It begins after the latest of their marks: a row of a finer step before it is right. Slots of a
    coarser one in between have passed, and M `clock` with its version stands above what they hold.
    """
    ends: dict[tuple[str, str], tuple[int, int]] = {}
    for key, place, channel in found:
        since, until = ends.get((place, channel), (-1, -1))
        here = firsts[key], lasts[key]
        ends[place, channel] = max(since, here[0]), max(until, here[1])
    return [Range(*of, since + 1, until + 1) for of, (since, until) in ends.items()]


def _key(series: Series) -> tuple[str, str, str, int]:
    return (series.place, series.channel, series.kind, series.step)


def _said(flags: set[str]) -> str:
    return "+".join(flag for flag in Flag if flag in flags) if flags else ""

"""The slots for one recipient: each closes once, in order, with a value or with a reason."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from agent.acquisition.ended_series import Configured, closed_by, ended, removed
from agent.acquisition.row_assignment import (
    ExpectedSeries,
    Forgotten,
    RowAssignment,
    ShownIndex,
    Withholding,
    flow,
    meters_between,
)
from agent.acquisition.timetable import following, is_slot, length, running_slot, spans, within
from agent.core.model import (
    Flag,
    MarkKey,
    Quality,
    Range,
    Reading,
    Sample,
    Series,
    SlotMark,
    ValueKind,
    Why,
)
from agent.core.quantities import channels, factor
from agent.registry.consent_policy import LONGEST_UNSENT
from agent.registry.dates import DAY, slot_before
from agent.registry.records import EXACT, serial_key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from zoneinfo import ZoneInfo

    from agent.acquisition.row_assignment import Assignment
    from agent.buffer.schema import Wrong
    from agent.core.model import Point, Retraction, Told
    from agent.drivers.base import StoredHistory
    from agent.registry.consent_policy import Policy
    from agent.registry.records import Installation

NO_MARKS: Mapping[MarkKey, SlotMark] = MappingProxyType({})
GOOD = (Quality.MEASURED, Quality.RAW)
"""qualities of the values from which others are calculated"""
LEFT = "left to the disk"
"""among the states of a mark in memory up to which no slot has a row, with the slot that is left to
the disk (rules A8, A17)"""
TRUE_WITHIN = 900
"""seconds by which the meter's clock may be wrong"""


def multiplier(point: Point) -> Decimal:
    """The factor from a point's raw value to its channel's canonical unit, exact."""
    unit = channels()[point.channel].unit if point.channel else point.unit
    return point.scale * (factor(point.unit, unit) or Decimal(1))


def _multipliers(points: Mapping[MarkKey, Sequence[Point]]) -> dict[tuple[str, str], Decimal]:
    return {
        (point.device, point.name): multiplier(point)
        for group in points.values()
        for point in group
    }


class _Slot(NamedTuple):
    """A slot that is being closed, and what applies to all of its values."""

    t: int
    serial: str | None
    """the serial number that the device reported"""
    heard: bool
    """whether the device has ever answered"""
    flags: tuple[Flag, ...] = ()
    made: int | None = None
    """the Unix second at which rows out of schedule are made"""


class _Begun(NamedTuple):
    """How far the slots that a wrong clock closed were closed before."""

    marks: dict[MarkKey, SlotMark]
    """-1: the wrong clock closed the first slot of all"""
    firsts: dict[MarkKey, int]
    """the last slot, or the last second, before the wrong time"""
    left_open: dict[MarkKey, int]
    """see `continued`"""


class SlotLedger:
    """The slots of all devices for one recipient, closed up to the marks."""

    def __init__(
        self,
        assignment: RowAssignment,
        points: Mapping[MarkKey, Sequence[Point]],
        marks: Mapping[MarkKey, SlotMark],
        zone: ZoneInfo | None = None,
    ) -> None:
        self.assignment = assignment
        self.zone = zone
        """the time zone whose midnights are daily slots; None: UTC"""
        self.marks, self._left_open = continued(points, marks, zone)
        """`_left_open`: the first slot that a device's earlier period left open; slots before that
        were its
        """
        self._in_memory: Mapping[MarkKey, SlotMark] = {}
        """the marks of rows that were kept in memory while the disk failed"""
        self._left_in_memory: dict[MarkKey, SlotMark] = {}
        self._begun_in_memory: Mapping[ExpectedSeries, int] = {}
        self.begun_again: dict[ExpectedSeries, int] = {}
        """of series that have ended: the first slot that memory has of them, where those before it
        were left out"""
        self.left = {key: mark for key, mark in marks.items() if key not in points}
        """the marks of devices and periods that are no longer configured"""
        self.held: dict[str, dict[str, str]] = {}
        """why the last rows of a device are withheld, by device and point"""
        self.gaps: dict[MarkKey, DownGap] = {}
        """slots that went by while the agent did not run: the meter itself may have their values"""
        self.owed: dict[ExpectedSeries, int] = {}
        """the first slot of each series that was closed since the start"""
        self._made: set[ExpectedSeries] = set()
        """the series of which a slot was closed since the configuration was read"""
        self.refuses_unproven = False
        """whether the recipient takes no values whose factor is not proven (rule F17)"""
        self.marks_unknown = False
        """whether marks are on a disk that cannot be read: the first slot that is read of a point
        without a mark is left to the disk, which may have closed it, and no slot is M `early`,
        since the disk may know an earlier answer (rule A17)"""
        self.removed: tuple[float, float] | None = None
        """from when until when the recipient had no uplink here, seconds since 1970"""
        self._points = points
        self._claims: dict[tuple[str, str, str, int], tuple[str, int]] = {}
        self._multipliers = _multipliers(points)
        self._exchanges = Exchanges()
        self._moduli: dict[str, dict[str, Decimal]] = {}
        self._left_to_disk = {
            key: int(slot) for key, mark in marks.items() for _, slot in left_of(mark)
        }
        """slots that were left to the disk, also by an earlier process"""
        self._turned: dict[MarkKey, tuple[int, int]] = {}
        """the registry's last change before a slot was closed, and the last slot before that"""

    def moduli(self) -> Mapping[str, Mapping[str, Decimal]]:
        """Where the counters of the indexes begin again from 0, in the channel's unit: by the
        device's serial number in comparable form (of common plant: the place), then by channel.
        Those of devices that were replaced since the start stay.
        """
        for key, points in self._points.items():
            serial = self.marks[key].serial if key in self.marks else None
            for point in points:
                whose = point.place or (serial and serial_key(serial))
                if whose and point.rolls_at is not None and not point.derived:
                    self._moduli.setdefault(whose, {})[str(point.channel)] = point.rolls_at
        return self._moduli

    def renew(  # noqa: PLR0913 -- the rules of one recipient
        self,
        points: Mapping[MarkKey, Sequence[Point]],
        marks: Mapping[MarkKey, SlotMark],
        policy: Policy,
        zone: ZoneInfo | None,
        *,
        withholds: bool = False,
        refuses_unproven: bool = False,
    ) -> None:
        """Continue with other points under other rules. `marks`: how far slots are closed."""
        before = self.assignment
        registry_and_rules = (before.registry, policy, before.recipient)
        self.assignment = RowAssignment(*registry_and_rules, withholds=withholds, held=before.held)
        self.zone, self._points, self._multipliers = zone, points, _multipliers(points)
        left = {key: mark for key, mark in {**self.left, **marks}.items() if key not in points}
        (self.marks, self._left_open), self.left = continued(points, marks, zone), left
        self.closed_in_memory({**self._left_in_memory, **self._in_memory}, self._begun_in_memory)
        self._made.clear()
        self.refuses_unproven = refuses_unproven
        self.held.clear()

    def closed_in_memory(
        self, marks: Mapping[MarkKey, SlotMark], begun: Mapping[ExpectedSeries, int]
    ) -> None:
        """Take note of the marks of rows that were kept in memory while the disk failed, also by an
        earlier process, and of the first slot of each series there. The slots up to the marks have
        their values there (rule M10), also those of what is no longer configured.
        """
        self._in_memory = continued(self._points, marks, self.zone)[0]
        self._left_in_memory = left_behind(self._points, marks)
        self._begun_in_memory = begun

    def moved(self, stored: Mapping[MarkKey, SlotMark]) -> dict[MarkKey, SlotMark]:
        """The marks that are not `stored` like this: they belong on the disk before a clock period
        begins, or a wrong one could not be set back.
        """
        return {key: mark for key, mark in self.marks.items() if stored.get(key) != mark}

    def taken_back(
        self, wrong: Wrong, now: float, series: Collection[ExpectedSeries] = ()
    ) -> tuple[list[Range], list[Reading], dict[MarkKey, SlotMark]]:
        """What must be retracted because a wrong clock closed it: the ranges to remove; rows that
        close the slots which have passed as M `clock`; and the marks afterwards (for `set_back`).

        The slot that runs at `now` stays open. `series`: all that the recipient knows; what is no
        longer configured may have closed slots of them. Only the devices' claims on series, and
        what is owed, change here.
        """
        before, left_open, self._claims = self.marks, self._left_open, {}
        begun = self._at_the_beginning(wrong)
        wrongly = {key: mark.slot for key, mark in begun.marks.items() if key in before}
        gone = {
            key: mark._replace(slot=self._left_at(key, wrong, begun), states=())
            for key, mark in begun.marks.items()
            if key not in before
        }
        rows: list[Reading] = []
        self.marks, self._left_open = dict(before), begun.left_open
        try:
            for key, since in wrongly.items():
                self.marks[key] = before[key]._replace(slot=max(since, 0), states=())
            of_keys = [(key, *of) for key in wrongly for of in self._places_closed(key, wrong)]
            of_keys += [
                (key, each.place, each.channel)
                for each, keys in self.closed_by(series, gone).items()
                for key in keys
            ]
            ranges = _ranges(of_keys, begun.firsts, wrong.until)
            self._claims = {}
            for key, since in wrongly.items():
                rows += self._passed(key, since, wrong.until[key], now)
                if wrong.until[key] <= now:  # what was closed since then is right
                    slot = max(self.marks[key].slot, before[key].slot)
                    self.marks[key] = self.marks[key]._replace(slot=slot)
            return ranges, rows, gone | {key: self.marks[key] for key in wrongly}
        finally:
            self.marks, self._left_open = before, left_open

    def _at_the_beginning(self, wrong: Wrong) -> _Begun:
        """How far slots were closed when a wrong clock began. A device that was read at another
        period then goes on from there (see `continued`).
        """
        known = {**self.left, **self.marks}
        wrongly = {
            key
            for key, until in wrong.until.items()
            if key in known and wrong.since.get(key, -1) < until
        }
        before = {
            key: known[key]._replace(slot=running_slot(key[1], since, self.zone))
            for key, since in wrong.since.items()
            if key in known and since >= 0
        }
        points = dict.fromkeys([*self._points, *(wrongly - before.keys())])
        going_on, left_open = continued(points, before, self.zone)
        latest: dict[str, int] = {}
        for (device, step), since in wrong.since.items():
            if (device, step) in known:
                latest[device] = max(since, latest.get(device, since))
        marks, firsts = {}, {}
        for key in wrongly:
            marks[key] = going_on.get(key, before.get(key, known[key]._replace(slot=-1)))
            firsts[key] = wrong.since.get(key, self._began(key, wrong))
            if key in left_open:
                firsts[key] = latest[key[0]]
        return _Begun(marks, firsts, left_open)

    def _left_at(self, key: MarkKey, wrong: Wrong, begun: _Begun) -> int:
        """The last slot of a device or period that is no longer configured, without the wrong
        ones.
        """
        if self.left[key].slot > wrong.until[key]:  # what was closed since then is right
            return self.left[key].slot
        first = running_slot(key[1], max(begun.firsts[key], 0), self.zone)
        return max(begun.marks[key].slot, 0) or first

    def closed_by(
        self, series: Collection[ExpectedSeries], keys: Collection[MarkKey]
    ) -> dict[ExpectedSeries, list[MarkKey]]:
        """See `ended_series.closed_by`."""
        if not keys:
            return {}
        present = Configured(self._points, self.marks, self.left, self.assignment, self.zone)
        return closed_by(series, keys, present)

    def set_back(self, marks: Mapping[MarkKey, SlotMark]) -> None:
        """Continue from these marks, which are on the disk. Forget everything about later slots."""
        for key, mark in marks.items():
            (self.marks if key in self._points else self.left)[key] = mark
        devices = {device for device, _ in marks}
        in_memory = {**self._left_in_memory, **self._in_memory}
        kept = {key: mark for key, mark in in_memory.items() if key[0] not in devices}
        self.closed_in_memory(kept, self._begun_in_memory)
        self._left_open.clear()
        self.gaps.clear()
        self._exchanges = Exchanges()

    def exchanged(self, after: int, now: float) -> list[Reading]:
        """M `agent` for the meter that is right now, for the slots that the changes of the registry
        after number `after` take from another (rule M22). Values kept of it come later, as higher
        versions.
        """
        registry, claims, owed = self.assignment.registry, self._claims, dict(self.owed)
        rows: list[Reading] = []
        taken = [one for _, each in registry.effects(after) for one in each if one.meter]
        self._claims = {}
        for lost in taken:
            meters = registry.meters_of(lost.place)
            for key, mark in self.marks.items():
                if not any(_reports(mark.serial, key[0], meter) for meter in meters):
                    continue
                revision, closed = self._turned.get(key, (-1, mark.slot))
                last = closed if revision == registry.revision else mark.slot
                for meter in meters:
                    since = max(lost.since, meter.since, int(now - LONGEST_UNSENT))
                    until = min(lost.until or last + 1, meter.until or last + 1)
                    rows += self._of_meter(key, lost, meter, since, min(until, last + 1), int(now))
        self._claims, self.owed = claims, owed
        return rows

    def _of_meter(  # noqa: PLR0913, PLR0917 -- a range of slots of one meter
        self, key: MarkKey, lost: Retraction, meter: Installation, since: int, until: int, made: int
    ) -> Iterator[Reading]:
        for point in self._points[key]:
            if point.place is not None or lost.channel not in {None, point.channel}:
                continue
            # a quantity over a period is of the second before its end
            before = running_slot(key[1], since + point.derived - 1, self.zone)
            mark = SlotMark(before, heard=True, serial=meter.serial)
            for of, t, span, withheld in self._stretches(point, mark, until + point.derived):
                if withheld is None and of.place == lost.place and of.kind != ValueKind.EVT:
                    yield Reading(of, t, None, Quality.MISSING, why=Why.AGENT, span=span, ver=made)

    def _began(self, key: MarkKey, wrong: Wrong) -> int:
        """The slot after which a wrong clock closed everything of a key that had no mark."""
        return running_slot(key[1], max(0, wrong.began), self.zone) - 1

    def _places_closed(self, key: MarkKey, wrong: Wrong) -> set[tuple[str, str]]:
        """The places and channels in which a wrong clock closed slots."""
        owed, made = dict(self.owed), set(self._made)
        places = {
            (series.place, series.channel)
            for point in self._points[key]
            for series, *_ in self._stretches(point, self.marks[key], wrong.until[key] + 1)
        }
        self.owed, self._made = owed, made
        return places

    def _passed(self, key: MarkKey, since: int, until: int, now: float) -> list[Reading]:
        """M `clock` for the slots up to `until` that have passed. Moves the mark there."""
        running = running_slot(key[1], now, self.zone)
        if since >= 0:
            return self._gap(key, running if until > now else until + 1, Why.CLOCK)
        # the wrong clock closed the first slot of all: nothing was owed before
        slot = min(until, running_slot(key[1], running - 1, self.zone))
        self.marks[key] = self.marks[key]._replace(slot=slot)
        return []

    def resume(self, now: float) -> list[Reading]:
        """Close as M `agent` (or `uplink`) every slot since the marks, except the running one.

        The rows are marked `again`: rows that were kept in memory while the disk failed may have
        reported these slots already.
        """
        rows: list[Reading] = []
        for key in [key for key in self._points if self._begun(key, now)]:
            closed = self.marks[key].slot
            missed = self.catch_up(key, now, Why.AGENT)
            if missed:
                rows += [replace(row, again=True) for row in missed]
                last = self.marks[key].slot
                if self.removed is not None:  # no uplink, so no backfill
                    last = min(last, int(self.removed[0]))
                if last > closed:
                    self.gaps[key] = DownGap(closed + 1, last)
        return rows

    def catch_up(self, key: MarkKey, now: float, why: Why) -> list[Reading]:
        """Close the slots of one device before the one that runs at `now`, and that one too if a
        spool in memory has closed it: nobody reads it again.

        Slots in which the recipient had no uplink are M `uplink`, whether or not the agent ran.
        """
        rows: list[Reading] = []
        if not self._begun(key, now):
            return rows
        in_memory = self._last_in_memory(key, now)
        if in_memory is not None and in_memory.heard:
            known = self.marks[key].serial or in_memory.serial
            self.marks[key] = self.marks[key]._replace(heard=True, serial=known)
        if why is Why.AGENT and self.removed is not None:
            # Two gaps: until the uplink was removed the agent was down, after that there was no
            # uplink.
            for moment, reason in zip(self.removed, (Why.AGENT, Why.UPLINK), strict=True):
                rows += self._gap(key, running_slot(key[1], min(moment, now), self.zone), reason)
        reported = in_memory is not None and in_memory.slot > self.marks[key].slot
        rows += self._gap(key, running_slot(key[1], now, self.zone), why)
        if in_memory is not None:
            rows += self._gap(key, in_memory.slot + 1, Why.AGENT)
        return [replace(row, again=True) for row in rows] if reported else rows

    def _begun(self, key: MarkKey, now: float) -> bool:
        """Whether a key has a mark. One that only a spool in memory has closed goes on from there:
        what was due since then is owed as well.
        """
        if key not in self.marks and (in_memory := self._last_in_memory(key, now)) is not None:
            self.marks[key] = in_memory._replace(states=without_left(in_memory.states))
        return key in self.marks

    def _last_in_memory(self, key: MarkKey, now: float) -> SlotMark | None:
        """The last slot of a key that is closed in memory; at the latest the one that runs: a clock
        that was wrong meanwhile closes none that is still to come.
        """
        mark = self._in_memory.get(key)
        if mark is None:
            return None
        return mark._replace(slot=min(mark.slot, running_slot(key[1], now, self.zone)))

    def close(  # noqa: PLR0913, PLR0917 -- a read, its slot and its circumstances
        self,
        key: MarkKey,
        slot: int,
        samples: Sequence[Sample],
        serial: str | None,
        skipped: Why,
        made: int | None = None,
    ) -> list[Reading]:
        """Close one slot with the values read, and the skipped slots before it with a reason.

        A slot at or before the mark is closed already and yields nothing. `made`: the Unix second
        at which a read is dated that was made while the clock was not trusted.
        """
        mark = self.marks.get(key)
        answered = any(sample.why in (None, Why.BAD) for sample in samples)
        if mark is None and self.marks_unknown:
            self.marks[key] = SlotMark(slot, answered, serial, ((LEFT, str(slot)),))
            self._left_to_disk[key] = slot
            return []
        if mark is not None and slot <= mark.slot:
            return []
        revision = self.assignment.registry.revision
        if mark is not None and self._turned.get(key, (-1, 0))[0] != revision:
            self._turned[key] = (revision, mark.slot)
        if mark is not None and mark.serial is None:
            # The device was not known when the slots were skipped: assume that it was there.
            self.marks[key] = mark._replace(serial=serial)
        gap = self._gap(key, slot, skipped)
        heard = answered or (mark is not None and mark.heard)
        flags = () if made is None else (Flag.CLOCK,)
        closing = _Slot(slot, serial, heard or self.marks_unknown, flags, made)
        rows: list[Reading] = []
        reporting: list[Point] = []
        silent, unknown = all(sample.value is None for sample in samples), False
        for sample in samples:
            # since a recorded exchange it is the new meter that does not answer, or whose number
            # was not asked yet: then nobody knows of which meter the value is
            expected, nobodys = self._expected(sample.point, serial, slot, mark)
            if not silent and expected != serial:
                sample = replace(sample, value=None, why=Why.BAD)  # noqa: PLW2901
            answer = self.assignment.at(sample.point, expected, slot)
            point_rows = self._rows(sample, answer, closing)
            point_rows += self._withheld(sample.point, answer, closing)
            if nobodys is not None:
                unknown = True
                self.held.setdefault(key[0], {})[sample.point.name] = nobodys.reason
            rows += point_rows
            reporting += [sample.point] if point_rows else []
        rows, reported = news(rows, self.marks[key].states if mark else ())
        known = mark.serial if mark and (unknown or not serial) else serial
        states = only(reported, reporting)
        if mark is not None and not (gap or rows):
            states += left_of(mark)
        self.marks[key] = SlotMark(slot, heard, known, states)
        return gap + rows

    def _expected(
        self, point: Point, serial: str | None, slot: int, mark: SlotMark | None
    ) -> tuple[str | None, Withholding | None]:
        """The serial number of the meter whose slot it is. While nobody has recorded the number
        that the device reports, it is still the meter before (rule M24); then also why the value is
        nobody's.
        """
        expected = self.assignment.serial_at(point, serial, slot)
        before, answer = mark and mark.serial, self.assignment.at(point, expected, slot)
        if before in {None, serial} or answer.meter or not isinstance(answer.series, Withholding):
            return expected, None
        if any(
            other.serial == before for key, other in self.marks.items() if key[0] != point.device
        ):
            return expected, None  # another device reads that meter now
        earlier = self.assignment.serial_at(point, before, slot)
        known = self.assignment.at(point, earlier, slot).meter is not None
        return (earlier, answer.series) if known else (expected, None)

    def late(
        self, key: MarkKey, slot: int, samples: Sequence[Sample], serial: str | None, made: int
    ) -> list[Reading]:
        """New versions of a closed slot, made now from values that came later.

        With a late index comes the consumption since the index before, if that is known. It is not
        known if meters were exchanged in between and nobody had recorded it: that slot has no row
        yet.
        """
        mark = self.marks.get(key)
        if mark is None or slot > mark.slot:
            return []
        if slot == self._left_to_disk.get(key):
            self.marks[key] = mark._replace(heard=True, serial=serial or mark.serial)
            return []
        closed = _Slot(slot, serial, heard=True, flags=(Flag.LATE,), made=made)
        rows: list[Reading] = []
        for sample in (*samples, *self._flows(key, samples)):
            answer = self.assignment.at(sample.point, serial, slot)
            if sample.point.derived and sample.value is not None and answer.meters:
                continue  # calculated from the dwelling's meters, one of which may be new
            for row in self._rows(sample, answer, closed):
                if row.value is not None:
                    rows.append(row)
                elif self._forgotten(sample.point, answer, slot):
                    rows.append(replace(row, why=Why.AGENT))
        rows, reported = news(rows, mark.states)
        self.marks[key] = mark._replace(heard=True, serial=serial or mark.serial, states=reported)
        return rows

    def _forgotten(self, point: Point, answer: Assignment, t: int) -> bool:
        """Whether the consumption until t is of two meters and a restart lost the first one's
        index.
        """
        if answer.meter is None or not point.derived:
            return False
        since = slot_before(t, point.every, self.zone)
        return self._exchanges.forgotten(answer.meters, answer.meter.place, point, since, t)

    def _flows(self, key: MarkKey, samples: Sequence[Sample]) -> list[Sample]:
        """The differences that are derived from good late indexes, without their values."""
        return [
            replace(
                sample, point=point, value=None, flags=tuple({*sample.flags} & {Flag.EXCHANGED})
            )
            for point in self._points.get(key, ())
            for sample in samples
            if point.derived and point.channel == sample.point.channel
            if sample.why is None and sample.quality in GOOD
        ]

    def midnight_rows(
        self, slot: int, sample: Sample, serial: str | None, made: int
    ) -> list[Reading]:
        """Late versions of the midnight index for duties that came to need it afterwards."""
        point = sample.point
        if not isinstance(sample.value, Decimal):
            return []
        boundary = self.assignment.boundary(point, serial, slot)
        month_end = self.assignment.month_end(point, serial, slot)
        shown = EXACT.multiply(sample.value, self._multipliers[point.device, point.name])
        answer = self.assignment.at(point, serial, slot)
        if answer.unproven and self.refuses_unproven:
            return []
        value = answer.measured(point, shown)
        delay = max(0, int(sample.at) - slot)
        rows = []
        for series in filter(None, (boundary, month_end)):
            # Read in a later slot: for this one it would be a wrong value.
            if delay > series.step:
                continue
            if series is month_end:  # it may be the first slot of its series (rule T21)
                self.owe(series, slot)
            of_the_slot = self._of_the_slot(series, slot, delay, answer.unproven)
            flags = _flag_text({*sample.flags, Flag.LATE, *of_the_slot})
            rows.append(Reading(series, slot, value, sample.quality, delay, flags=flags, ver=made))
        return rows

    def _rows(self, sample: Sample, answer: Assignment, slot: _Slot) -> list[Reading]:
        """One row for each step that has a slot here and that the recipient may have."""
        point = sample.point
        series = self._series(point, answer, slot)
        if isinstance(series, Withholding):
            self.held.setdefault(point.device, {})[point.name] = series.reason
            return []
        # The point is sent again: `status` must not show its old reason any more.
        if held := self.held.get(point.device):
            held.pop(point.name, None)
            if not held:
                del self.held[point.device]
        meaning = self._value(sample, answer, slot.t)
        if meaning is None:
            why = (sample.why or Why.BAD) if slot.heard else Why.EARLY
            return [
                Reading(of, slot.t, None, Quality.MISSING, why=why, ver=slot.made) for of in series
            ]
        if answer.unproven and self.refuses_unproven:
            return [
                Reading(of, slot.t, None, Quality.WITHHELD, why=Why.FACTOR, ver=slot.made)
                for of in series
            ]
        value, quality, flags = meaning
        delay = max(0, int(sample.at) - slot.t)
        return [
            Reading(
                of,
                slot.t,
                value,
                quality,
                delay,
                ver=slot.made,
                flags=_flag_text(
                    {*flags, *slot.flags}.union(
                        self._of_the_slot(of, slot.t, delay, answer.unproven)
                    )
                ),
            )
            if delay <= of.step  # a later value belongs to another slot
            else Reading(of, slot.t, None, Quality.MISSING, why=Why.BUSY, ver=slot.made)
            for of in series
        ]

    def _withheld(self, point: Point, answer: Assignment, slot: _Slot) -> list[Reading]:
        """Rows without a value, for a recipient that wants to know that rows are withheld. None
        beside the midnight index that a duty needs.
        """
        withheld = [
            (series, why) for series, why in answer.withheld if self._lies_at(series, point, slot.t)
        ]
        beside = self.assignment.boundary(point, slot.serial, slot.t) if withheld else None
        return [
            Reading(series, slot.t, None, Quality.WITHHELD, why=why, ver=slot.made)
            for series, why in withheld
            if beside is None or series.step != beside.step
            if self._claim(point, series, slot.t, slot.t)
        ]

    def _value(
        self, sample: Sample, answer: Assignment, t: int
    ) -> tuple[Decimal, str, tuple[str, ...]] | None:
        """The value for the place, with quality and flags; None: there is no value.

        The first index after an exchange of meters is flagged. The consumption of the step of the
        exchange is calculated from the indexes of both meters.
        """
        point, shown, flags = sample.point, None, sample.flags
        if sample.why is None and isinstance(sample.value, Decimal):
            shown = EXACT.multiply(sample.value, self._multipliers[point.device, point.name])
        if answer.meter is not None and answer.meters:
            meters, place = answer.meters, answer.meter.place
            if shown is not None and not point.derived and sample.quality in GOOD:
                # Called for every good index, because it remembers the index for the next step.
                if self._exchanges.first_after(meters, place, point, t, shown):
                    flags = (*flags, Flag.EXCHANGED)
            elif shown is None and point.derived:
                since = slot_before(t, point.every, self.zone)
                consumption = self._exchanges.flowed(meters, place, point, since, t)
                if consumption is None or (
                    sample.why is not None and Flag.EXCHANGED not in consumption[2]
                ):
                    return None
                return (*consumption[:2], (*flags, *consumption[2]))
        if shown is None:
            return None
        return answer.measured(point, shown), sample.quality, flags

    def _of_the_slot(
        self, series: Series, slot: int, delay: int, unproven: bool = False
    ) -> list[Flag]:
        """The flags of the slot itself: a factor without proof, a short or long day, an index that
        was read late (rule M9).
        """
        flags = [Flag.UNPROVEN] if unproven else []
        if series.step == DAY and length(slot, self.zone) != DAY:
            flags.append(Flag.DAYLIGHT)
        if series.kind == ValueKind.REG and delay > series.step / 4:
            flags.append(Flag.PART)
        return flags

    def _series(
        self, point: Point, answer: Assignment, slot: _Slot
    ) -> Sequence[Series] | Withholding:
        """The series with a slot here, unless another device measures all of them already."""
        boundary = self.assignment.boundary(point, slot.serial, slot.t)
        if isinstance(answer.series, Withholding) and boundary is None:
            return answer.series
        announced = () if isinstance(answer.series, Withholding) else answer.series
        planned = [series for series in announced if self._lies_at(series, point, slot.t)]
        if boundary is not None:  # of two bases the duty is more durable (rule T13)
            for series in planned:
                self.owe(series, slot.t)
            planned = [*(series for series in planned if series.step != boundary.step), boundary]
        mine = [series for series in planned if self._claim(point, series, slot.t, slot.t)]
        for series in mine:
            if series is not boundary:
                self.owe(series, slot.t)
        if planned and not mine:
            speaker = self._claims[_key(planned[0])][0]
            return Withholding(f"{speaker} measures {planned[0].channel} of the same place")
        return mine

    def _lies_at(self, series: Series, point: Point, t: int) -> bool:
        """Whether t is a slot of the series and of the point."""
        return series.step == point.every or is_slot(t, series.step, self.zone)

    def _claim(self, point: Point, series: Series, first: int, last: int) -> bool:
        """Whether this device may report the series from slot `first` to `last`.

        Two devices of one dwelling may measure the same quantity by mistake. The platform could not
        tell their rows apart, so the rows of the second device are withheld.
        """
        # A claim ends with the last slot that its device reported, so a device that replaces
        # another takes over at once.
        speaker, until = self._claims.get(_key(series), (point.device, first - 1))
        if speaker != point.device and until >= first:
            return False
        self._claims[_key(series)] = (point.device, last)
        return True

    def owe(self, series: Series, first: int) -> None:
        """Note that the recipient is owed each slot of a series from this one on."""
        owed = ExpectedSeries.of(series)
        self.owed[owed] = min(first, self.owed.get(owed, first))
        self._made.add(owed)

    def end(self, series: Collection[ExpectedSeries], now: float) -> dict[ExpectedSeries, int]:
        """Forget those of these series that have ended at `now`, and return each with its first
        slot that is no longer owed: see `ended` and `removed`.
        """
        candidates = [one for one in series if one not in self._made]
        present = Configured(self._points, self.marks, self.left, self.assignment, self.zone)
        ends, on_disk = removed(series, present, now), ended(candidates, present)
        closed = {key: one for key, one in self._left_in_memory.items() if not left_of(one)}
        left = left_behind(self._points, self.left, closed)
        for each, slot in ended(candidates, present._replace(left=left)).items():
            ends[each] = min(slot, ends.get(each, slot))
            begun = self._begun_in_memory.get(each, 0)
            if on_disk.get(each, begun) < begun < slot:
                self.begun_again[each] = begun
        for gone in ends:
            self.owed.pop(gone, None)
        return ends

    def owed_in(self, rows: Iterable[Reading]) -> dict[ExpectedSeries, int]:
        """Those of `owed` that have a row among these."""
        present = {ExpectedSeries.of(row.series) for row in rows}
        return {series: first for series, first in self.owed.items() if series in present}

    def _gap(self, key: MarkKey, before: int, why: Why) -> list[Reading]:
        """M for the slots after the mark and before `before`. Moves the mark there."""
        mark, step = self.marks.get(key), key[1]
        if mark is not None and key in self._left_open:
            last = running_slot(step, min(self._left_open[key], before) - 1, self.zone)
            mark = mark._replace(slot=max(mark.slot, last))
        if mark is None or following(mark.slot, step, self.zone) >= before:
            return []
        # A device that has never answered may not be installed yet, so that is no outage.
        reason = why if mark.heard or self.marks_unknown else Why.EARLY
        rows = [
            Reading(series, first, None, quality, why=withheld or reason, span=slots)
            for point in self._points[key]
            for series, first, slots, withheld in self._stretches(point, mark, before)
            for quality in (Quality.WITHHELD if withheld else Quality.MISSING,)
        ]
        rows, reported = news(rows, without_left(mark.states) if rows else mark.states)
        self.marks[key] = mark._replace(
            slot=running_slot(step, before - 1, self.zone), states=reported
        )
        return rows

    def _stretches(
        self, point: Point, mark: SlotMark, before: int
    ) -> Iterator[tuple[Series, int, int, Why | None]]:
        """The slots of a gap as runs of one series each: series, first slot, number of slots, and
        why they are withheld.
        """
        step, first = point.every, following(mark.slot, point.every, self.zone)
        for turn in self.assignment.turns(first, before, point):
            for start, slots in spans(first, turn, step, self.zone):
                last = start + (slots - 1) * step
                yield from self._runs(point, mark.serial, start, slots, last)
                first = following(last, step, self.zone)

    def _runs(
        self, point: Point, serial: str | None, start: int, slots: int, last: int
    ) -> Iterator[tuple[Series, int, int, Why | None]]:
        """One run of the point's own slots, at each planned step. Nothing changes within the
        run.
        """
        serial = self.assignment.serial_at(point, serial, start)
        answer = self.assignment.at(point, serial, start)
        series_of: list[tuple[Series, Why | None]] = [*answer.withheld]
        series_of += [
            (planned, None)
            for planned in (() if isinstance(answer.series, Withholding) else answer.series)
        ]
        for series, withheld in series_of:
            if not self._claim(point, series, start, last):
                continue
            # A monthly series of a point that is read every minute has few slots in this run.
            each = within(series.step, start, last, point.every, self.zone)
            for slot, count in ((start, slots),) if series.step == point.every else each:
                if withheld is None:
                    self.owe(series, slot)
                yield series, slot, count, withheld


def continued(
    points: Mapping[MarkKey, object], marks: Mapping[MarkKey, SlotMark], zone: ZoneInfo | None
) -> tuple[dict[MarkKey, SlotMark], dict[MarkKey, int]]:
    """The marks of the points, and the first slots that their devices' earlier periods left open.

    A device that is read at another period now goes on after the last slot that it closed: a
    midnight is a slot at both periods (rule M3).
    """
    latest: dict[str, int] = {}
    for (device, _), mark in marks.items():
        latest[device] = max(mark.slot, latest.get(device, mark.slot))
    going_on = {key: mark for key, mark in marks.items() if key in points}
    open_since: dict[MarkKey, int] = {}
    for (device, earlier), mark in marks.items():
        left_open = following(mark.slot, earlier, zone)
        # a mark that the device's others have left behind is of a period of long ago
        if (device, earlier) in points or left_open <= latest[device]:
            continue
        for key in [key for key in points if key[0] == device]:
            slot = running_slot(key[1], mark.slot, zone)
            if key not in going_on or going_on[key].slot < slot:
                going_on[key] = mark._replace(slot=slot)
                open_since[key] = left_open
    return going_on, open_since


def left_behind(
    points: Mapping[MarkKey, object], *marks: Mapping[MarkKey, SlotMark]
) -> dict[MarkKey, SlotMark]:
    """The latest of these marks of each device and period that is not among the points."""
    latest: dict[MarkKey, SlotMark] = {}
    for key, mark in [pair for each in marks for pair in each.items()]:
        if key not in points and (key not in latest or latest[key].slot <= mark.slot):
            latest[key] = mark
    return latest


def _ranges(
    closed: Sequence[tuple[MarkKey, str, str]],
    firsts: Mapping[MarkKey, int],
    lasts: Mapping[MarkKey, int],
) -> list[Range]:
    """One range for each place and channel, over all steps in which slots were closed.

    It begins after the latest of their marks, because a row of a finer step before that is right.
    Slots of a coarser step in between have passed; M `clock` with a higher version replaces them.
    """
    ends: dict[tuple[str, str], tuple[int, int]] = {}
    for key, place, channel in closed:
        since, until = ends.get((place, channel), (-1, -1))
        here = firsts[key], lasts[key]
        ends[place, channel] = max(since, here[0]), max(until, here[1])
    return [Range(*of, since + 1, until + 1) for of, (since, until) in ends.items()]


def _reports(serial: str | None, device: str, meter: Installation) -> bool:
    """Whether a device that reported a serial number is, or was, this meter."""
    if meter.device is not None:
        return meter.device == device
    if not serial or not meter.serial:
        return False
    return serial_key(serial) == serial_key(meter.serial)


def _key(series: Series) -> tuple[str, str, str, int]:
    return (series.place, series.channel, series.kind, series.step)


def _flag_text(flags: set[str]) -> str:
    return "+".join(flag for flag in Flag if flag in flags) if flags else ""


def left_of(mark: SlotMark) -> Told:
    """Which slot is left to the disk, if no slot up to this mark has a row; else empty."""
    return tuple(state for state in mark.states if state[0] == LEFT)


def without_left(states: Told) -> Told:
    """The states of a mark, once a slot has a row, or on the disk."""
    return tuple(state for state in states if state[0] != LEFT)


def news(rows: Sequence[Reading], reported: Told) -> tuple[list[Reading], Told]:
    """Leave out rows of states that were reported before. Also return the reports afterwards."""
    statements, left = dict(reported), []
    for row in rows:
        if row.series.kind == ValueKind.EVT:
            name, statement = row.series.channel, _statement(row)
            if statements.get(name) == statement:
                continue
            statements[name] = statement
            row = replace(row, span=1)  # noqa: PLW2901 -- it holds for all slots until the next row
        left.append(row)
    return left, tuple(statements.items())


def only(reported: Told, points: Iterable[Point]) -> Told:
    """The reports of points that still have rows; the others start anew when they have rows
    again.
    """
    names = {str(point.channel) for point in points}
    return tuple((name, statement) for name, statement in reported if name in names)


def _statement(row: Reading) -> str:
    series = row.series
    what = str(row.why) if row.value is None else format(row.value.normalize(), "f")
    return " ".join((series.place, series.meter or "", series.occupancy or "", series.basis, what))


if TYPE_CHECKING:
    Key = tuple[str, str, int]


class Exchanges:
    """Remembers the last two good indexes of each place, channel and step, as the meters showed
    them.
    """

    def __init__(self) -> None:
        self._last_two: dict[Key, tuple[ShownIndex | None, ShownIndex]] = {}

    def first_after(
        self,
        meters: Sequence[Installation],
        place: str,
        point: Point,
        slot: int,
        shown: Decimal,
    ) -> bool:
        """Note an index. Return whether another meter showed the one before.

        After a restart only the slot before is compared.
        """
        key = (place, str(point.channel), point.every)
        _, last = self._last_two.get(key, (None, None))
        if last is not None and last.t >= slot:
            return False  # a late index: the exchange was flagged with a later one already
        self._last_two[key] = (last, ShownIndex(slot, shown))
        since = slot - point.every if last is None else last.t
        return len(meters_between(meters, key[1], since, slot)) > 1

    def flowed(
        self, meters: Sequence[Installation], place: str, point: Point, since: int, slot: int
    ) -> tuple[Decimal, str, tuple[str, ...]] | None:
        """The consumption in the step between two consecutive slots, its quality, and a flag if
        meters were exchanged in it. None if not all of the indexes that this needs are known.
        """
        last, now = self._last_two.get((place, str(point.channel), point.every), (None, None))
        before = last or Forgotten(since)
        if now is None or (before.t, now.t) != (since, slot):
            return None
        consumption = flow(meters, str(point.channel), before, now)
        if consumption is None:
            return None
        quality = Quality.ESTIMATED if consumption.estimated else Quality.CALCULATED
        return consumption.quantity, quality, (Flag.EXCHANGED,) if consumption.exchanged else ()

    def forgotten(
        self, meters: Sequence[Installation], place: str, point: Point, since: int, slot: int
    ) -> bool:
        """Whether meters were exchanged in the step, and a restart since then has lost the index of
        the old meter at the beginning of the step.
        """
        last, now = self._last_two.get((place, str(point.channel), point.every), (None, None))
        exchanged = len(meters_between(meters, str(point.channel), since, slot)) > 1
        return last is None and now is not None and now.t == slot and exchanged


class DownGap(NamedTuple):
    """Slots of one account that were closed because the agent did not run."""

    first: int
    last: int


def recalled(
    kept: StoredHistory, samples: Sequence[Sample], gap: DownGap, zone: ZoneInfo | None
) -> Iterator[tuple[int, Sample]]:
    """The slots of a gap that the meter has stored values for, each with its sample."""
    sample_of = {sample.point: sample for sample in samples if sample.why is None}
    now = sample_of.get(kept.clock)
    here = zone or dt.UTC
    if now is None or not _right(str(now.value), now.at, here):
        return
    for when, value in kept.values:
        if when in sample_of and value in sample_of:
            slot = _instant(str(sample_of[when].value), here)
            if slot is not None and gap.first <= slot <= gap.last:
                point: Point = kept.point
                if is_slot(slot, point.every, zone):
                    stored = sample_of[value].value
                    yield slot, Sample(point, slot, stored, quality=Quality.MEASURED)


def _right(clock_text: str, at: float, zone: dt.tzinfo) -> bool:
    """Whether the meter's clock shows the building's local time. A date alone must be today's."""
    civil = dt.datetime.fromtimestamp(at, zone).replace(tzinfo=None)
    shown = dt.datetime.fromisoformat(clock_text)
    if "T" not in clock_text:
        return shown.date() == civil.date()
    return abs((shown - civil).total_seconds()) <= TRUE_WITHIN


def _instant(text: str, zone: dt.tzinfo) -> int | None:
    """The time of a stored value in Unix seconds; a date means the end of that day (EN 13757-3)."""
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    if "T" not in text:
        moment += dt.timedelta(days=1)
    return int(moment.replace(tzinfo=zone).timestamp())

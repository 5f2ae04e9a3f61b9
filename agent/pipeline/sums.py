"""The sums over dwellings of one recipient: each slot closed once, in order, and never again.

No later value makes a new version of a sum: what two of one slot differ by would be somebody's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.channels import channels
from agent.model import Flag, MarkKey, Quality, Range, Reading, Series, SlotMark, ValueKind, Why
from agent.pipeline.slots import ExpectedSeries
from agent.pipeline.timetable import following, length, running_slot
from agent.registry.aggregate import ID, formed, sent_alone, step_of, sum_of_slot
from agent.registry.dates import DAY, MONTH, slot_before
from agent.registry.explain import ConfiguredReading, UnassignedDevice, place_of
from agent.registry.records import covers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from zoneinfo import ZoneInfo

    from agent.buffer.periods import Wrong
    from agent.model import Point
    from agent.pipeline.groups import Groups
    from agent.pipeline.ingest import Ingest
    from agent.pipeline.reading_cache import ReadingCache
    from agent.pipeline.slots import SlotLedger
    from agent.registry.aggregate import Group
    from agent.registry.registry import Registry

    Taken = tuple[list[Range], list[Reading], dict[MarkKey, SlotMark]]

LATE = 60
"""seconds after the end of its reading in which a value may still come for a slot"""
PREFIX = "sum of "
"""of the name under which the marks of a sum are kept; no device's has a space"""


@dataclass(frozen=True, slots=True)
class ConfiguredSums:
    """What sums a recipient is to have, as configured."""

    place: str
    """the building's"""
    points: Mapping[str, Sequence[Point]]
    """by channel what is read of dwellings"""
    fewest: int
    zone: ZoneInfo | None = None
    finest: int | None = None
    """seconds of the finest slot; None: each channel's own"""
    withholds: bool = False
    """whether a slot of few gives a row that says so"""
    whole: Sequence[Point] = ()
    """what meters of the building's own read of quantities that add up"""

    def steps(self) -> dict[str, int]:
        """The step of each sum."""
        return {
            channel: step_of(channel, {one.every for one in points}, finest=self.finest)
            for channel, points in self.points.items()
        }


class Sums:
    """See the module. `serial`: what a device says it is; None: nothing yet."""

    def __init__(  # noqa: PLR0913, PLR0917 -- what it works with
        self,
        registry: Registry,
        recipient: str,
        groups: Groups,
        indexes: ReadingCache,
        marks: Mapping[MarkKey, SlotMark],
        serial: Callable[[str], str | None],
    ) -> None:
        self.registry, self.recipient, self.groups = registry, recipient, groups
        self._indexes, self._serial = indexes, serial
        self._closed: dict[str, int] = {}
        for (name, _), mark in marks.items():
            if name.startswith(PREFIX):
                channel = name.removeprefix(PREFIX)
                self._closed[channel] = max(mark.slot, self._closed.get(channel, 0))
        self._began: float | None = None
        """when this process first looked: of earlier ends of slots nothing is in memory"""
        self.removed: tuple[float, float] | None = None
        """from when until when the recipient had no uplink here, seconds since 1970"""
        self._begins: dict[str, int] = {}
        self.said: dict[str, tuple[int, int | None]] = {}
        """by channel the last slot closed since the start, and how many are in it"""

    async def tend(
        self, asked: ConfiguredSums, now: float, ledger: SlotLedger, intake: Ingest
    ) -> None:
        """Close every slot that is due."""
        for key, rows, mark in self.close(asked, now):
            for row in rows:
                of = row.series
                owed = ExpectedSeries(of.place, of.channel, of.kind, of.unit, of.step)
                ledger.owed[owed] = min(row.t, ledger.owed.get(owed, row.t))
            await intake.put(rows, {key: mark})

    def close(
        self, asked: ConfiguredSums, now: float
    ) -> list[tuple[MarkKey, list[Reading], SlotMark]]:
        """The rows of slots that are due, by channel, with the mark that they move."""
        self._began = now if self._began is None else self._began
        for channel in self._closed.keys() - asked.points.keys():
            # nobody asks: should it be asked again, it begins after what was told
            self._closed[channel] = max(self._closed[channel], int(now))
        if len(self.registry.dwellings()) < asked.fewest:
            return []
        found: list[tuple[MarkKey, list[Reading], SlotMark]] = []
        for channel, step in asked.steps().items():
            before = self._closed.get(channel)
            rows = self._close(asked, channel, step, now)
            if (closed := self._closed.get(channel)) is not None and closed != before:
                found.append(((PREFIX + channel, step), rows, SlotMark(closed, heard=True)))
        return found

    @property
    def highest(self) -> int:
        """The last slot that is closed."""
        return max(self._closed.values(), default=0)

    def taken_back(self, found: Wrong, asked: ConfiguredSums, now: float) -> Taken:
        """As Ledger.taken_back; a slot of few dwellings is told as in `close`."""
        ranges, rows, marks = [], list[Reading](), dict[MarkKey, SlotMark]()
        for channel, step in asked.steps().items():
            key = (PREFIX + channel, step)
            since, until = found.since.get(key, -1), found.until.get(key, -1)
            if since >= until or channel not in self._closed:
                continue
            began = running_slot(step, max(0, found.began), asked.zone) - 1
            first = began if since < 0 else since
            ranges.append(Range(asked.place, channel, first + 1, until + 1))
            running = running_slot(step, now, asked.zone)
            slot = running_slot(step, running - 1, asked.zone) if since < 0 else since
            slot = running_slot(step, slot, asked.zone)
            while slot < min(until, running_slot(step, running - 1, asked.zone)):
                slot = following(slot, step, asked.zone)
                _add(rows, self._unknown(asked, channel, step, slot))
            closed = slot if until > now else max(slot, self._closed[channel])
            marks[key] = SlotMark(closed, heard=True)
        return ranges, rows, marks

    def set_back(self, marks: Mapping[MarkKey, SlotMark], now: float) -> None:
        """Go on from these marks, which are on the disk: nothing is known of later slots."""
        for (name, _), mark in marks.items():
            self._closed[name.removeprefix(PREFIX)] = mark.slot
        self._began = now if self._began is None else min(self._began, now)
        self._begins.clear()
        self.groups.forget(int(now))
        self._indexes.forget(int(now))

    def _unknown(self, asked: ConfiguredSums, channel: str, step: int, slot: int) -> Reading | None:
        """A slot that a wrong clock closed, and nobody knows the sum of."""
        unit = channels()[channel].unit
        series = Series(asked.place, channel, ValueKind.INT, unit, step, None, None, ID)
        group = self.groups.over(channel, slot_before(slot, step, asked.zone), slot)
        if group is None or len(group.members) >= asked.fewest:
            return Reading(series, slot, None, Quality.MISSING, why=Why.CLOCK)
        if asked.withholds:
            return Reading(series, slot, None, Quality.WITHHELD, why=Why.FEW)
        return None

    def measured(self, asked: ConfiguredSums, channel: str, t: int) -> set[str]:
        """The dwellings of which the channel is read at t."""
        found = set()
        for one in asked.points[channel]:
            read = ConfiguredReading(
                one.device, self._serial(one.device), channel, one.every, False, None
            )
            place = place_of(self.registry, read, t)
            if not isinstance(place, UnassignedDevice) and place[0] == "D":
                found.add(place)
        known = {one.device for one in asked.points[channel]}
        return found | {
            one.place
            for one in self.registry.installations()
            if one.channel == channel and one.place[0] == "D" and covers(one, t)
            if one.device is None or one.device in known
        }

    def _close(self, asked: ConfiguredSums, channel: str, step: int, now: float) -> list[Reading]:
        self._form(asked, channel, now)
        closed, groups = self._closed.get(channel), self.groups.of(channel)
        if closed is None:
            if not groups:
                return []
            closed = max(groups[-1].since, int(self._began or 0))
        every = max(one.every for one in asked.points[channel])
        wait = every + min(every, LATE)
        rows: list[Reading] = []
        slot = following(running_slot(step, closed, asked.zone), step, asked.zone)
        while slot <= now:
            if (start := slot_before(slot, step, asked.zone)) >= closed:
                group = self.groups.over(channel, start, slot)
                flows = self._indexes.flows(channel, slot)
                whole = group is not None and group.members <= flows.keys()
                if not whole and now < slot + wait and slot > (self._began or 0):
                    break
                _add(rows, self._row(asked, channel, step, slot, group))
                closed = self._closed[channel] = slot
            slot = following(slot, step, asked.zone)
        return rows

    def _form(self, asked: ConfiguredSums, channel: str, now: float) -> None:
        """Fix the group of the month, at its first midnight; the first one at the next midnight."""
        zone, last = asked.zone, next(iter(self.groups.of(channel)[-1:]), None)
        if last is None:
            tonight = following(running_slot(DAY, now, zone), DAY, zone)
            since = self._begins.setdefault(channel, tonight)
        else:
            since = running_slot(MONTH, now, zone)
        if since > now or (last is not None and now < last.until):
            return
        until = following(running_slot(MONTH, since, zone), MONTH, zone)
        measured = self.measured(asked, channel, since)
        self.groups.add(
            channel, formed(self.registry, measured, channel, since, until, self.recipient)
        )

    def _row(
        self, asked: ConfiguredSums, channel: str, step: int, slot: int, group: Group | None
    ) -> Reading | None:
        """One slot: its sum, or why there is none; None: it is of few, and nobody wants to know."""
        unit = channels()[channel].unit
        series = Series(asked.place, channel, ValueKind.INT, unit, step, None, None, ID)
        found, many = None, 0 if group is None else len(group.members)
        start = slot_before(slot, step, asked.zone)
        if group is not None:
            facts, recipient, since = self.registry, self.recipient, group.since
            flows = {
                place: flow
                for place, flow in self._indexes.flows(channel, slot).items()
                if place in group.members and facts.occupancy_at(place, slot - 1) is not None
            }
            apart = {
                place
                for place in flows
                if sent_alone(facts, place, channel, since, slot, recipient)
            }
            day = self._indexes.day(channel, slot)
            found = sum_of_slot(group.members, flows, apart, day, asked.fewest)
        without = self.removed is not None and self.removed[0] <= start < self.removed[1]
        if without:
            found = None
        self.said[channel] = (slot, found.n if found else None)
        if found is not None:
            short = step == DAY and length(slot, asked.zone) != DAY
            return Reading(
                series,
                slot,
                found.value,
                Quality.CALCULATED,
                flags=Flag.DAYLIGHT if short else "",
                n=found.n,
                method="SUM",
            )
        if (without or start < (self._began or 0)) and (group is None or many >= asked.fewest):
            why = Why.UPLINK if without else Why.AGENT
            return Reading(series, slot, None, Quality.MISSING, why=why)
        if asked.withholds:
            return Reading(series, slot, None, Quality.WITHHELD, why=Why.FEW)
        return None


def _add(rows: list[Reading], row: Reading | None) -> None:
    """At the end; a run of slots without value is one row."""
    last = rows[-1] if rows else None
    if row is None:
        return
    if (
        last is not None
        and row.value is None
        and (last.quality, last.why) == (row.quality, row.why)
        and last.t + last.span * row.series.step == row.t
    ):
        rows[-1] = replace(last, span=last.span + 1)
    else:
        rows.append(row)

"""The sums over dwellings for one recipient: each slot is closed once, in order, and never again.

A later value makes no new version of a sum: the difference of two versions would be the consumption
of one dwelling.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.acquisition.slots import ExpectedSeries
from agent.acquisition.timetable import following, length, running_slot
from agent.core.channels import channels
from agent.core.model import (
    Flag,
    MarkKey,
    Quality,
    Range,
    Reading,
    Series,
    SlotMark,
    ValueKind,
    Why,
)
from agent.registry.aggregate import ID, formed, sent_alone, step_of, sum_of_slot
from agent.registry.dates import DAY, MONTH, slot_before
from agent.registry.explain import ConfiguredReading, UnassignedDevice, place_of
from agent.registry.records import covers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from zoneinfo import ZoneInfo

    from agent.acquisition.groups import Groups
    from agent.acquisition.ingest import Ingest
    from agent.acquisition.reading_cache import ReadingCache
    from agent.acquisition.slots import SlotLedger
    from agent.buffer.periods import Wrong
    from agent.core.model import Point
    from agent.registry.aggregate import Group
    from agent.registry.registry import Registry

    Taken = tuple[list[Range], list[Reading], dict[MarkKey, SlotMark]]

LATE = 60
"""seconds after the end of its reading in which a value still counts for a slot"""
PREFIX = "sum of "
"""prefix of the name under which the marks of a sum are kept; names of devices have no space"""


@dataclass(frozen=True, slots=True)
class ConfiguredSums:
    """The sums that a recipient gets, as configured."""

    place: str
    """id of the building"""
    points: Mapping[str, Sequence[Point]]
    """by channel, the points that are read in dwellings"""
    fewest: int
    zone: ZoneInfo | None = None
    finest: int | None = None
    """seconds of the finest slot; None: the default of each channel"""
    withholds: bool = False
    """whether a slot of too few dwellings gives a row that says so"""
    whole: Sequence[Point] = ()
    """points of the building's own meters for quantities that can be added"""

    def steps(self) -> dict[str, int]:
        """The step of each sum, by channel."""
        return {
            channel: step_of(channel, {point.every for point in points}, finest=self.finest)
            for channel, points in self.points.items()
        }


class Sums:
    """Closes the slots of sums. `serial`: the serial number that a device reports; None: none
    yet.
    """

    def __init__(  # noqa: PLR0913, PLR0917 -- what it works with
        self,
        registry: Registry,
        recipient: str,
        groups: Groups,
        reading_cache: ReadingCache,
        marks: Mapping[MarkKey, SlotMark],
        serial: Callable[[str], str | None],
    ) -> None:
        self.registry, self.recipient, self.groups = registry, recipient, groups
        self._reading_cache, self._serial = reading_cache, serial
        self._closed: dict[str, int] = {}
        for (name, _), mark in marks.items():
            if name.startswith(PREFIX):
                channel = name.removeprefix(PREFIX)
                self._closed[channel] = max(mark.slot, self._closed.get(channel, 0))
        self._began: float | None = None
        """when this process first closed sums: the cache has no earlier slots"""
        self.removed: tuple[float, float] | None = None
        """from when until when the recipient had no uplink here, seconds since 1970"""
        self._begins: dict[str, int] = {}
        self.last_closed: dict[str, tuple[int, int | None]] = {}
        """by channel, the last slot closed since the start and the number of dwellings in it"""

    async def tend(
        self, config: ConfiguredSums, now: float, ledger: SlotLedger, ingest: Ingest
    ) -> None:
        """Close every slot that is due."""
        for key, rows, mark in self.close(config, now):
            for row in rows:
                of = row.series
                owed = ExpectedSeries(of.place, of.channel, of.kind, of.unit, of.step)
                ledger.owed[owed] = min(row.t, ledger.owed.get(owed, row.t))
            await ingest.put(rows, {key: mark})

    def close(
        self, config: ConfiguredSums, now: float
    ) -> list[tuple[MarkKey, list[Reading], SlotMark]]:
        """The rows of the slots that are due, by channel, with the mark that they move."""
        self._began = now if self._began is None else self._began
        for channel in self._closed.keys() - config.points.keys():
            # No longer configured. If it is configured again, it begins after what was sent.
            self._closed[channel] = max(self._closed[channel], int(now))
        # A building with too few dwellings has no sums at all, not even rows that say so.
        if len(self.registry.dwellings()) < config.fewest:
            return []
        results: list[tuple[MarkKey, list[Reading], SlotMark]] = []
        for channel, step in config.steps().items():
            before = self._closed.get(channel)
            rows = self._close(config, channel, step, now)
            if (closed := self._closed.get(channel)) is not None and closed != before:
                results.append(((PREFIX + channel, step), rows, SlotMark(closed, heard=True)))
        return results

    @property
    def highest(self) -> int:
        """The last slot that is closed."""
        return max(self._closed.values(), default=0)

    def taken_back(self, wrong: Wrong, config: ConfiguredSums, now: float) -> Taken:
        """As `SlotLedger.taken_back`. A slot of few dwellings is reported as in `close`."""
        ranges, rows, marks = [], list[Reading](), dict[MarkKey, SlotMark]()
        for channel, step in config.steps().items():
            key = (PREFIX + channel, step)
            since, until = wrong.since.get(key, -1), wrong.until.get(key, -1)
            if since >= until or channel not in self._closed:
                continue
            began = running_slot(step, max(0, wrong.began), config.zone) - 1
            first = began if since < 0 else since
            ranges.append(Range(config.place, channel, first + 1, until + 1))
            running = running_slot(step, now, config.zone)
            slot = running_slot(step, running - 1, config.zone) if since < 0 else since
            # A mark set back by a wrong clock may lie between two slots.
            slot = running_slot(step, slot, config.zone)
            while slot < min(until, running_slot(step, running - 1, config.zone)):
                slot = following(slot, step, config.zone)
                _add(rows, self._unknown(config, channel, step, slot))
            closed = slot if until > now else max(slot, self._closed[channel])
            marks[key] = SlotMark(closed, heard=True)
        return ranges, rows, marks

    def set_back(self, marks: Mapping[MarkKey, SlotMark], now: float) -> None:
        """Continue from these marks, which are on the disk. Forget everything about later slots."""
        for (name, _), mark in marks.items():
            self._closed[name.removeprefix(PREFIX)] = mark.slot
        self._began = now if self._began is None else min(self._began, now)
        self._begins.clear()
        self.groups.forget(int(now))
        self._reading_cache.forget(int(now))

    def _unknown(
        self, config: ConfiguredSums, channel: str, step: int, slot: int
    ) -> Reading | None:
        """The row of a slot that a wrong clock closed and whose sum is not known."""
        unit = channels()[channel].unit
        series = Series(config.place, channel, ValueKind.INT, unit, step, None, None, ID)
        group = self.groups.over(channel, slot_before(slot, step, config.zone), slot)
        if group is None or len(group.members) >= config.fewest:
            return Reading(series, slot, None, Quality.MISSING, why=Why.CLOCK)
        if config.withholds:
            return Reading(series, slot, None, Quality.WITHHELD, why=Why.FEW)
        return None

    def measured(self, config: ConfiguredSums, channel: str, t: int) -> set[str]:
        """The dwellings whose meters are read for the channel at t."""
        dwellings = set()
        for entry in config.points[channel]:
            read = ConfiguredReading(
                entry.device, self._serial(entry.device), channel, entry.every, False, None
            )
            place = place_of(self.registry, read, t)
            if not isinstance(place, UnassignedDevice) and place[0] == "D":
                dwellings.add(place)
        devices = {entry.device for entry in config.points[channel]}
        return dwellings | {
            entry.place
            for entry in self.registry.installations()
            if entry.channel == channel and entry.place[0] == "D" and covers(entry, t)
            if entry.device is None or entry.device in devices
        }

    def _close(self, config: ConfiguredSums, channel: str, step: int, now: float) -> list[Reading]:
        self._form(config, channel, now)
        closed, groups = self._closed.get(channel), self.groups.of(channel)
        # The first group begins at a midnight: before that no slot can be complete.
        if closed is None:
            if not groups:
                return []
            closed = max(groups[-1].since, int(self._began or 0))
        # The slowest reader decides how long a value may still come.
        every = max(point.every for point in config.points[channel])
        wait = every + min(every, LATE)
        rows: list[Reading] = []
        slot = following(running_slot(step, closed, config.zone), step, config.zone)
        while slot <= now:
            if (start := slot_before(slot, step, config.zone)) >= closed:
                group = self.groups.over(channel, start, slot)
                flows = self._reading_cache.flows(channel, slot)
                whole = group is not None and group.members <= flows.keys()
                # Wait for late values, but not for slots from before the start: the cache has none
                # of them.
                if not whole and now < slot + wait and slot > (self._began or 0):
                    break
                _add(rows, self._row(config, channel, step, slot, group))
                closed = self._closed[channel] = slot
            slot = following(slot, step, config.zone)
        return rows

    def _form(self, config: ConfiguredSums, channel: str, now: float) -> None:
        """Fix the group of a month at its first midnight; the first group of all at the next
        midnight.
        """
        zone, last = config.zone, next(iter(self.groups.of(channel)[-1:]), None)
        if last is None:
            tonight = following(running_slot(DAY, now, zone), DAY, zone)
            since = self._begins.setdefault(channel, tonight)
        else:
            since = running_slot(MONTH, now, zone)
        if since > now or (last is not None and now < last.until):
            return
        until = following(running_slot(MONTH, since, zone), MONTH, zone)
        measured = self.measured(config, channel, since)
        self.groups.add(
            channel, formed(self.registry, measured, channel, since, until, self.recipient)
        )

    def _row(
        self, config: ConfiguredSums, channel: str, step: int, slot: int, group: Group | None
    ) -> Reading | None:
        """The sum of one slot, or why there is none. None: of too few dwellings, and no row is
        wanted.
        """
        unit = channels()[channel].unit
        series = Series(config.place, channel, ValueKind.INT, unit, step, None, None, ID)
        total, members = None, 0 if group is None else len(group.members)
        start = slot_before(slot, step, config.zone)
        if group is not None:
            facts, recipient, since = self.registry, self.recipient, group.since
            flows = {
                place: flow
                for place, flow in self._reading_cache.flows(channel, slot).items()
                if place in group.members and facts.occupancy_at(place, slot - 1) is not None
            }
            # Dwellings that the recipient gets one by one: their values could be subtracted from
            # the sum.
            apart = {
                place
                for place in flows
                if sent_alone(facts, place, channel, since, slot, recipient)
            }
            day = self._reading_cache.day(channel, slot)
            total = sum_of_slot(group.members, flows, apart, day, config.fewest)
        without = self.removed is not None and self.removed[0] <= start < self.removed[1]
        if without:
            total = None
        self.last_closed[channel] = (slot, total.n if total else None)
        if total is not None:
            short = step == DAY and length(slot, config.zone) != DAY
            return Reading(
                series,
                slot,
                total.value,
                Quality.CALCULATED,
                flags=Flag.DAYLIGHT if short else "",
                n=total.n,
                method="SUM",
            )
        if (without or start < (self._began or 0)) and (group is None or members >= config.fewest):
            why = Why.UPLINK if without else Why.AGENT
            return Reading(series, slot, None, Quality.MISSING, why=why)
        if config.withholds:
            return Reading(series, slot, None, Quality.WITHHELD, why=Why.FEW)
        return None


def _add(rows: list[Reading], row: Reading | None) -> None:
    """Append a row; consecutive slots without a value become one row."""
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

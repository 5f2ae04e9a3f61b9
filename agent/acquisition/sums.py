"""The sums over dwellings for one recipient: each slot is closed once, in order, and never again.

A later value makes no new version of a sum: the difference of two versions would be the consumption
of one dwelling.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from agent.acquisition.row_assignment import Withholding
from agent.acquisition.slots import multiplier
from agent.acquisition.timetable import following, is_slot, length, running_slot
from agent.core.atomic_write import StateFile
from agent.core.errors import Refused
from agent.core.log_fields import LogEvent, fields
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
from agent.core.quantities import channels
from agent.core.tasks import Change
from agent.registry.aggregate import ID, Group, formed, sent_alone, step_of, sum_of_slot
from agent.registry.dates import DAY, MONTH, slot_before
from agent.registry.explain import ConfiguredReading, UnassignedDevice, place_of
from agent.registry.records import EXACT, Installation, covers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path
    from zoneinfo import ZoneInfo

    from agent.acquisition.ingest import Ingest
    from agent.acquisition.row_assignment import RowAssignment
    from agent.acquisition.slots import SlotLedger
    from agent.buffer.schema import Wrong
    from agent.core.model import Point, Sample
    from agent.registry.registry import Registry

log = logging.getLogger(__name__)

LATE = 60
"""seconds after the end of its reading in which a value still counts for a slot"""
PREFIX = "sum of "
"""prefix of the name under which the marks of a sum are kept; names of devices have no space"""
KEPT = 2
"""groups kept of a channel: the slot that ends with a month is summed after the month"""
SENT, HELD = "sent", "held"
GOOD = (Quality.MEASURED, Quality.RAW)
HOUR = 3600


if TYPE_CHECKING:
    Taken = tuple[list[Range], list[Reading], dict[MarkKey, SlotMark]]


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
    refuses_unproven: bool = False
    """whether the recipient takes no values whose factor is not proven (rule F20)"""
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
                ledger.owe(row.series, row.t)
            await ingest.put(rows, {key: mark})

    def close(
        self, config: ConfiguredSums, now: float
    ) -> list[tuple[MarkKey, list[Reading], SlotMark]]:
        """The rows of the slots that are due, by channel, with the mark that they move. None while
        the registry allows nothing (rule A8): nobody knows then who is sent one by one.
        """
        self._began = now if self._began is None else self._began
        if self.registry.mute:
            return []
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

    def next_due(self, config: ConfiguredSums, now: float) -> float:
        """The next time after `now` at which a slot may be due if no index comes before, in
        seconds since 1970. Call it after `close`.
        """
        moments: list[float] = [math.inf]
        for channel, step in config.steps().items():
            moments.append(following(running_slot(step, now, config.zone), step, config.zone))
            moments.append(self._begins.get(channel, 0))
            moments += [group.until for group in self.groups.of(channel)]
            if (closed := self._closed.get(channel)) is not None:
                still_open = following(running_slot(step, closed, config.zone), step, config.zone)
                moments.append(still_open + self._patience(config, channel))
        return min(moment for moment in moments if moment > now)

    @staticmethod
    def _patience(config: ConfiguredSums, channel: str) -> int:
        """Seconds after the end of a slot in which its values may still come."""
        # The slowest reader decides.
        every = max(point.every for point in config.points[channel])
        return every + min(every, LATE)

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
        wait = self._patience(config, channel)
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
            flags = [Flag.DAYLIGHT] if short else []
            if flows.keys() & self._reading_cache.unproven(channel, slot):
                if config.refuses_unproven:
                    return Reading(series, slot, None, Quality.WITHHELD, why=Why.FACTOR)
                flags.append(Flag.UNPROVEN)
            return Reading(
                series,
                slot,
                total.value,
                Quality.CALCULATED,
                flags="+".join(flags),
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


def groups_file(state: Path, recipient: str) -> Path:
    """The file with the groups of a recipient."""
    return state / f"rest-{recipient}.json"


class Groups:
    """Groups by channel. With a missing or damaged file a new group begins."""

    def __init__(self, file: Path) -> None:
        self._file = StateFile[dict[str, list[Group]]](
            file,
            lambda stored: {
                str(channel): [
                    Group(int(since), int(until), frozenset(map(str, members)))
                    for since, until, members in groups
                ]
                for channel, groups in stored.items()
            },
            missing=dict,
        )
        self._groups = self._file.load(partial(setattr, self, "_groups"))

    def of(self, channel: str) -> Sequence[Group]:
        """The last groups of a channel, in order."""
        return self._groups.get(channel, [])

    def over(self, channel: str, start: int, end: int) -> Group | None:
        """The group for a quantity over (start, end]; None: there is none, or two groups share the
        period.
        """
        return next((group for group in self.of(channel) if group.has(start, end)), None)

    def add(self, channel: str, group: Group) -> bool:
        """Keep a group. Return whether it is on the disk: otherwise it does not count."""
        return self._keep(self._groups | {channel: [*self.of(channel), group][-KEPT:]}, channel)

    def forget(self, now: int) -> None:
        """Forget groups of months that have not begun: a wrong clock made them."""
        left = {
            channel: [group for group in groups if group.since <= now]
            for channel, groups in self._groups.items()
        }
        if left != self._groups and not self._keep(left, "any channel"):
            self._groups = left  # it counts in memory; a restart drops these groups again

    def _keep(self, known: dict[str, list[Group]], channel: str) -> bool:
        document = {
            name: [[group.since, group.until, sorted(group.members)] for group in groups]
            for name, groups in known.items()
        }
        try:
            self._file.save(document)
        except Refused as error:
            log.error(  # noqa: TRY400 -- no bug
                "no sum of %s is made, because its group cannot be saved: %s", channel, error,
                extra=fields(LogEvent.RECORD_NOT_WRITTEN, store=self._file.name),
            )  # fmt: skip
            return False
        self._groups = known
        return True


def totals_file(state: Path, recipient: str) -> Path:
    """The file with the states of a recipient's indexes."""
    return state / f"totals-{recipient}.json"


class Totals:
    """The state of each index, by place and channel. A damaged file counts as empty."""

    def __init__(self, file: Path) -> None:
        self._file = StateFile[dict[str, str]](
            file,
            lambda stored: {str(key): str(how) for key, how in stored.items()},
            missing=dict,
        )
        self._states = self._file.load(partial(setattr, self, "_states"))

    def held(self, place: str, channel: str) -> bool:
        """Whether an index is withheld for good: each of the building, while the file cannot be
        read (rule S10).
        """
        unknown = bool(self._file.unreadable) and place.startswith("B")
        return unknown or self._states.get(f"{place}/{channel}") == HELD

    def look(self, assignment: RowAssignment, points: Iterable[Point], now: int) -> None:
        """Note the present state of each index of the building; on the disk if it has changed."""
        for point in points:
            answer = assignment.at(point, None, now).series
            key = f"{point.place}/{point.channel}"
            if not isinstance(answer, Withholding):
                self._note(key, SENT)
            elif answer.why is Why.FEW and self._states.get(key) == SENT:
                self._note(key, HELD)
                log.warning(
                    "the index %s would reveal a few dwellings: it is no longer sent", key,
                    extra=fields(LogEvent.INDEX_WITHHELD),
                )  # fmt: skip

    def _note(self, key: str, how: str) -> None:
        if self._states.get(key) in (how, HELD):
            return
        self._states = self._states | {key: how}
        try:
            self._file.save(self._states)
        except Refused as error:
            log.error(  # noqa: TRY400 -- no bug
                "the state of index %s is not saved, and lost at a restart: %s", key, error,
                extra=fields(LogEvent.RECORD_NOT_WRITTEN, store=self._file.name),
            )  # fmt: skip


class MeterIndex(NamedTuple):
    """The index of one meter."""

    meter: str
    """id of the installation: a difference needs two indexes of one meter"""
    value: Decimal
    unproven: bool = False


class ReadingCache:
    """The indexes of the last day and two more slots, by channel, slot and dwelling."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.changed = Change()
        """an index has come"""
        self._steps: Mapping[str, int] = {}
        self._zone: ZoneInfo | None = None
        self._kept: dict[str, dict[int, dict[str, MeterIndex]]] = {}

    def set_steps(self, steps: Mapping[str, int], zone: ZoneInfo | None) -> None:
        """From now on keep the indexes of these channels, at slots of these steps (seconds)."""
        self._steps, self._zone = steps, zone
        self._kept = {channel: self._kept.get(channel, {}) for channel in steps}

    def note(self, slot: int, samples: Iterable[Sample], serial: str | None) -> None:
        """Keep the good indexes of dwellings' meters, the first of each slot."""
        for sample in samples:
            point = sample.point
            step = self._steps.get(point.channel or "")
            if step is None or point.derived or point.place is not None:
                continue
            if sample.why is not None or not isinstance(sample.value, Decimal):
                continue
            if sample.quality not in GOOD or not is_slot(slot, step, self._zone):
                continue
            whose = self._registry.whose(point.device, serial, str(point.channel), slot)
            if isinstance(whose, Installation) and whose.place[0] == "D":
                value = whose.measured(EXACT.multiply(sample.value, multiplier(point)))
                slots = self._kept[str(point.channel)]
                # The first value of a slot counts, as in the rows that are sent.
                proven = self._registry.factor_proven(
                    whose, str(point.channel), point.to_prove, confirmed=point.confirmed
                )
                index = MeterIndex(whose.id, value, not proven)
                slots.setdefault(slot, {}).setdefault(whose.place, index)
                self.changed.tell()
                # a slot is closed before the next one ends, and a day may have 25 hours
                for old_slot in [
                    kept_slot for kept_slot in slots if kept_slot < slot - DAY - 2 * step - HOUR
                ]:
                    del slots[old_slot]

    def forget(self, now: int) -> None:
        """Forget everything if an index belongs to a future slot: a wrong clock made it."""
        if any(slot > now for slots in self._kept.values() for slot in slots):
            self._kept = {channel: {} for channel in self._kept}

    def flows(self, channel: str, t: int) -> dict[str, Decimal]:
        """The consumption in the slot that ends at t, by dwelling. Only of dwellings with indexes
        of one meter at both ends, the second not below the first.
        """
        slots, step = self._kept.get(channel, {}), self._steps.get(channel, DAY)
        ends, begins = slots.get(t, {}), slots.get(slot_before(t, step, self._zone), {})
        flow_of = {}
        for place, index in ends.items():
            before = begins.get(place)
            if before is not None and before.meter == index.meter and index.value >= before.value:
                flow_of[place] = EXACT.subtract(index.value, before.value)
        return flow_of

    def unproven(self, channel: str, t: int) -> set[str]:
        """The dwellings whose index at t had a factor without proof."""
        indexes = self._kept.get(channel, {}).get(t, {})
        return {place for place, index in indexes.items() if index.unproven}

    def day(self, channel: str, t: int) -> dict[str, Decimal]:
        """The known consumption in the slots of the day until t, by dwelling."""
        whole: dict[str, Decimal] = {}
        for slot in self._kept.get(channel, {}):
            if t - DAY < slot <= t:
                for place, flow in self.flows(channel, slot).items():
                    whole[place] = EXACT.add(whole.get(place, Decimal(0)), flow)
        return whole

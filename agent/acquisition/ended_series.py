"""Which series have ended: no configured point makes them any more, or their meter was removed.

Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agent.acquisition.timetable import following, running_slot
from agent.core.model import ValueKind
from agent.registry.dates import DAY
from agent.registry.records import covers, serial_key

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
    from zoneinfo import ZoneInfo

    from agent.acquisition.row_assignment import ExpectedSeries, RowAssignment
    from agent.core.model import MarkKey, Point, SlotMark
    from agent.registry.records import Installation
    from agent.registry.registry import Registry


class Configured(NamedTuple):
    """What is read, and how far its slots are closed."""

    points: Mapping[MarkKey, Sequence[Point]]
    """by device and period"""
    marks: Mapping[MarkKey, SlotMark]
    """of these"""
    left: Mapping[MarkKey, SlotMark]
    """of devices and periods that were configured before"""
    assignment: RowAssignment
    zone: ZoneInfo | None


def ended(series: Iterable[ExpectedSeries], now: Configured) -> dict[ExpectedSeries, int]:
    """Those of these series that no configured point makes any more, each with its first slot that
    was not closed (rule M3).

    A series is left out while a device whose number nobody knows yet may turn out to be its meter,
    and if no mark says how far it was closed.
    """
    if not now.left:
        return {}
    change, ends = _Change(now), {}
    for each in series:
        closed = change.closed(each)
        if not closed:
            continue
        open_since = max(following(now.left[key].slot, key[1], now.zone) for key in closed)
        able = change.able(each, closed, open_since)
        if not any(now.assignment.makes(p, each) for key in able for p in now.points[key]):
            begun = running_slot(each.step, open_since - 1, now.zone)
            ends[each] = following(begun, each.step, now.zone)
    return ends


def closed_by(
    series: Iterable[ExpectedSeries], keys: Container[MarkKey], now: Configured
) -> dict[ExpectedSeries, list[MarkKey]]:
    """Those of these series of which some of these keys, which are not configured any more, closed
    slots; each with those keys.
    """
    change = _Change(now)
    closed = {each: [key for key in change.closed(each) if key in keys] for each in series}
    return {each: by for each, by in closed.items() if by}


def removed(
    series: Iterable[ExpectedSeries], now: Configured, t: float
) -> dict[ExpectedSeries, int]:
    """Those of these series whose last meter was removed before `t`, without a successor, each with
    the first slot that it does not measure (rule T34).
    """
    named = {point.place for group in now.points.values() for point in group}
    ends = {}
    for each in series:
        if each.place in named:  # the configuration says what measures it
            continue
        meters = now.assignment.registry.meters_of(each.place)
        until = [meter.until for meter in meters if meter.channel in {None, each.channel}]
        past = [end for end in until if end is not None and end <= t]
        if past and len(past) == len(until):
            # a quantity of a step that ends with the removal is the meter's (rule I10)
            last = max(past) if each.kind in {ValueKind.INT, ValueKind.AVG} else max(past) - 1
            ends[each] = following(running_slot(each.step, last, now.zone), each.step, now.zone)
    return ends


class _Change:
    """What was read before, and what is read now."""

    def __init__(self, now: Configured) -> None:
        marks = [*now.left.items(), *now.marks.items()]
        serials = {device: mark.serial for (device, _), mark in marks if mark.serial}
        points = [point for group in now.points.values() for point in group]
        places = {point.device: point.place for point in points if point.place}
        self._now, self._serials = now, serials
        registry = now.assignment.registry
        at_the_end = {key: mark.serial or serials.get(key[0]) for key, mark in now.left.items()}
        self._before = _Readers(at_the_end, places, registry)
        self._present = _Readers({key: serials.get(key[0]) for key in now.points}, places, registry)
        self._devices = {device for device, _ in now.points}
        self._removed = [key for key in now.left if key[0] not in self._devices]
        self._unknown = [key for key in now.points if key[0] not in {*serials, *places}]

    def closed(self, series: ExpectedSeries) -> list[MarkKey]:
        """What was read before and closed slots of the series."""
        keys = [key for key in self._before.of(series) if _made(key[1], series)]
        if keys or series.place[:1] == "D":
            return keys
        # only the configuration named its place
        return [key for key in self._removed if key[1] == series.step]

    def able(self, series: ExpectedSeries, closed: Iterable[MarkKey], since: int) -> list[MarkKey]:
        """What is read now and may be of the place of the series."""
        before = {device for device, _ in closed}
        return [
            *self._present.of(series, since),
            *(self._unknown if before - self._devices else ()),
            *(
                key
                for key in self._now.points
                if key[0] in before and self._awaits(key, series, since)
            ),
        ]

    def _awaits(self, key: MarkKey, series: ExpectedSeries, since: int) -> bool:
        """Whether the meter of the series was recorded in place of the one that a device has read,
        and its number is not read yet: until then the device's slots are its (rules M22, M24).
        """
        assignment, serial = self._now.assignment, self._serials.get(key[0])
        points = [point for point in self._now.points[key] if point.channel == series.channel]
        numbers = {assignment.serial_at(point, serial, since) for point in points} - {None, serial}
        keys = {serial_key(str(number)) for number in numbers}
        return any(
            serial_key(meter.serial or "") in keys and covers(meter, since)
            for meter in assignment.registry.meters_of(series.place)
        )


class _Readers:
    """Devices and periods by what they read: a meter, or a place that the configuration names."""

    def __init__(
        self, serials: Mapping[MarkKey, str | None], places: Mapping[str, str], registry: Registry
    ) -> None:
        """`serials`: the number that each device reported, None if nobody knows it. `places`: of
        the devices of which the configuration names one.
        """
        self._registry = registry
        self._by: dict[tuple[str, str], list[MarkKey]] = {}
        for key, serial in serials.items():
            names = [("device", key[0]), ("place", places.get(key[0], ""))]
            names += [("serial", serial_key(serial))] if serial else []
            for name in names:
                self._by.setdefault(name, []).append(key)

    def of(self, series: ExpectedSeries, at: float = 0) -> Iterator[MarkKey]:
        """Those that read a meter which measures the series at that time or later."""
        yield from self._by.get(("place", series.place), ())
        for meter in self._registry.meters_of(series.place):
            if meter.channel in {None, series.channel} and (meter.until or at + 1) > at:
                yield from self._by.get(_name(meter), ())


def _name(meter: Installation) -> tuple[str, str]:
    if meter.device is not None:
        return "device", meter.device
    return "serial", serial_key(meter.serial or "")


def _made(every: int, series: ExpectedSeries) -> bool:
    """Whether readings of a period may have given rows of a series (rule P3)."""
    step = series.step
    return step == every or (series.place[:1] == "D" and (step >= DAY or step % every == 0))

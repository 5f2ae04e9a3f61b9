"""Compare a building's meters with its list, a place map, and a switched load. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.core.i18n import Text, joined
from agent.registry.index import Unknown
from agent.registry.records import covers, serial_key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from agent.registry.registry import Registry

MOST = 100
"""names in one list; further ones are only counted"""
TIMES = 2
"""a meter must have moved this many times as much as any other, because neighbours use appliances,
too; and it must have counted this many times its usual quantity, or it may have been a fridge
"""


@dataclass(frozen=True, slots=True)
class Listed:
    """A meter of the list."""

    label: str
    """label of the place that it is to measure"""
    serial: str | None
    device: str | None

    @property
    def name(self) -> str:
        """Its serial number, or else its device name."""
        return self.serial or str(self.device)


@dataclass(frozen=True, slots=True)
class OnTheLine:
    """A device that was asked for its serial number."""

    device: str
    serial: str | None
    """the number that it reports; None: none"""
    channels: frozenset[str]
    why: str = ""
    """why it reports none, for people"""


@dataclass(frozen=True, slots=True)
class Joined:
    """The result; each meter is in exactly one of the first three lists."""

    matched: list[tuple[Listed, OnTheLine]]
    silent: list[tuple[Listed, str]]
    """on the list, but no device reports it; with the reason"""
    unlisted: list[OnTheLine]
    """on a line, but not on the list"""
    doubled: list[str]
    """pairs of meters for the same thing, as sentences"""


def join(listed: Sequence[Listed], on_line: Sequence[OnTheLine]) -> Joined:
    """Match by the serial number that a device reports, or by its name if it reports none."""
    by_serial: dict[str, list[OnTheLine]] = defaultdict(list)
    for answering in on_line:
        if answering.serial is not None:
            by_serial[serial_key(answering.serial)].append(answering)
    by_name = {one.device: one for one in on_line}
    matched: list[tuple[Listed, OnTheLine]] = []
    silent: list[tuple[Listed, str]] = []
    for meter in listed:
        device = _device_of(meter, by_serial, by_name)
        if isinstance(device, str):
            silent.append((meter, device))
        else:
            matched.append((meter, device))
    used = {device.device for _, device in matched}
    # a device that the list names is not unlisted, even if its number differs
    used |= {meter.device for meter in listed if meter.device}
    unlisted = [one for one in on_line if one.device not in used]
    return Joined(matched, silent, unlisted, [*_twins(by_serial), *_two_for_one(matched)])


def _device_of(
    meter: Listed,
    by_serial: Mapping[str, Sequence[OnTheLine]],
    by_name: Mapping[str, OnTheLine],
) -> OnTheLine | str:
    """The device that is this meter, or why there is none."""
    if meter.serial is not None:
        # the number before the name: meters may have been swapped on the line
        says_so = by_serial.get(serial_key(meter.serial), ())
        named = [one for one in says_so if meter.device in (None, one.device)]
        if named:
            return named[0]
        if says_so:
            return Text(
                "{device} reports this number, not {device_2}",
                device=says_so[0].device,
                device_2=meter.device,
            )
    if meter.device is None:
        return Text("no device reports this number")
    return _named(meter, by_name.get(meter.device))


def _named(meter: Listed, device: OnTheLine | None) -> OnTheLine | str:
    if device is None:
        return Text("no device {device} is configured", device=meter.device)
    if device.serial is None and device.why:
        return Text("{device} does not answer: {why}", device=meter.device, why=device.why)
    if meter.serial is not None and device.serial is not None:
        return Text("{device} reports {serial}", device=meter.device, serial=device.serial)
    return device


def _twins(by_serial: Mapping[str, Sequence[OnTheLine]]) -> Iterable[str]:
    for devices in by_serial.values():
        if len(devices) > 1:
            names = joined(Text(" and "), [one.device for one in devices])
            yield Text("{names} both report {serial}", names=names, serial=devices[0].serial)


def _two_for_one(matched: Sequence[tuple[Listed, OnTheLine]]) -> Iterable[str]:
    seen: dict[tuple[str, str], str] = {}
    for meter, device in matched:
        for channel in sorted(device.channels):
            other = seen.setdefault((meter.label, channel), meter.name)
            if other != meter.name:
                yield Text(
                    "{label}: {other} and {name} both measure {channel}",
                    label=meter.label,
                    other=other,
                    name=meter.name,
                    channel=channel,
                )


class Met(NamedTuple):
    """A device on a line."""

    device: str
    serial: str | None
    channels: Collection[str]
    """channels that it measures"""


def mapping(registry: Registry, line: Iterable[Met], now: int) -> dict[str, Any]:
    """How many places have a meter, which dwellings have none, and which meters have no place.

    `line`: the devices that are read and do not belong to common plant.
    """
    mapped = {one.place for one in registry.installations() if covers(one, now)}
    without = [
        one.id for one in registry.places() if one.type == "dwelling" and one.id not in mapped
    ]
    unplaced = [one for one in line if not _placed(registry, one, now)]
    return {
        "mapped": len(mapped),
        "places_without_meter": without[:MOST],
        "meters_without_place": [one.serial or one.device for one in unplaced][:MOST],
        "more": max(0, len(without) - MOST) + max(0, len(unplaced) - MOST),
    }


def _placed(registry: Registry, device: Met, now: int) -> bool:
    owners = (
        registry.whose(device.device, device.serial, channel, now) for channel in device.channels
    )
    return any(not isinstance(whose, Unknown) for whose in owners)


class IndexReading(NamedTuple):
    """A meter's index and when it was read, in seconds."""

    at: float
    value: Decimal


class MoveResult(NamedTuple):
    """Which meter moved, and whether it is the expected one."""

    agrees: bool
    moved: str | None
    """the device that moved most, if it stands out"""
    more: Mapping[str, Decimal]
    """by device: how much more it counted in the second span, in its unit"""


def verdict(
    mine: str, spans: Mapping[str, tuple[IndexReading, IndexReading, IndexReading]]
) -> MoveResult:
    """Whether the dwelling's recorded meter counted what the load used.

    `spans`: by device the three readings; only devices that answered all three times.
    """
    # what runs all the time, such as a fridge, must not count as the load
    usual = {device: _usual(*seen) for device, seen in spans.items()}
    more = {name: loaded.value - still.value - usual[name] for name, (_, still, loaded) in
            spans.items()}  # fmt: skip
    ranked = sorted(more, key=lambda device: more[device], reverse=True)
    first = next(iter(ranked), None)
    second = more[ranked[1]] if len(ranked) > 1 else Decimal(0)
    if first is None or not more[first] > 0:
        return MoveResult(agrees=False, moved=None, more=more)
    # it must stand out from the neighbours, and from its own usual quantity
    if more[first] < max(TIMES * second, (TIMES - 1) * usual[first]):
        return MoveResult(agrees=False, moved=None, more=more)
    return MoveResult(agrees=first == mine, moved=first, more=more)


def _usual(before: IndexReading, still: IndexReading, loaded: IndexReading) -> Decimal:
    """The quantity expected in the second span from that of the first."""
    first, second = Decimal(still.at - before.at), Decimal(loaded.at - still.at)
    return (still.value - before.value) * second / first if first > 0 else loaded.value

"""Compare the list of a building's meters with what its devices report. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.registry.records import serial_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


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
            return f"{says_so[0].device} reports this number, not {meter.device}"
    if meter.device is None:
        return "no device reports this number"
    return _named(meter, by_name.get(meter.device))


def _named(meter: Listed, device: OnTheLine | None) -> OnTheLine | str:
    if device is None:
        return f"no device {meter.device} is configured"
    if device.serial is None and device.why:
        return f"{meter.device} does not answer: {device.why}"
    if meter.serial is not None and device.serial is not None:
        return f"{meter.device} reports {device.serial}"
    return device


def _twins(by_serial: Mapping[str, Sequence[OnTheLine]]) -> Iterable[str]:
    for devices in by_serial.values():
        if len(devices) > 1:
            names = " and ".join(one.device for one in devices)
            yield f"{names} both report {devices[0].serial}"


def _two_for_one(matched: Sequence[tuple[Listed, OnTheLine]]) -> Iterable[str]:
    seen: dict[tuple[str, str], str] = {}
    for meter, device in matched:
        for channel in sorted(device.channels):
            other = seen.setdefault((meter.label, channel), meter.name)
            if other != meter.name:
                yield f"{meter.label}: {other} and {meter.name} both measure {channel}"

"""The configured lines, each with its devices and their poller."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.acquisition.device import Device
from agent.config.config import spacings
from agent.config.problem import nearest
from agent.core.errors import Refused
from agent.core.i18n import Text
from agent.core.log_fields import LogEvent, fields
from agent.drivers import driver
from agent.drivers.link import Link
from agent.registry.matching import Met, mapping
from agent.registry.records import Installation, covers, serial_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from agent.acquisition.poller import Poller
    from agent.config import Config
    from agent.control.model import WriteTarget
    from agent.core.clock import Clock
    from agent.core.model import Sample
    from agent.drivers.base import Reads
    from agent.registry.registry import Registry

log = logging.getLogger(__name__)


@dataclass
class LinkDevices:
    """One line with the devices on it."""

    link: Link
    devices: dict[str, Device]
    poller: Poller | None = None
    """None: no daemon polls the line"""
    proposals: list[str] = field(default_factory=list)
    """new meters that may have replaced a silent one, each as a question"""


class Lines(dict[str, LinkDevices]):
    """The configured lines by name. A reload replaces its content."""

    def devices(self) -> Iterator[Device]:
        """Yield the devices of all lines."""
        return (device for line in self.values() for device in line.devices.values())

    def find(self, name: str) -> tuple[LinkDevices, Device]:
        """Return a configured device with its line. Raises Refused if there is none."""
        for line in self.values():
            if name in line.devices:
                return line, line.devices[name]
        names = sorted(one.name for one in self.devices())
        if other := nearest(name, names):
            raise Refused(
                'no device "{name}" is configured; did you mean "{other}"?', name=name, other=other
            )
        raise Refused(
            'no device "{name}" is configured. Configured devices: {known}',
            name=name,
            known=names[:10] or Text("none"),
        )

    def latest(self, name: str, point: str) -> Sample | None:
        """Return the last sample of a point; None if there is none yet."""
        device = next((one for one in self.devices() if one.name == name), None)
        return device.latest.get(point) if device else None

    def serial(self, name: str) -> str | None:
        """Return the serial number that a device gave; None if it gave none yet."""
        return next((one.serial for one in self.devices() if one.name == name), None)

    def pollers(self) -> list[Poller]:
        """Return the pollers of all lines that are polled."""
        return [line.poller for line in self.values() if line.poller is not None]


def lines_of(config: Config) -> Lines:
    """Return every configured line by name. No line is opened yet."""
    points = config.points()
    lines = Lines(
        (name, LinkDevices(Link(name, *_opening(link), config.zone), {}))
        for name, link in config.links.items()
    )
    spacing = spacings(config.devices, config.links)
    for name, device in config.devices.items():
        target = Device(name, points[name], config.serial_point(name))
        target.spacing = spacing.get(name, 0.0)
        lines[device.link].devices[name] = target
    return lines


def _opening(link: Any) -> tuple[Callable[[], AbstractAsyncContextManager[Reads]], int]:
    """Return how a line is opened, and how many of its devices may be read at once."""
    driver_class = driver(link.driver)
    return partial(driver_class.open, link.settings), getattr(driver_class, "at_once", 1)


def link_to(lines: Lines, config: Config, place: WriteTarget) -> Link | None:
    """Return the configured line of a write target; None if no line has its settings."""
    for name, link in config.links.items():
        if (link.driver, link.settings.model_dump_json()) == (place.driver, place.settings):
            return lines[name].link
    return None


async def read_guards(lines: Lines, config: Config, name: str) -> None:
    """Read the guards and the inhibit of a control now, out of schedule. Raises LinkLost."""
    control = config.controls[name]
    for reference in (*(one.point for one in control.watched), control.inhibit):
        if reference is not None:
            point = config.point(reference)
            line, device = lines.find(point.device)
            await line.link.tried()
            (device.latest[point.name],) = await line.link.read([point])


def label_of(device: Device, registry: Registry, now: int) -> str | None:
    """Return the label of the place that a device measures now; None if none is recorded."""
    for point in device.points:
        place = point.place
        if place is None and point.channel is not None:
            installation = registry.whose(device.name, device.serial, point.channel, now)
            place = installation.place if isinstance(installation, Installation) else None
        if place is not None:
            return registry.label(place) or place
    return None


def occupied(
    lines: Lines, registry: Registry, now: int, occupancy: str, device: str
) -> tuple[float, float] | None:
    """Return since when and until when an occupancy lasts, in Unix seconds.

    None if it is not recorded, or if the device is in another dwelling.
    """
    home = next((one for one in registry.occupancies() if one.id == occupancy), None)
    if home is None:
        return None
    serial = lines.serial(device)
    key = serial_key(serial) if serial else None
    dwellings = {
        one.place
        for one in registry.installations()
        if one.place[0] == "D"
        and covers(one, now)
        and (one.device == device or (key and one.serial and serial_key(one.serial) == key))
    }
    if dwellings and home.place not in dwellings:
        return None
    return home.since, math.inf if home.until is None else home.until


def mapped(lines: Lines, registry: Registry, now: int) -> dict[str, Any]:
    """Compare the places and meters of the registry with the devices on the lines."""
    met = [
        Met(one.name, one.serial, {point.channel for point in one.points if point.channel})
        for one in lines.devices()
        if not any(point.place for point in one.points)
    ]
    return mapping(registry, met, now)


def record_serials(lines: Lines, registry: Registry, now: float) -> None:
    """Bind installations that name only a device to the serial number that it gave already."""
    serials = {one.name: one.serial for one in lines.devices() if one.serial}
    try:
        pinned, refused = registry.pin_all(serials, "gardien", "devices said so", now)
    except Refused as error:
        log.error(  # noqa: TRY400 -- no bug
            "the serial numbers of devices could not be recorded: %s", error,
            extra=fields(LogEvent.RECORD_NOT_WRITTEN),
        )  # fmt: skip
        return
    for meter in pinned:
        _log_identified(meter.device or "", meter.serial)
    for device, why in refused.items():
        _log_mismatch(device, serials[device], why)


def record_serial(registry: Registry, clock: Clock, device: str, serial: str) -> None:
    """Bind installations that name only this device to the serial number that it gives."""
    try:
        pinned = registry.pin(device, serial, "gardien", f"{device} said so", clock.now())
    except Refused as error:
        _log_mismatch(device, serial, error)
        return
    if pinned:
        _log_identified(device, serial)


def _log_identified(device: str, serial: str | None) -> None:
    log.info(
        "the device %s is now recorded as meter %s", device, serial,
        extra=fields(LogEvent.METER_IDENTIFIED, device=device),
    )  # fmt: skip


def _log_mismatch(device: str, serial: str, why: object) -> None:
    log.error(
        "the device %s gives the serial number %s: %s", device, serial, why,
        extra=fields(LogEvent.METER_MISMATCH, device=device),
    )  # fmt: skip

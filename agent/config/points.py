"""The points of a device, from its profile and from the configuration."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from agent.config.models import PointOptions
from agent.core.channels import channel_of_quantity, channels
from agent.core.model import Point
from agent.drivers.watchdog import DeviceWatchdog

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.config.models import DeviceConfig
    from agent.drivers.profile import Profile


def wanted(device: DeviceConfig) -> Mapping[str, PointOptions]:
    """The points that are read, by name; options in the file override those of the profile."""
    known = device.made
    names = [*(known.defaults if known else ()), *device.points]
    return {name: _merged(name, device, known) for name in dict.fromkeys(names)}


def _merged(name: str, device: DeviceConfig, known: Profile | None) -> PointOptions:
    written = device.points.get(name, PointOptions())
    if known is None or name not in known.points:
        return written
    offer = known.points[name]
    from_profile = {
        "at": offer.at,
        "channel": channel_of_quantity().get(name),
        "unit": offer.unit,
        "scale": offer.scale,
        "rating": offer.rating,
        "rolls_at": offer.rolls_at,
    }
    # an option that is not written is None here, and must not hide that of the profile
    over = {key: value for key, value in dict(written).items() if value is not None}
    return PointOptions.model_construct(**(dict(written) | from_profile | over))


def point(device_name: str, device: DeviceConfig, name: str, options: PointOptions) -> Point:
    """The point for drivers. `options.at` must be set."""
    channel = channels().get(options.channel or "")
    return Point(
        device=device_name,
        name=name,
        address=device.address,
        at=options.at or "",
        every=int(options.every or device.every),
        channel=options.channel,
        unit=options.unit or (channel.unit if channel else "1"),
        scale=Decimal(1) if options.scale is None else options.scale,
        place=device.place,
        rating=options.rating,
        rolls_at=options.rolls_at,
        writable=options.writable,
    )


def derived(index: Point) -> Point:
    """The point for the consumption in each step of an index; it is calculated, not read."""
    unit = channels()[str(index.channel)].unit
    name = f"{index.name}-interval"
    return replace(
        index, name=name, at="", unit=unit, scale=Decimal(1), derived=True, of=index.name
    )


def mean(source: Point, step: float) -> Point:
    """The point for the mean of a momentary value over each step; it is calculated, not read."""
    flow = derived(source)
    return replace(flow, name=f"{source.name}-mean", every=int(step), writable=False)


def watchdog(device_name: str, device: DeviceConfig) -> DeviceWatchdog | None:
    """The watchdog in the device's profile; None: it has none."""
    known = device.made
    if known is None or known.watchdog is None:
        return None
    watchdog_point, fallback = (
        replace(point(device_name, device, name, _merged(name, device, known)), writable=True)
        for name in (known.watchdog.point, known.watchdog.fallback)
    )
    return DeviceWatchdog(watchdog_point, Decimal(known.watchdog.timeout), fallback)


def serial_point(device_name: str, device: DeviceConfig) -> Point | None:
    """The point with the serial number of the device; None: its profile has none."""
    known = device.made
    if known is None or known.serial is None:
        return None
    return Point(device_name, "serial", device.address, known.serial.at, every=0)

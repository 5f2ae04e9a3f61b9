"""The definitions of all controls: their modality, their point, and how they are released."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from agent.control.model import ConfiguredControl, WatchdogTarget, WriteTarget, split
from agent.drivers import family

if TYPE_CHECKING:
    from agent.config.config import Config
    from agent.control.settings import Control
    from agent.core.model import Point


def fits(config: Config) -> dict[str, ConfiguredControl]:
    """The definition of each control, by name."""
    return {name: _fitted(config, name) for name in config.controls}


def place(config: Config, reference: str) -> WriteTarget:
    """The target of a point, DEVICE/POINT."""
    return _place(config, config.point(reference))


def _place(config: Config, point: Point) -> WriteTarget:
    device = config.devices[point.device]
    link = config.links[device.link]
    # copied, not referred to: a hold may be released after its line left the file (rule H20)
    serial = config.serial_point(point.device)
    return WriteTarget(
        link=device.link,
        driver=link.driver,
        settings=link.settings.model_dump_json(),
        device=point.device,
        point=point.name,
        address=point.address,
        at=point.at,
        unit=point.unit,
        scale=str(point.scale),
        serial=serial.at if serial else "",
    )


def slots(config: Config, where: WriteTarget) -> tuple[int | None, int | None]:
    """Our BACnet priorities for ordinary and for emergency orders; None: a register has none."""
    if family(where.driver) != "bacnet":
        return (None, None)
    ordinary, emergency = config.links[where.link].settings.slots.ours
    return ordinary, emergency


def _fitted(config: Config, name: str) -> ConfiguredControl:
    control = config.controls[name]
    where = place(config, control.point)
    ours = slots(config, where)
    restore = control.restore if isinstance(control.restore, Decimal) else None
    # Earlier versions called WriteTarget `Place`. With another text, each control that was tested
    # before an upgrade would count as untested, and refuse every order.
    target = str(where).replace("WriteTarget(", "Place(", 1)
    speaks_for = f"{target}{ours}{control.restore}{control.device_watchdog}"
    return ConfiguredControl(
        modality=config.modality(name),
        place=where,
        slots=ours,
        restore=restore,
        fingerprint=hashlib.sha256(speaks_for.encode()).hexdigest()[:16],
        fallback=control.device_watchdog.fallback,
        watchdog=_watchdog(config, control),
        shown=_shown(config, control),
    )


def _shown(config: Config, control: Control) -> dict[str, WriteTarget]:
    """The points that show the operator what is held, by what they show."""
    targets = {word: place(config, point) for word, point in control.shown if point}
    if control.device_watchdog.heartbeat:
        targets["heartbeat"] = place(config, control.device_watchdog.heartbeat)
    return targets


def _watchdog(config: Config, control: Control) -> WatchdogTarget | None:
    """The device's own watchdog, from the control or from the device's profile; None: neither has
    one.
    """
    options = control.device_watchdog
    if options.of_profile:
        own = config.watchdog(split(control.point)[0])
        assert own is not None, "the check refuses a profile without one"
        return WatchdogTarget(
            _place(config, own.point), own.timeout, own.pause, _place(config, own.fallback)
        )
    if options.point is None or options.timeout is None:
        return None
    at = place(config, options.point)
    known = config.watchdog(at.device)
    fallback = None
    if known is not None and known.point.name == at.point:
        held, unit = known.fallback, known.fallback.unit
        fallback = replace(at, point=held.name, at=held.at, unit=unit, scale=str(held.scale))
    return WatchdogTarget(at, Decimal(str(options.timeout)), options.timeout / 2, fallback)

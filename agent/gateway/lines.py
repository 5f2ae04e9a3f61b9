"""The configured lines, each with its devices and their poller."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.acquisition.device import Device
from agent.config.config import spacings
from agent.drivers import driver
from agent.drivers.link import Link

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from agent.acquisition.poller import Poller
    from agent.config import Config
    from agent.drivers.base import Reads


@dataclass
class LinkDevices:
    """One line with the devices on it."""

    link: Link
    devices: dict[str, Device]
    poller: Poller | None = None
    """None: no daemon polls the line"""


def lines_of(config: Config) -> dict[str, LinkDevices]:
    """Return every configured line by name. No line is opened yet."""
    points = config.points()
    lines = {
        name: LinkDevices(Link(name, *_opening(link), config.zone), {})
        for name, link in config.links.items()
    }
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

"""Limits on the readings a day of meters that run on a battery."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING

from agent.drivers import driver
from agent.drivers.base import Stations

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agent.config.models import DeviceConfig, LinkConfig

DAY = 86_400


def batteries(
    devices: Mapping[str, DeviceConfig], links: Mapping[str, LinkConfig]
) -> Iterator[tuple[Sequence[str], int]]:
    """The names of the devices on each battery, with the readings a day that it allows.

    The inputs of a pulse collector share one battery, so they come together.
    """
    together: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, device in devices.items():
        together[device.link, _station(device, links)].append(name)
    for names in together.values():
        if most := _most([devices[name] for name in names]):
            yield names, most


def spacings(
    devices: Mapping[str, DeviceConfig], links: Mapping[str, LinkConfig]
) -> dict[str, float]:
    """The least time between two readings of a device in seconds, by its name."""
    # the devices on one battery get equal parts of its readings
    return {
        name: DAY * len(names) / most for names, most in batteries(devices, links) for name in names
    }


def _station(device: DeviceConfig, links: Mapping[str, LinkConfig]) -> str:
    link = links.get(device.link)
    with suppress(ValueError):  # an invalid address: pointcheck reports it
        if link and issubclass(kind := driver(link.driver), Stations):
            return kind.station(device.address)
    return device.address


def _most(devices: Sequence[DeviceConfig]) -> int | None:
    """The readings a day of one battery; None: no limit.

    `reads_a_day` in the configuration comes before that of profiles. The lowest one counts.
    """
    configured = [one.reads_a_day for one in devices if one.reads_a_day]
    from_profiles = [one.made.reads_a_day for one in devices if one.made and one.made.reads_a_day]
    return min(configured or from_profiles, default=None)

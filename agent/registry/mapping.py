"""How places and meters of a building match: the answer to a place map (rule I24). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from agent.registry.index import Unknown
from agent.registry.records import covers

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from agent.registry.registry import Registry

MOST = 100
"""names in one list; further ones are only counted"""


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

"""The sums over dwellings that are configured for each recipient."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.acquisition.sums import ConfiguredSums
from agent.registry.aggregate import STEPS

if TYPE_CHECKING:
    from agent.config.config import Config
    from agent.core.model import Point

DEMO = "DEMO-1"
"""the policy under which sums are as fine as what is read: for loopback only"""


def sums_asked(config: Config, uplink: str) -> ConfiguredSums:
    """The sums over dwellings for one uplink: of channels for which the building has no meter."""
    points = [point for group in config.points().values() for point in group if not point.derived]
    own = [point for point in points if point.place is not None and point.place[0] == "B"]
    whole = {point.channel for point in own}
    read: dict[str, list[Point]] = {}
    for point in points:
        if point.place is None and point.channel in config.uplinks[uplink].sums:
            read.setdefault(str(point.channel), []).append(point)
    place, demo = config.building.place, config.privacy.policy == DEMO
    return ConfiguredSums(
        place or "",
        {channel: found for channel, found in read.items() if place and channel not in whole},
        config.privacy.fewest,
        config.zone,
        1 if demo else None,
        config.uplinks[uplink].withheld,
        tuple(point for point in own if point.channel in STEPS),
    )

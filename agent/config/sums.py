"""The sums over dwellings that each recipient is to have, as the file says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.pipeline.sums import ConfiguredSums
from agent.registry.aggregate import STEPS

if TYPE_CHECKING:
    from agent.config.config import Config
    from agent.model import Point

DEMO = "DEMO-1"
"""the policy under which sums are as fine as what is read: for loopback only"""


def sums_asked(config: Config, uplink: str) -> ConfiguredSums:
    """The sums over dwellings that a recipient is to have: of what the building has no meter of its
    own for.
    """
    points = [one for group in config.points().values() for one in group if not one.derived]
    own = [one for one in points if one.place is not None and one.place[0] == "B"]
    whole = {one.channel for one in own}
    read: dict[str, list[Point]] = {}
    for one in points:
        if one.place is None and one.channel in config.uplinks[uplink].sums:
            read.setdefault(str(one.channel), []).append(one)
    place, demo = config.building.place, config.privacy.policy == DEMO
    return ConfiguredSums(
        place or "",
        {channel: found for channel, found in read.items() if place and channel not in whole},
        config.privacy.fewest,
        config.zone,
        1 if demo else None,
        config.uplinks[uplink].withheld,
        tuple(one for one in own if one.channel in STEPS),
    )

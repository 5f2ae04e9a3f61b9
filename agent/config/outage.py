"""Estimate how long an outage the spools can bridge with this schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.buffer.outage_estimate import WANTED, DailyLoad, days, enough
from agent.core.channels import channels
from agent.core.i18n import _
from agent.core.settings import written_size
from agent.registry.consent_policy import FLOORS

if TYPE_CHECKING:
    from agent.config.config import Config

DAY, YEAR = 86_400, 365


def load(config: Config) -> DailyLoad:
    """What one recipient's spool stores in a day if every row may be sent."""
    floor = FLOORS[config.privacy.policy]
    kept = [
        point
        for points in config.points().values()
        for point in points
        if point.channel and (point.place is not None or point.every >= floor)
        if not channels()[point.channel].at_changes
    ]
    # each device may be in a dwelling of its own; common plant counts as one place
    of_dwellings = {point.device for point in kept if point.place is None}
    common = any(point.place is not None for point in kept)
    return DailyLoad(sum(DAY // point.every for point in kept), len(of_dwellings) + common)


def left(config: Config, waiting: int) -> int | None:
    """Whole days of outage until one recipient's spool is full; `waiting`: rows that wait there.

    None: nothing is ever stored.
    """
    lasts = days(config.spool.max, load(config), waiting)
    return None if lasts is None else int(lasts)


def outage(config: Config) -> list[str]:
    """Lines on how long an outage may last before readings are deleted for space."""
    lasts = left(config, 0)
    if lasts is None or not config.uplinks:
        return []
    if lasts >= YEAR:
        return [_("an outage of over a year loses no readings")]
    if lasts >= WANTED:
        return [_("an outage of about {days} days loses no readings", days=lasts)]
    return [
        _(
            "! an outage of more than about {days} days loses readings; recommended: {wanted}",
            days=lasts,
            wanted=WANTED,
        ),
        _(
            "  write `max: {size}` under `spool`, or read less often",
            size=written_size(enough(load(config))),
        ),
    ]

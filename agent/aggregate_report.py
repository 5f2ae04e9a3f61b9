"""What sums over dwellings each recipient gets, of whom, or why none, for the people concerned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.pipeline.groups import Groups, file_of
from agent.pipeline.sums import Sums
from agent.pipeline.timetable import following, running_slot
from agent.registry.aggregate import Group, formed, sent_alone
from agent.registry.dates import MONTH
from agent.registry.letter import AggregateEntry

if TYPE_CHECKING:
    from agent.gateway import Gateway

OWN_METER = "the building has a meter of its own for it: that total is sent instead"
FEW_DWELLINGS = "there are fewer than {fewest} dwellings"
NOT_READ = "nothing of it is read in a dwelling"
FEW = "{count} of these dwellings count, fewer than {fewest}: nothing is sent"
SENT = "where at least {fewest} of them count"


def summed(house: Gateway, t: int) -> list[AggregateEntry]:
    """Every sum that is configured, as it stands at t by what is known now; of a month whose group
    is not fixed yet, as it would be.
    """
    return [
        _one(house, name, channel, t)
        for name, uplink in house.config.uplinks.items()
        for channel in uplink.sums
    ]


def _one(house: Gateway, uplink: str, channel: str, t: int) -> AggregateEntry:
    asked, registry = house.sums_asked()[uplink], house.registry
    recipient, outlet = str(house.config.uplinks[uplink].settings.recipient), None
    outlet = house.outlets.get(uplink)
    if (none := _none(house, uplink, channel)) is not None:
        return AggregateEntry(recipient, channel, None, none)
    sums = outlet.sums if outlet else _sums(house, recipient)
    group = next((one for one in sums.groups.of(channel) if one.since <= t < one.until), None)
    fixed = group is not None
    if group is None:
        since = running_slot(MONTH, t, asked.zone)
        until = following(since, MONTH, asked.zone)
        measured = sums.measured(asked, channel, t)
        now = formed(registry, measured, channel, t, until, recipient)
        group = Group(since, until, now.members)
    counts = sum(
        registry.occupancy_at(place, t) is not None
        and not sent_alone(registry, place, channel, group.since if fixed else t, t, recipient)
        for place in group.members
    )
    words = FEW if counts < asked.fewest else SENT
    why = words.format(count=counts, fewest=asked.fewest)
    last = sums.last_closed.get(channel) if fixed else None
    return AggregateEntry(
        recipient,
        channel,
        asked.steps()[channel] if counts >= asked.fewest else None,
        why,
        group.since,
        group.until,
        tuple(sorted(group.members)),
        counts,
        last[0] if last else None,
        last[1] if last else None,
    )


def _none(house: Gateway, uplink: str, channel: str) -> str | None:
    """Why there is no such sum at all; None: there is one."""
    asked = house.sums_asked()[uplink]
    if channel not in asked.points:
        own = any(one.channel == channel for one in asked.whole)
        return OWN_METER if own else NOT_READ
    if len(house.registry.dwellings()) < asked.fewest:
        return FEW_DWELLINGS.format(fewest=asked.fewest)
    return None


def _sums(house: Gateway, recipient: str) -> Sums:
    """Where no daemon runs: what it has left on the disk."""
    groups = Groups(file_of(house.config.state, recipient))
    return Sums(house.registry, recipient, groups, house.indexes, {}, house.serial)

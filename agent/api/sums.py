"""Explain which sums over dwellings each recipient gets, over whom, or why it gets none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.acquisition.sums import Groups, Sums, groups_file
from agent.acquisition.timetable import following, running_slot
from agent.registry.aggregate import Group, formed, sent_alone
from agent.registry.dates import MONTH
from agent.registry.letter import AggregateEntry

if TYPE_CHECKING:
    from agent.gateway.gateway import Gateway

OWN_METER = "the building has its own meter for this quantity, and its total is sent instead"
FEW_DWELLINGS = "there are fewer than {fewest} dwellings"
NOT_READ = "no dwelling has a meter for this quantity"
FEW = "{count} of these dwellings count, fewer than {fewest}: nothing is sent"
SENT = "where at least {fewest} of them count"


def aggregate_entries(gateway: Gateway, t: int) -> list[AggregateEntry]:
    """Describe every configured sum at time t (Unix seconds), as far as the registry knows now.

    Where the group of that month is not fixed yet, the group is formed as it would be now.
    """
    return [
        _entry(gateway, name, channel, t)
        for name, uplink in gateway.config.uplinks.items()
        for channel in uplink.sums
    ]


def _entry(gateway: Gateway, uplink: str, channel: str, t: int) -> AggregateEntry:
    sums_config, registry = gateway.sums.configured(gateway.config)[uplink], gateway.registry
    recipient_id, recipient = str(gateway.config.uplinks[uplink].settings.recipient), None
    recipient = gateway.recipients.get(uplink)
    if (absence := _absence_reason(gateway, uplink, channel)) is not None:
        return AggregateEntry(recipient_id, channel, None, absence)
    sums = recipient.sums if recipient else _stored_sums(gateway, recipient_id)
    group = next((one for one in sums.groups.of(channel) if one.since <= t < one.until), None)
    fixed = group is not None
    # If the group of this month is not stored yet, show the one that would be formed now. Do not
    # store it: a report must not decide who is in the group.
    if group is None:
        since = running_slot(MONTH, t, sums_config.zone)
        until = following(since, MONTH, sums_config.zone)
        measured = sums.measured(sums_config, channel, t)
        now = formed(registry, measured, channel, t, until, recipient_id)
        group = Group(since, until, now.members)
    counts = sum(
        registry.occupancy_at(place, t) is not None
        and not sent_alone(registry, place, channel, group.since if fixed else t, t, recipient_id)
        for place in group.members
    )
    template = FEW if counts < sums_config.fewest else SENT
    why = template.format(count=counts, fewest=sums_config.fewest)
    last_sum = sums.last_closed.get(channel) if fixed else None
    return AggregateEntry(
        recipient_id,
        channel,
        sums_config.steps()[channel] if counts >= sums_config.fewest else None,
        why,
        group.since,
        group.until,
        tuple(sorted(group.members)),
        counts,
        last_sum[0] if last_sum else None,
        last_sum[1] if last_sum else None,
    )


def _absence_reason(gateway: Gateway, uplink: str, channel: str) -> str | None:
    """Say why a configured sum is never made; None if it is made."""
    sums_config = gateway.sums.configured(gateway.config)[uplink]
    if channel not in sums_config.points:
        own = any(one.channel == channel for one in sums_config.whole)
        return OWN_METER if own else NOT_READ
    if len(gateway.registry.dwellings()) < sums_config.fewest:
        return FEW_DWELLINGS.format(fewest=sums_config.fewest)
    return None


def _stored_sums(gateway: Gateway, recipient: str) -> Sums:
    """Load the groups that a daemon stored, for a call that runs without a daemon."""
    groups = Groups(groups_file(gateway.config.state, recipient))
    return Sums(gateway.registry, recipient, groups, gateway.sums.indexes, {}, gateway.lines.serial)

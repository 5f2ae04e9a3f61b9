"""The quantity at a place between two indexes, across an exchange of meters. Pure.

(closing − last) + … + (now − opening): rule M7. If nobody read the closing index, the old meter's
last good reading is used, and the sum is an estimate.
"""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from agent.registry.records import EXACT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.registry.records import Installation

FOREVER = 1 << 62


class ShownIndex(NamedTuple):
    """What a meter showed at an instant, as it shows it, before any multiplier."""

    t: int
    value: Decimal


class Forgotten(NamedTuple):
    """An index at this instant was known before a restart, and is lost."""

    t: int
    value: None = None


class Flow(NamedTuple):
    """The quantity at a place between two readings."""

    quantity: Decimal
    exchanged: bool
    """whether more than one meter measured it (flag EXCH)"""
    estimated: bool
    """whether a closing or opening index was missing (quality E)"""


def flow(
    meters: Sequence[Installation], channel: str, last: ShownIndex | Forgotten, now: ShownIndex
) -> Flow | None:
    """The quantity between two good readings of a place; None if no meter measured for some time,
    an index fell, or an index that counts is lost.

    `meters`: all that ever measured the place, in order. Without a closing index nothing is counted
    after the meter's `last` reading; without an opening index nothing is counted for that meter.
    """
    chain = meters_between(meters, channel, last.t, now.t)
    if not chain or chain[0].since > last.t:
        return None
    total, estimated = Decimal(0), False
    for meter, following in zip(chain, [*chain[1:], None], strict=True):
        if following is not None and meter.until != following.since:
            return None
        begins = last.value if meter is chain[0] else dict(meter.opened).get(channel)
        ends = now.value if following is None else dict(meter.closed).get(channel)
        if meter is chain[0] and begins is None and ends is not None:
            return None  # the index at `last` is forgotten, so its part cannot be computed
        if begins is None or ends is None:
            estimated = True
        elif ends < begins:
            return None
        else:
            shown = EXACT.subtract(ends, begins)
            total = EXACT.add(total, EXACT.multiply(shown, meter.multiplier))
    return Flow(total, len(chain) > 1, estimated)


def succession(meter: Installation, meters: Sequence[Installation]) -> list[Installation]:
    """A meter with its predecessors and successors, in order of time.

    `meters`: all that ever measured the place. Two meters that measured at the same time do not
    succeed each other: a dwelling's electricity meter and heat meter, for example, even if both are
    recorded for all channels.
    """
    chain = [meter]
    # meters of the same device, then of the same channel, are the likelier successors
    for other in sorted(meters, key=partial(_distance, meter)):
        if not any(_together(other, member) for member in chain):
            chain.append(other)
    return sorted(chain, key=lambda member: member.since)


def _distance(first: Installation, second: Installation) -> tuple[bool, bool]:
    return second.device != first.device, second.channel != first.channel


def _together(first: Installation, second: Installation) -> bool:
    ends = (first.until or FOREVER, second.until or FOREVER)
    return first == second or (first.since < ends[1] and second.since < ends[0])


def meters_between(
    meters: Sequence[Installation], channel: str, start: int, end: int
) -> list[Installation]:
    """Meters that measured the channel after `start` and up to `end`; a meter installed exactly at
    `end` counts with its opening index.
    """
    return [
        one
        for one in meters
        if one.channel in (None, channel)
        and one.since <= end
        and one.since != one.until
        and (one.until is None or one.until > start)
    ]

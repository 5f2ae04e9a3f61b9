"""What flowed at a place between two indexes, though another meter was put in between. Pure.

(closing − last) + … + (now − opening): rule M7. Where nobody read the closing index the old
meter's last good reading stands for it, and the sum is an estimate.
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
    """What a meter showed at an instant, in its own digits, before any multiplier."""

    t: int
    value: Decimal


class Forgotten(NamedTuple):
    """What a meter showed at an instant was known before a restart, and is not any more."""

    t: int
    value: None = None


class Flow(NamedTuple):
    """What flowed at the place."""

    quantity: Decimal
    exchanged: bool
    """whether more than one meter measured it (flag EXCH)"""
    estimated: bool
    """whether a closing or opening index had to be guessed (quality E)"""


def flow(
    meters: Sequence[Installation], channel: str, last: ShownIndex | Forgotten, now: ShownIndex
) -> Flow | None:
    """What flowed between two good readings of a place; None where no meter measured for a while,
    an index fell, or one that counts is forgotten.

    `meters`: all that ever measured the place, in order. Of a meter whose closing index nobody
    read nothing is counted after `last`, of one whose opening index nobody read nothing at all.
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
            return None
        if begins is None or ends is None:
            estimated = True
        elif ends < begins:
            return None
        else:
            shown = EXACT.subtract(ends, begins)
            total = EXACT.add(total, EXACT.multiply(shown, meter.multiplier))
    return Flow(total, len(chain) > 1, estimated)


def succession(meter: Installation, meters: Sequence[Installation]) -> list[Installation]:
    """The meter that measures now, and in order those whose place it took or that took its place.

    `meters`: all that ever measured the place. Of two that measured at the same time neither is the
    other's successor: a dwelling's electricity meter stands beside its heat meter, though both are
    recorded for all their channels.
    """
    chain = [meter]
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
    """Those that measured something of it after `start` and up to `end`; of a meter put in at the
    very instant `end`, its opening index.
    """
    return [
        one
        for one in meters
        if one.channel in (None, channel)
        and one.since <= end
        and one.since != one.until
        and (one.until is None or one.until > start)
    ]

"""Which meter a switched load moves, from three readings: before, after a while without the load,
after a while with it. Pure.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMES = 2
"""a meter must have moved this many times as much as any other, because neighbours use appliances,
too; and it must have counted this many times its usual quantity, or it may have been a fridge
"""


class IndexReading(NamedTuple):
    """A meter's index and when it was read, in seconds."""

    at: float
    value: Decimal


class MoveResult(NamedTuple):
    """Which meter moved, and whether it is the expected one."""

    agrees: bool
    moved: str | None
    """the device that moved most, if it stands out"""
    more: Mapping[str, Decimal]
    """by device: how much more it counted in the second span, in its unit"""


def verdict(
    mine: str, spans: Mapping[str, tuple[IndexReading, IndexReading, IndexReading]]
) -> MoveResult:
    """Whether the dwelling's recorded meter counted what the load used.

    `spans`: by device the three readings; only devices that answered all three times.
    """
    # what runs all the time, such as a fridge, must not count as the load
    usual = {device: _usual(*seen) for device, seen in spans.items()}
    more = {name: loaded.value - still.value - usual[name] for name, (_, still, loaded) in
            spans.items()}  # fmt: skip
    ranked = sorted(more, key=lambda device: more[device], reverse=True)
    first = next(iter(ranked), None)
    second = more[ranked[1]] if len(ranked) > 1 else Decimal(0)
    if first is None or not more[first] > 0:
        return MoveResult(agrees=False, moved=None, more=more)
    # it must stand out from the neighbours, and from its own usual quantity
    if more[first] < max(TIMES * second, (TIMES - 1) * usual[first]):
        return MoveResult(agrees=False, moved=None, more=more)
    return MoveResult(agrees=first == mine, moved=first, more=more)


def _usual(before: IndexReading, still: IndexReading, loaded: IndexReading) -> Decimal:
    """The quantity expected in the second span from that of the first."""
    first, second = Decimal(still.at - before.at), Decimal(loaded.at - still.at)
    return (still.value - before.value) * second / first if first > 0 else loaded.value

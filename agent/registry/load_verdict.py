"""Which meter a load moves: read before, after a while as it was, after a while with it. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMES = 2
"""by how much a meter must have moved more than any other, for neighbours switch things on, too;
and it must have counted at least twice what it would have, or it was the fridge
"""


class IndexReading(NamedTuple):
    """What one meter's index showed, and when, in seconds."""

    at: float
    value: Decimal


class MoveResult(NamedTuple):
    """Which meter moved."""

    agrees: bool
    moved: str | None
    """the device that moved most, if one stands out"""
    more: Mapping[str, Decimal]
    """by device: what it counted more in the second span, in its unit"""


def verdict(
    mine: str, spans: Mapping[str, tuple[IndexReading, IndexReading, IndexReading]]
) -> MoveResult:
    """Whether the meter that is said to be the dwelling's counted what the load drew.

    `spans`: of each device the three readings; only those that answered all three times.
    """
    usual = {device: _usual(*seen) for device, seen in spans.items()}
    more = {name: loaded.value - still.value - usual[name] for name, (_, still, loaded) in
            spans.items()}  # fmt: skip
    ranked = sorted(more, key=lambda device: more[device], reverse=True)
    first = next(iter(ranked), None)
    second = more[ranked[1]] if len(ranked) > 1 else Decimal(0)
    if first is None or not more[first] > 0:
        return MoveResult(agrees=False, moved=None, more=more)
    if more[first] < max(TIMES * second, (TIMES - 1) * usual[first]):
        return MoveResult(agrees=False, moved=None, more=more)
    return MoveResult(agrees=first == mine, moved=first, more=more)


def _usual(before: IndexReading, still: IndexReading, loaded: IndexReading) -> Decimal:
    """What the first span would make one expect of the second."""
    first, second = Decimal(still.at - before.at), Decimal(loaded.at - still.at)
    return (still.value - before.value) * second / first if first > 0 else loaded.value

"""From the points of one device to the fewest blocks that read them.

A request costs more than the registers it carries, so neighbours share one; but never across a
hole wider than HOLE, nor across a boundary at which the device refused a block before.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.drivers.modbus.codec import Spot

HOLE = 40
"""registers or bits that nobody asked for, at most, between two that are read in one block: 80 B,
which on Ethernet cost less than a request; what the SDM120's map needs for one block of its 0…79"""

LONGEST = {"coil": 2000, "discrete": 2000, "holding": 125, "input": 125}
"""cells in one answer (Modbus Application Protocol V1.1b3, 6.1 to 6.4)"""

Cut = tuple[str, int]
"""table and address: no block holds both a value that begins before it and one that begins at it
or after
"""


@dataclass(frozen=True, slots=True)
class Block:
    """One request, and which of the points it answers."""

    table: str
    start: int
    count: int
    points: tuple[int, ...]
    """indexes into the spots it was planned from, by address"""


@lru_cache(maxsize=1024)
def plan(
    spots: tuple[Spot, ...], cuts: frozenset[Cut] = frozenset(), hole: int = HOLE
) -> tuple[Block, ...]:
    """Cover every spot whole, exactly once, by the fewest blocks. Pure.

    Taking them by address and breaking only where one must is the fewest: what begins later
    never fits an earlier block that its predecessor did not fit, unless it lies inside the next.
    """
    groups: list[list[int]] = []
    for index in sorted(range(len(spots)), key=lambda i: (spots[i].table, spots[i].start)):
        if groups and _fits(spots, groups[-1], spots[index], cuts, hole):
            groups[-1].append(index)
        else:
            groups.append([index])
    return tuple(block(spots, group) for group in groups)


def block(spots: tuple[Spot, ...], group: list[int]) -> Block:
    """Make the one block that reads a group of spots of one table, ordered by address."""
    first = spots[group[0]]
    end = max(spots[i].end for i in group)
    return Block(first.table, first.start, end - first.start, tuple(group))


def _fits(
    spots: tuple[Spot, ...], group: list[int], spot: Spot, cuts: frozenset[Cut], hole: int
) -> bool:
    first, end = spots[group[0]], max(spots[i].end for i in group)
    return (
        spot.table == first.table
        and spot.start - end <= hole
        and max(end, spot.end) - first.start <= LONGEST[spot.table]
        and not any(t == spot.table and first.start < cut <= spot.start for t, cut in cuts)
    )


def cut(spots: tuple[Spot, ...], refused: Block) -> Cut:
    """Where to divide a block of several spots that the device refused: at its widest hole, for
    that is what devices refuse, else in the middle. All its spots on one address: behind them.
    """
    starts = [spots[i].start for i in refused.points]
    ends = [spots[i].end for i in refused.points]
    middle = len(starts) / 2
    places = [i for i in range(1, len(starts)) if starts[i] > starts[i - 1]]
    best = max(
        places,
        key=lambda i: (max(0, starts[i] - max(ends[:i])), -abs(i - middle)),
    )
    return refused.table, starts[best]

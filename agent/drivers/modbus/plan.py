"""From the points of one device to the blocks that read them in the least time.

What a request costs and what a register costs differ from line to line; so neighbours share a
block, and a hole between them is read along, only where that is cheaper than another request; and
never across a boundary at which the device refused a block before.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.drivers.modbus.codec import RegisterRange

LONGEST = {"coil": 2000, "discrete": 2000, "holding": 125, "input": 125}
"""cells in one answer (Modbus Application Protocol V1.1b3, 6.1 to 6.4)"""
LONGEST_OF = {1: 2000, 2: 2000, 3: 125, 4: 125}
"""the same by function"""
BITS = frozenset({"coil", "discrete"})

Cut = tuple[str, int]
"""table and address: no block holds both a value that begins before it and one that begins at it
or after
"""


@dataclass(frozen=True, slots=True)
class Tariff:
    """What this line and device cost, in any one unit, and what a device allows at once."""

    request: float = 10_000.0
    register: float = 1.0
    """on Ethernet a register is 0.2 µs and a request some milliseconds: the fewest are best"""
    most: int = 125
    """registers in one answer"""

    def cost(self, table: str, count: int) -> float:
        """Of one request for so many cells."""
        return self.request + self.register * (count / 16 if table in BITS else count)


NETWORK = Tariff()


@dataclass(frozen=True, slots=True)
class ReadBlock:
    """One request, and which of the points it answers."""

    table: str
    start: int
    count: int
    points: tuple[int, ...] = ()
    """indexes into the spots it was planned from, by address"""


@lru_cache(maxsize=1024)
def plan(
    spots: tuple[RegisterRange, ...], cuts: frozenset[Cut] = frozenset(), tariff: Tariff = NETWORK
) -> tuple[ReadBlock, ...]:
    """Cover every spot whole, exactly once, by the cheapest blocks; of equal ones, the fewest.

    Pure. Only runs of neighbours by address need be tried: a spot that begins inside a later block
    and does not fit it holds that block's spots before it, which then are cheaper with it.
    """
    order = sorted(range(len(spots)), key=lambda i: (spots[i].table, spots[i].start))
    best: Ways = [(0.0, 0, ())]
    for last in range(len(order)):
        run = [spots[i] for i in order[: last + 1]]
        best.append(min(_endings(run, best, cuts, tariff)))
    bounds = (0, *best[-1][2])
    groups = [order[a:b] for a, b in pairwise(bounds)]
    return tuple(block(spots, group) for group in groups)


Ways = list[tuple[float, int, tuple[int, ...]]]
"""cost, number of blocks, and where each ends"""


def _endings(run: list[RegisterRange], best: Ways, cuts: frozenset[Cut], tariff: Tariff) -> Ways:
    """Every way to end a run of spots with a block that holds its last, each at its least cost."""
    ways: Ways = []
    last, end, table, latest = len(run) - 1, 0, run[-1].table, run[-1].start
    boundary = max((at for t, at in cuts if t == table and at <= latest), default=-1)
    for first in range(last, -1, -1):
        spot = run[first]
        if spot.table != table or spot.start < boundary:
            break
        end = max(end, spot.end)
        # one spot alone is never too long: the device will say so itself
        if first < last and end - spot.start > _most(table, tariff):
            if latest - spot.start > _most(table, tariff):
                break
            continue
        cost, number, bounds = best[first]
        more = tariff.cost(table, end - spot.start)
        ways.append((round(cost + more, 9), number + 1, (*bounds, last + 1)))
    return ways


def _most(table: str, tariff: Tariff) -> int:
    # a SunSpec model stands among the holding registers
    return LONGEST[table] if table in BITS else min(LONGEST["holding"], tariff.most)


def block(spots: tuple[RegisterRange, ...], group: list[int]) -> ReadBlock:
    """Make the one block that reads a group of spots of one table, ordered by address."""
    first = spots[group[0]]
    end = max(spots[i].end for i in group)
    return ReadBlock(first.table, first.start, end - first.start, tuple(group))


def cut(spots: tuple[RegisterRange, ...], refused: ReadBlock) -> Cut:
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

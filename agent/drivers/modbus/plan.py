"""Plan the blocks that read the points of one device in the least time.

The costs of a request and of a register differ between lines. Neighbouring points share a block,
including unused registers between them, only where that is cheaper than another request. No block
crosses a boundary at which the device refused a block before.
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
"""the same, by function code"""
BITS = frozenset({"coil", "discrete"})

Cut = tuple[str, int]
"""table and address of a boundary: no block holds both a value that begins before this address and
one that begins at it or after it
"""


@dataclass(frozen=True, slots=True)
class Tariff:
    """The costs of reading a device on its line, in any unit, and the limit of one answer."""

    request: float = 10_000.0
    register: float = 1.0
    """the defaults are for Ethernet, 0.2 µs a register and some ms a request: few requests are
    best
    """
    most: int = 125
    """registers in one answer"""

    def cost(self, table: str, count: int) -> float:
        """The cost of one request for `count` cells."""
        return self.request + self.register * (count / 16 if table in BITS else count)


NETWORK = Tariff()


@dataclass(frozen=True, slots=True)
class ReadBlock:
    """One read request, and the points that it covers."""

    table: str
    start: int
    count: int
    points: tuple[int, ...] = ()
    """indexes into the spots that were planned, ordered by address"""


@lru_cache(maxsize=1024)
def plan(
    spots: tuple[RegisterRange, ...], cuts: frozenset[Cut] = frozenset(), tariff: Tariff = NETWORK
) -> tuple[ReadBlock, ...]:
    """The cheapest blocks that cover each spot whole and exactly once; of equal plans, the one with
    the fewest blocks. Pure.

    Dynamic programming over the spots in order of address. Only runs of neighbours need be tried:
    if a spot begins inside a block and is too long for it, it covers the block's remaining spots,
    which are then cheaper in its own block.
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
"""the best plans so far: cost, number of blocks, and the end of each block"""


def _endings(run: list[RegisterRange], best: Ways, cuts: frozenset[Cut], tariff: Tariff) -> Ways:
    """All ways to cover a run of spots whose last block holds the last spot, each at least cost."""
    ways: Ways = []
    last, end, table, latest = len(run) - 1, 0, run[-1].table, run[-1].start
    boundary = max((at for t, at in cuts if t == table and at <= latest), default=-1)
    for first in range(last, -1, -1):
        spot = run[first]
        if spot.table != table or spot.start < boundary:
            break
        end = max(end, spot.end)
        # A single spot is planned even if it is too long: it cannot be divided, and the exception
        # of the device is the clearest message.
        if first < last and end - spot.start > _most(table, tariff):
            if latest - spot.start > _most(table, tariff):
                break
            continue
        cost, number, bounds = best[first]
        more = tariff.cost(table, end - spot.start)
        ways.append((round(cost + more, 9), number + 1, (*bounds, last + 1)))
    return ways


def _most(table: str, tariff: Tariff) -> int:
    # The table of a SunSpec model is not in LONGEST: it lies in the holding registers.
    return LONGEST[table] if table in BITS else min(LONGEST["holding"], tariff.most)


def block(spots: tuple[RegisterRange, ...], group: list[int]) -> ReadBlock:
    """The block that reads a group of spots of one table, ordered by address."""
    first = spots[group[0]]
    end = max(spots[i].end for i in group)
    return ReadBlock(first.table, first.start, end - first.start, tuple(group))


def cut(spots: tuple[RegisterRange, ...], refused: ReadBlock) -> Cut:
    """Where to divide a block that the device refused.

    At its widest gap, since devices mostly refuse unused registers; if there is no gap, in the
    middle. At least two of its spots must begin at different addresses.
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

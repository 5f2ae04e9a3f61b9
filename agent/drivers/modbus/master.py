"""What every Modbus bus has in common: read blocks, divide what a device refuses, decode."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from agent.drivers.modbus.answer import Answer
from agent.drivers.modbus.codec import decode, parse
from agent.drivers.modbus.plan import Block, Cut, block, cut, plan
from agent.model import Sample, Why

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.drivers.modbus.codec import Spot
    from agent.model import Point

Ask = Callable[[int, Block], Awaitable[Answer]]


class Master:
    """Reads the devices of one open bus, and remembers for as long what they refused."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.cuts: dict[int, frozenset[Cut]] = {}
        """by unit: where a block was refused, so that it is not asked for again"""

    async def read(self, points: Sequence[Point]) -> list[Sample]:
        """Read points of one device as `agent.drivers.base.Reads` promises."""
        unit = int(points[0].address)
        spots = tuple(parse(point.at) for point in points)
        samples: dict[int, Sample] = {}
        todo = list(reversed(plan(spots, self.cuts.get(unit, frozenset()))))
        while todo:
            asked = todo.pop()
            answer = await self.ask(unit, asked)
            if answer.range_refused and _divisible(spots, asked):
                todo.extend(reversed(self._divide(unit, spots, asked)))
                continue
            if answer.why is Why.SILENT:
                # One timeout a device: the rest of its points is as silent as this block.
                return [samples.get(i) or _none(p, answer) for i, p in enumerate(points)]
            samples.update(_samples(points, spots, asked, answer))
        return [samples[i] for i in range(len(points))]

    def _divide(self, unit: int, spots: tuple[Spot, ...], refused: Block) -> list[Block]:
        where = cut(spots, refused)
        self.cuts[unit] = self.cuts.get(unit, frozenset()) | {where}
        before = [i for i in refused.points if spots[i].start < where[1]]
        behind = [i for i in refused.points if spots[i].start >= where[1]]
        return [block(spots, before), block(spots, behind)]


def _divisible(spots: tuple[Spot, ...], asked: Block) -> bool:
    return len({spots[i].start for i in asked.points}) > 1


def _samples(
    points: Sequence[Point], spots: tuple[Spot, ...], asked: Block, answer: Answer
) -> Iterator[tuple[int, Sample]]:
    for i in asked.points:
        yield (
            i,
            _none(points[i], answer) if answer.why else _value(points[i], spots[i], asked, answer),
        )


def _value(point: Point, spot: Spot, asked: Block, answer: Answer) -> Sample:
    first = spot.start - asked.start
    try:
        value = decode(spot, answer.cells[first : first + spot.width])
    except ValueError as error:
        return Sample(point, answer.at, why=Why.BAD, detail=str(error))
    return Sample(point, answer.at, value)


def _none(point: Point, answer: Answer) -> Sample:
    return Sample(point, answer.at, why=answer.why, detail=answer.detail)

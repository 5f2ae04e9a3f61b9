"""Of a state (kind EVT) only what is new is told: it changed, or nobody knows it any more. Pure.

What a row says holds until the next row of its series. What was said last is kept with the mark, so
that a restart doubles nothing and leaves nothing out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.model import ValueKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.model import Point, Reading, Told


def news(rows: Sequence[Reading], told: Told) -> tuple[list[Reading], Told]:
    """Leave out rows of states that say what was told before; with what is told after them."""
    last, left = dict(told), []
    for row in rows:
        if row.series.kind == ValueKind.EVT:
            name, said = row.series.channel, _said(row)
            if last.get(name) == said:
                continue
            last[name] = said
            row = replace(row, span=1)  # noqa: PLW2901 -- it speaks for all slots until the next
        left.append(row)
    return left, tuple(last.items())


def only(told: Told, telling: Iterable[Point]) -> Told:
    """What was told of points of which something still is; the others begin anew one day."""
    names = {str(point.channel) for point in telling}
    return tuple((name, said) for name, said in told if name in names)


def _said(row: Reading) -> str:
    series = row.series
    what = str(row.why) if row.value is None else format(row.value.normalize(), "f")
    return " ".join((series.place, series.meter or "", series.occupancy or "", series.basis, what))

"""Reports a state (kind EVT) only when it is new: it changed, or it is no longer known. Pure.

A row holds until the next row of its series. The last report is kept with the mark, so that a
restart repeats nothing and leaves nothing out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.core.model import ValueKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.core.model import Point, Reading, Told


def news(rows: Sequence[Reading], reported: Told) -> tuple[list[Reading], Told]:
    """Leave out rows of states that were reported before. Also return the reports afterwards."""
    statements, left = dict(reported), []
    for row in rows:
        if row.series.kind == ValueKind.EVT:
            name, statement = row.series.channel, _statement(row)
            if statements.get(name) == statement:
                continue
            statements[name] = statement
            row = replace(row, span=1)  # noqa: PLW2901 -- it holds for all slots until the next row
        left.append(row)
    return left, tuple(statements.items())


def only(reported: Told, points: Iterable[Point]) -> Told:
    """The reports of points that still have rows; the others start anew when they have rows
    again.
    """
    names = {str(point.channel) for point in points}
    return tuple((name, statement) for name, statement in reported if name in names)


def _statement(row: Reading) -> str:
    series = row.series
    what = str(row.why) if row.value is None else format(row.value.normalize(), "f")
    return " ".join((series.place, series.meter or "", series.occupancy or "", series.basis, what))

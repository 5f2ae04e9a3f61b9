"""Which rows a retraction takes, and what remains of a run that it takes in part. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from agent.core.model import Reading, Retraction

    Takes = Callable[[Reading], bool]
    """whether a row of a single slot is taken"""


def taken_by(retractions: Sequence[Retraction], recipient: str) -> Takes:
    """Rows that one of these retractions covers and whose `ver` is not higher than its own."""

    def takes(row: Reading) -> bool:
        return any(
            (row.ver is None or row.ver <= retraction.ver)
            and retraction.covers(recipient, row.series, row.t)
            for retraction in retractions
        )

    return takes


def left_of(rows: Iterable[Reading], takes: Takes) -> list[Reading]:
    """The rows that remain, in their order. The slots of a run are checked one by one."""
    left: list[Reading] = []
    for row in rows:
        if row.span == 1:
            if not takes(row):
                left.append(row)
            continue
        left += _runs(row, takes)
    return left


def _runs(row: Reading, takes: Takes) -> list[Reading]:
    runs: list[Reading] = []
    for i in range(row.span):
        slot = replace(row, t=row.t + i * row.series.step, span=1)
        if takes(slot):
            continue
        last = runs[-1] if runs else None
        if last is not None and last.t + last.span * row.series.step == slot.t:
            runs[-1] = replace(last, span=last.span + 1)
        else:
            runs.append(slot)
    return runs

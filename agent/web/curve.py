"""What a plot shows: values over time, a marked time and a limit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


class CurveKind(StrEnum):
    """How the values of a curve are joined."""

    LINE = auto()
    """by straight lines: what is measured"""
    STEPS = auto()
    """each value is in force until the next one: what is requested"""


@dataclass(frozen=True, slots=True)
class Curve:
    """Values over time. Times are Unix seconds, ascending; None is a time without a value."""

    name: str
    points: Sequence[tuple[float, float | None]]
    kind: CurveKind = CurveKind.LINE
    band: Sequence[tuple[float, float, float]] = ()
    """`(time, lowest, highest)`: drawn behind the curve"""
    gap: float = math.inf
    """seconds: values that are further apart are not joined"""

    @staticmethod
    def of_history(
        name: str, rows: Sequence[Sequence[Any]], gap: float, factor: float = 1
    ) -> Curve:
        """Return a curve of rows `[time, lowest, mean, highest]`, its values times `factor`."""
        known = [row for row in rows if row[2] is not None]
        return Curve(
            name,
            [(row[0], None if row[2] is None else row[2] * factor) for row in rows],
            band=[
                (at, low * factor, high * factor)
                for at, low, mean, high in known
                if low is not None and high is not None
            ]
            if any(low != high for _at, low, _mean, high in known)
            else (),
            gap=gap,
        )

    def values(self) -> list[float]:
        """Return all values, with those of the band."""
        middle = [value for _at, value in self.points if value is not None]
        return middle + [value for _at, *both in self.band for value in both]


@dataclass(frozen=True, slots=True)
class Mark:
    """A time that a plot marks, such as that of an order in force."""

    name: str
    since: float
    until: float


@dataclass(frozen=True, slots=True)
class LimitLine:
    """A value that a plot marks, such as the limit of a guard."""

    name: str
    value: float

"""Which values a full spool gives up, and which rows remain (rule M11). Pure."""

from __future__ import annotations

from dataclasses import replace
from enum import IntEnum
from typing import TYPE_CHECKING

from agent.core.model import Quality, Reading, ValueKind, Why

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.core.model import Series

    Midnight = Callable[[int], int]
    """the building's last midnight at or before a time"""

HOUR, DAY = 3_600, 86_400
REST = "rest"
"""the basis of sums over dwellings; rows of common plant never have it"""


class Tier(IntEnum):
    """How far rows have been thinned; the first tier keeps the most."""

    WHOLE = 0
    """rows are joined with their neighbours; nothing is lost"""
    HOURLY = 1
    """one value an hour of common areas and plant"""
    DAILY = 2
    """one value a day of common areas and plant"""
    INDEXES = 3
    """only the midnight indexes and changes of states of everything"""


def utc_midnight(t: int) -> int:
    """The last midnight in UTC."""
    return t - t % DAY


def common(series: Series) -> bool:
    """Whether a series belongs to common areas, plant or the building's own meter: class P0."""
    return series.place[:1] in {"C", "B"} and series.basis != REST


def given_up(row: Reading, tier: Tier, midnight: Midnight) -> bool:
    """Whether a row loses its value at a tier: it is not in the first slot of its hour or day.

    A midnight index is always kept, whoever's it is. So is a change of a state: there are few, and
    each holds until the next.
    """
    if row.value is None or row.series.kind == ValueKind.EVT:
        return False
    series, t = row.series, row.t
    if tier is Tier.HOURLY:
        return common(series) and t % HOUR >= series.step
    # The first slot of the day: a meter that is read every hour has no slot exactly at midnight of
    # a shifted zone.
    of_a_day = t - midnight(t) < series.step
    if tier is Tier.DAILY:
        return common(series) and not of_a_day
    return tier is Tier.INDEXES and not (series.kind == ValueKind.REG and of_a_day)


def thinned(rows: Iterable[Reading], tier: Tier, midnight: Midnight) -> list[Reading]:
    """The same slots with fewer values: M `shed` where a value was given up, and each run of M as
    one row.

    Every slot in `rows` occurs once in the result, with its version. Rows of one series stay in
    their order.
    """
    left: list[Reading] = []
    last: dict[tuple[Series, int | None], int] = {}
    for row in rows:
        kept = _shed(row) if given_up(row, tier, midnight) else row
        key = (row.series, row.ver)
        before = last.get(key)
        if before is not None and _goes_on(left[before], kept):
            left[before] = replace(left[before], span=left[before].span + kept.span)
        else:
            last[key] = len(left)
            left.append(kept)
    return left


def _shed(row: Reading) -> Reading:
    missing = Quality.MISSING
    return Reading(row.series, row.t, None, missing, why=Why.SHED, ver=row.ver, again=row.again)


def _goes_on(before: Reading, row: Reading) -> bool:
    """Whether a row continues the one before it in its series: no value, for the same reason."""
    return (
        before.value is None
        and row.value is None
        and before.t + before.span * row.series.step == row.t
        and (before.quality, before.why, before.again) == (row.quality, row.why, row.again)
        and (before.delay, before.flags) == (row.delay, row.flags)
    )

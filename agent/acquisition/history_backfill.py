"""Fills slots that nobody read with the monthly and due-date values that a meter has stored.

A stored value is used only if the meter states its time and the meter's clock is right. Pure.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, NamedTuple

from agent.acquisition.timetable import is_slot
from agent.core.model import Quality, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from zoneinfo import ZoneInfo

    from agent.core.model import Point
    from agent.drivers.base import StoredHistory

TRUE_WITHIN = 900
"""seconds by which the meter's clock may be wrong"""


class DownGap(NamedTuple):
    """Slots of one account that were closed because the agent did not run."""

    first: int
    last: int


def recalled(
    kept: StoredHistory, samples: Sequence[Sample], gap: DownGap, zone: ZoneInfo | None
) -> Iterator[tuple[int, Sample]]:
    """The slots of a gap that the meter has stored values for, each with its sample."""
    sample_of = {sample.point: sample for sample in samples if sample.why is None}
    now = sample_of.get(kept.clock)
    here = zone or dt.UTC
    if now is None or not _right(str(now.value), now.at, here):
        return
    for when, value in kept.values:
        if when in sample_of and value in sample_of:
            slot = _instant(str(sample_of[when].value), here)
            if slot is not None and gap.first <= slot <= gap.last:
                point: Point = kept.point
                if is_slot(slot, point.every, zone):
                    stored = sample_of[value].value
                    yield slot, Sample(point, slot, stored, quality=Quality.MEASURED)


def _right(clock_text: str, at: float, zone: dt.tzinfo) -> bool:
    """Whether the meter's clock shows the building's local time. A date alone must be today's."""
    civil = dt.datetime.fromtimestamp(at, zone).replace(tzinfo=None)
    shown = dt.datetime.fromisoformat(clock_text)
    if "T" not in clock_text:
        return shown.date() == civil.date()
    return abs((shown - civil).total_seconds()) <= TRUE_WITHIN


def _instant(text: str, zone: dt.tzinfo) -> int | None:
    """The time of a stored value in Unix seconds; a date means the end of that day (EN 13757-3)."""
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    if "T" not in text:
        moment += dt.timedelta(days=1)
    return int(moment.replace(tzinfo=zone).timestamp())

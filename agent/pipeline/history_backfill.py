"""What a meter has kept of before: its monthly and due-date values, for slots that nobody read.

Only where the meter says when, and its own clock is right: then the value is of that instant. Pure.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, NamedTuple

from agent.model import Quality, Sample
from agent.pipeline.timetable import is_slot

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from zoneinfo import ZoneInfo

    from agent.drivers.base import StoredHistory
    from agent.model import Point

TRUE_WITHIN = 900
"""seconds by which the meter's clock may be off"""


class DownGap(NamedTuple):
    """Slots of one account that were closed because the agent was down."""

    first: int
    last: int


def recalled(
    kept: StoredHistory, samples: Sequence[Sample], gap: DownGap, zone: ZoneInfo | None
) -> Iterator[tuple[int, Sample]]:
    """The slots of a gap that the meter's own memory fills, each with what it says of it."""
    said = {sample.point: sample for sample in samples if sample.why is None}
    now = said.get(kept.clock)
    here = zone or dt.UTC
    if now is None or not _right(str(now.value), now.at, here):
        return
    for when, value in kept.values:
        if when in said and value in said:
            slot = _instant(str(said[when].value), here)
            if slot is not None and gap.first <= slot <= gap.last:
                point: Point = kept.point
                if is_slot(slot, point.every, zone):
                    stored = said[value].value
                    yield slot, Sample(point, slot, stored, quality=Quality.MEASURED)


def _right(said: str, at: float, zone: dt.tzinfo) -> bool:
    """Whether the meter's clock keeps the building's civil time; a date alone must be today."""
    civil = dt.datetime.fromtimestamp(at, zone).replace(tzinfo=None)
    told = dt.datetime.fromisoformat(said)
    if "T" not in said:
        return told.date() == civil.date()
    return abs((told - civil).total_seconds()) <= TRUE_WITHIN


def _instant(said: str, zone: dt.tzinfo) -> int | None:
    """The Unix second that the meter means; a date means the end of that day (EN 13757-3)."""
    try:
        told = dt.datetime.fromisoformat(said)
    except ValueError:
        return None
    if "T" not in said:
        told += dt.timedelta(days=1)
    return int(told.replace(tzinfo=zone).timestamp())

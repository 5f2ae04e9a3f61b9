"""Check that indexes that may be a dwelling's are read at midnight.

Daily and monthly values and duties need the index at midnight. Slots of steps below a day are
counted in UTC, so a coarse step may have no slot at the building's midnight.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from agent.core.channels import channels
from agent.core.i18n import _
from agent.core.model import ValueKind
from agent.core.settings import written

if TYPE_CHECKING:
    from agent.config.compose import ConfigDraft
    from agent.config.models import DeviceConfig, PointOptions
    from agent.config.problem import Path

DAY = 86_400


def midnightcheck(
    draft: ConfigDraft, path: Path, device: DeviceConfig, merged: PointOptions
) -> None:
    """Report a step without a slot at midnight, for a meter that may be a dwelling's."""
    known = channels().get(merged.channel or "")
    step = int(merged.every or device.every)
    if known is None or known.kind is not ValueKind.REG or device.place or draft.building is None:
        return
    zone = ZoneInfo(draft.building.timezone)
    if step == DAY or not misses(step, zone):
        return
    fits = max(n for n in range(1, step) if DAY % n == 0 and not misses(n, zone))
    what = _(
        "a step of {step} has no slot at midnight in {zone}, so daily and monthly values would be"
        " missing: write {fits} or 1d",
        step=written(step),
        zone=str(zone),
        fits=written(fits),
    )
    # the problem is at `every` of the point if it has one, else at that of the device
    own = draft.written["devices"][path[1]].get("points") or {}
    at_point = isinstance(own, dict) and "every" in (own.get(path[-1]) or {})
    draft.report.value((*path, "every") if at_point else (*path[:2], "every"), what)


def misses(step: int, zone: ZoneInfo) -> bool:
    """Whether midnight is not a slot of a step, in summer or in winter."""
    # each month, since the dates on which a zone changes its offset are not known here
    seasons = (dt.datetime(2027, month, 1, tzinfo=zone) for month in range(1, 13))
    return any(int(one.timestamp()) % step for one in seasons)

"""Whether an upgrade may happen now, by ring, window and holds. Pure."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from agent.control import hours
from agent.i18n import _

if TYPE_CHECKING:
    from collections.abc import Mapping
    from zoneinfo import ZoneInfo

    from agent.config.models import Updates

AFTER = {0: 0, 1: 1, 2: 4, 3: 14}
"""whole days after its publication, by ring"""
BEFORE_A_HOLD = dt.timedelta(hours=2)
FREE = "free"


def held(controls: Mapping[str, Mapping[str, Any]], now: dt.datetime) -> str:
    """Why no upgrade may happen for the sake of what is commanded; empty if it may.

    `controls`: the answer to `control.list`.
    """
    for name, control in controls.items():
        if control["state"] != FREE:
            until = f" {_('until {time}', time=control['until'])}" if control.get("until") else ""
            return _(
                "{control} is {state}{until}", control=name, state=control["state"], until=until
            )
        for event in control.get("next", ()):
            begin = dt.datetime.fromisoformat(event["begin"])
            if begin - now < BEFORE_A_HOLD:
                return _("{control} is commanded from {time}", control=name, time=event["begin"])
    return ""


def early(
    updates: Updates | None, published: dt.datetime | None, now: dt.datetime, zone: ZoneInfo
) -> str:
    """Why no upgrade may happen by itself at this time; empty if it may."""
    if updates is None:
        return _("the configuration has no `updates`, so this gateway is only upgraded by hand")
    if not hours.within([hours.window(updates.window)], None, now.astimezone(zone)):
        return _("outside of {window}", window=updates.window)
    days = dt.timedelta(days=AFTER[updates.ring])
    if days and published is None:
        return _(
            "the archive does not say when this version appeared, and ring {ring} waits",
            ring=updates.ring,
        )
    if days and published is not None and now < (due := published + days):
        day = due.astimezone(zone).strftime("%Y-%m-%d %H:%M")
        return _("ring {ring} takes this version from {day} on", ring=updates.ring, day=day)
    return ""

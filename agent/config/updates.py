"""Whether an upgrade may be installed now, by ring, window and orders (rule U15). Pure."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from agent.control import hours
from agent.core.i18n import _

if TYPE_CHECKING:
    from collections.abc import Mapping
    from zoneinfo import ZoneInfo

    from agent.config.models import Updates

AFTER = {0: 0, 1: 1, 2: 4, 3: 14}
"""days after publication until a version is installed, by ring"""
BEFORE_A_HOLD = dt.timedelta(hours=2)
"""time before an order in which nothing is upgraded"""
FREE = "free"


def held(controls: Mapping[str, Mapping[str, Any]], now: dt.datetime) -> str:
    """Why an order forbids an upgrade now; empty: none does.

    `controls`: the answer to `control.list`.
    """
    for name, control in controls.items():
        if control["state"] != FREE:
            until = f" {_('until {time}', time=control['until'])}" if control.get("until") else ""
            state = _(control["state"])
            return _("{control} is {state}{until}", control=name, state=state, until=until)
        for event in control.get("next", ()):
            begin = dt.datetime.fromisoformat(event["begin"])
            # the agent restarts for an upgrade, and a failed one is replaced again
            if begin - now < BEFORE_A_HOLD:
                return _("{control} is commanded from {time}", control=name, time=event["begin"])
    return ""


def early(
    updates: Updates | None, published: dt.datetime | None, now: dt.datetime, zone: ZoneInfo
) -> str:
    """Why the configuration forbids an automatic upgrade now; empty: it does not."""
    if updates is None:
        return _("the configuration has no `updates`, so this gateway is only upgraded by hand")
    if not hours.within([hours.window(updates.window)], None, now.astimezone(zone)):
        return _("outside of {window}", window=updates.window)
    days = dt.timedelta(days=AFTER[updates.ring])
    # without a date every ring would take the version at once
    if days and published is None:
        return _(
            "the archive does not say when this version appeared, and ring {ring} waits",
            ring=updates.ring,
        )
    if days and published is not None and now < (due := published + days):
        day = due.astimezone(zone).strftime("%Y-%m-%d %H:%M")
        return _("ring {ring} takes this version from {day} on", ring=updates.ring, day=day)
    return ""

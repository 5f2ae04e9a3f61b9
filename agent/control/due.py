"""When a control must be checked again. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.control import schedule

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.control.context import Wait
    from agent.control.hold_record import HoldRecord
    from agent.control.model import AcceptedOrder
    from agent.control.stamps import Moment

LOOK = 10.0
"""seconds between two checks of the guards and of the held value (rule H3)"""
SOONEST = 0.01
"""seconds: the shortest wait"""


def until_next(
    now: Moment,
    events: Iterable[AcceptedOrder],
    records: Iterable[HoldRecord],
    waits: Mapping[int, Wait],
) -> float:
    """Seconds until something of a control is due, `LOOK` at most.

    Due are: the begin or end of an order, the end of a hold, a refresh of the device's watchdog,
    another attempt at a release.
    """
    due = [LOOK]
    for event in events:
        if event.state in schedule.WAITING:
            due += [at - now.wall for at in (event.begin, event.end - event.back, event.end)]
    for record in records:
        due.append(record.begun.steady + record.lasts - now.steady)
        if record.dog is not None:  # each check refreshes the watchdog
            due.append(record.dog.pause)
        if record.number in waits:
            due.append(waits[record.number].until - now.steady)
    return max(SOONEST, min(one for one in due if one > 0))

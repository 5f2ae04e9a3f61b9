"""Points in the BMS that show its operator what is held: active, value, minutes left, who asked.
One more point counts up during a hold, for the BMS's own logic (rule H32).

They command nothing, so the journal does not contain them: each start writes them anew.
"""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import TYPE_CHECKING

from agent.core.errors import LinkLost, Refused, WriteRefused
from agent.core.log_fields import LogEvent, fields

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.control.model import AcceptedOrder, Moment, WriteTarget
    from agent.control.point_access import PointAccess
    from agent.control.records import HoldRecord
    from agent.core.model import Value


log = logging.getLogger(__name__)
HEARTBEAT = "heartbeat"
ROLES = ("grid_operator", "building_manager", "boiler_operator", "residents_council", "occupant")
REST = 60.0
"""seconds until a point that took no value is written again"""
WRAPS = 10_000
"""the heartbeat counts to this number, then begins again at 0"""


class Display:
    """The display points of one control; each is written when its value changes."""

    def __init__(self, places: Mapping[str, WriteTarget], slot: int | None) -> None:
        self.places, self._slot = places, slot
        self._shown: dict[str, Value | None] = {}
        self._beats = 0
        self._last_error = ""
        self._retry_at: dict[str, float] = {}

    async def show(
        self,
        access: Callable[[WriteTarget, int | None], PointAccess],
        record: HoldRecord | None,
        values: Mapping[str, Value | None],
        now: float,
    ) -> None:
        """Write these values to the points, by name of the point.

        A point that takes no value is tried again after a minute: while a write waits for its
        timeout, the guards of the control are not checked. `now`: monotonic seconds.
        """
        wanted = dict(values)
        if record is not None:
            self._beats = (self._beats + 1) % WRAPS
            wanted[HEARTBEAT] = Decimal(self._beats)
        for name, place in self.places.items():
            value = wanted.get(name, None if self._slot is not None else Decimal(0))
            if name in self._shown and self._shown[name] == value:
                continue
            if now < self._retry_at.get(name, now):
                continue
            try:
                await access(place, self._slot).write(value)
                self._shown[name] = value
            except (LinkLost, Refused, WriteRefused) as error:
                if str(error) != self._last_error:  # log it once, not with each attempt
                    self._last_error = str(error)
                    log.warning(
                        "%s/%s is not shown: %s", place.device, place.point, error,
                        extra=fields(LogEvent.DISPLAY_FAILED, device=place.device),
                    )  # fmt: skip
                self._retry_at[name] = now + REST


def display_values(
    record: HoldRecord | None, event: AcceptedOrder | None, now: Moment
) -> dict[str, Value | None]:
    """The values that the points show, by name; empty if nothing is held. Pure."""
    if record is None:
        return {}
    left = event.end - now.wall if event else 0.0
    by = ROLES.index(event.order.role) + 1 if event and event.order.role in ROLES else 0
    return {
        "active": Decimal(1),
        "value": record.target,
        "minutes": Decimal(max(0, round(left / 60))),
        "by": Decimal(by),
    }

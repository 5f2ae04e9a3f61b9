"""The setpoint: the value that a point is to have, and until when. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from agent.control.schedule import toward

if TYPE_CHECKING:
    from agent.control.hold_record import WatchdogTarget, WriteTarget
    from agent.control.point_access import Standing
    from agent.core.model import Value
FAILSAFE = "failsafe"
"""takes the place of an order's id in a hold record: the failsafe of a limit is applied"""
FOREVER = math.inf
"""the end of a hold that no order limits"""


@dataclass(frozen=True, slots=True)
class Setpoint:
    """The value that a point is to have, and until when."""

    control: str
    jti: str
    place: WriteTarget
    slot: int | None
    value: Decimal
    restore: Value | None
    """the value that the release writes to a register; None: the value from before"""
    end: float
    """wall time at which the hold ends"""
    lasts: float
    """seconds from now until then"""
    tolerance: Decimal
    never_raise: bool = False
    """of a limit: write the smaller of `value` and the value from before (rule H12)"""
    ramp: Decimal | None = None
    """the largest difference between the first write and the value that the device follows"""
    fallback: Value | None = None
    """the value to which the device's own watchdog falls back"""
    failsafe: Decimal | None = None
    """of a limit: the value that is written if the agent has died"""
    watchdog: WatchdogTarget | None = None
    """the device's own watchdog"""
    agreed: str = ""
    """version of the control sheet"""

    def first(self, standing: Standing, base: Decimal | None) -> Decimal:
        """The value of the first write. `base`: the value in force before any hold of ours."""
        now, target = standing.effective, self.later(base)
        if self.ramp is None or not isinstance(now, Decimal):
            return target
        return toward(now, target, self.ramp)

    def later(self, base: Decimal | None) -> Decimal:
        """The value of each further write. `base`: as in `first`."""
        return min(self.value, base) if self.never_raise and base is not None else self.value

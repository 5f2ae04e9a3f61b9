"""What is to stand at a point, and until when; and what that is over what stands there. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from agent.control.schedule import toward

if TYPE_CHECKING:
    from agent.control.hold_record import WatchdogTarget, WriteTarget
    from agent.control.point_access import Standing
    from agent.model import Value
FAILSAFE = "failsafe"
"""stands in a row for the number of an order: a limit whose centre is not heard"""
FOREVER = math.inf
"""the end of a hold that no order bounds"""


@dataclass(frozen=True, slots=True)
class Setpoint:
    """What is to stand at a point, and until when."""

    control: str
    jti: str
    place: WriteTarget
    slot: int | None
    value: Decimal
    restore: Value | None
    """what is written back on a register; None: what stood there"""
    end: float
    lasts: float
    tolerance: Decimal
    never_raise: bool = False
    """a limit: the smaller of the value and what stands there (rule H12)"""
    ramp: Decimal | None = None
    """the most by which the first write may differ from what the device follows"""
    fallback: Value | None = None
    failsafe: Decimal | None = None
    """of a limit: what is written when the agent has died"""
    watchdog: WatchdogTarget | None = None
    """the device's own watchdog"""
    agreed: str = ""
    """version of what was agreed"""

    def first(self, standing: Standing, base: Decimal | None) -> Decimal:
        """The value of the first write, over what the device follows now; `base`: what it followed
        before anything of ours.
        """
        now, target = standing.effective, self.later(base)
        if self.ramp is None or not isinstance(now, Decimal):
            return target
        return toward(now, target, self.ramp)

    def later(self, base: Decimal | None) -> Decimal:
        """The value of each further write; `base`: what the device followed before the first."""
        return min(self.value, base) if self.never_raise and base is not None else self.value

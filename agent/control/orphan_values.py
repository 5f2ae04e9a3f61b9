"""A value that an order could have left at a point, and that the journal does not know. Pure.

Rules H19, H24.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.control.hold_record import HoldRecord, Phase, same
from agent.control.model import OrderState

if TYPE_CHECKING:
    from decimal import Decimal

    from agent.control.configured_control import ConfiguredControl
    from agent.control.point_access import Standing
    from agent.control.stamps import Moment
    from agent.core.model import Value

HANDED = "handed"
"""takes the place of an order's id in a hold record: a person names the value from before"""
LASTS = 120.0
"""seconds by which such a hold must be over"""


def could_be_ours(control: ConfiguredControl, value: Value | None) -> bool:
    """Whether an order, the failsafe or the device's watchdog could have set this value."""
    if value is None or isinstance(value, str):
        return False
    modality, limits = control.modality, control.modality.limits
    named = [*modality.choices, *([modality.failsafe.value] if modality.failsafe else [])]
    if any(same(value, one, modality.tolerance) for one in (*named, control.fallback)):
        return True
    return limits.least is not None and limits.most is not None and (
        limits.least <= value <= limits.most
    )  # fmt: skip


def handed(
    control: ConfiguredControl, standing: Standing, value: Decimal, reason: str, now: Moment
) -> HoldRecord:
    """The hold record that releases a register to the value that a person names."""
    assert standing.ours is not None
    return HoldRecord(
        control.modality.name,
        HANDED,
        control.place,
        None,
        value,
        standing.ours,
        (standing.ours,),
        value,
        now,
        now.wall + LASTS,
        LASTS,
        tolerance=control.modality.tolerance,
        identity=standing.identity,
        phase=Phase.RELEASING,
        outcome=OrderState.COMPLETED,
        words=reason,
    )

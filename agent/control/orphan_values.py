"""What an order could have left at a point of which the journal knows nothing (rules H19, H24)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.control.hold_record import HoldRecord, Phase, same
from agent.control.model import OrderState

if TYPE_CHECKING:
    from decimal import Decimal

    from agent.control.configured_control import ConfiguredControl
    from agent.control.point_access import Standing
    from agent.control.stamps import Moment
    from agent.model import Value

HANDED = "handed"
"""stands in a row for the number of an order: somebody says by hand what stood there before"""
LASTS = 120.0


def could_be_ours(fit: ConfiguredControl, value: Value | None) -> bool:
    """Whether an order, the failsafe or the device's watchdog could have put it there."""
    if value is None or isinstance(value, str):
        return False
    agreed, limits = fit.modality, fit.modality.limits
    named = [*agreed.choices, *([agreed.failsafe.value] if agreed.failsafe else [])]
    if any(same(value, one, agreed.tolerance) for one in (*named, fit.fallback)):
        return True
    return limits.least is not None and limits.most is not None and (
        limits.least <= value <= limits.most
    )  # fmt: skip


def handed(
    fit: ConfiguredControl, standing: Standing, value: Decimal, words: str, now: Moment
) -> HoldRecord:
    """The row that gives a register back to what a person says stood there."""
    assert standing.ours is not None
    return HoldRecord(
        fit.modality.name, HANDED, fit.place, None, value, standing.ours, (standing.ours,), value,
        now, now.wall + LASTS, LASTS, tolerance=fit.modality.tolerance, identity=standing.identity,
        phase=Phase.RELEASING, outcome=OrderState.COMPLETED, words=words,
    )  # fmt: skip

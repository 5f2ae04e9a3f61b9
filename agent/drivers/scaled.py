"""From a value in a point's unit to what its device is told, and back; exact or not at all."""

from __future__ import annotations

from decimal import Context, Decimal, Inexact
from typing import TYPE_CHECKING

from agent.errors import Refused

if TYPE_CHECKING:
    from agent.model import Point

EXACT = Context(prec=40, traps=[Inexact])


def to_raw(point: Point, value: Decimal) -> Decimal:
    """What a driver writes so that the point says `value`. Raises Refused where nothing does."""
    try:
        return EXACT.divide(value, point.scale)
    except Inexact:
        reason = f"{value} {point.unit} is not an exact multiple of the scale {point.scale}"
        raise Refused(f"{point.device}/{point.name}: {reason}") from None


def from_raw(point: Point, raw_value: Decimal) -> Decimal:
    """What the point says when its device holds `raw_value`, in the point's unit."""
    return EXACT.multiply(raw_value, point.scale)

"""Conversion between a value in the point's unit and the raw value of its device, always exact."""

from __future__ import annotations

from decimal import Context, Decimal, Inexact
from typing import TYPE_CHECKING

from agent.core.errors import Refused

if TYPE_CHECKING:
    from agent.core.model import Point

EXACT = Context(prec=40, traps=[Inexact])


def to_raw(point: Point, value: Decimal) -> Decimal:
    """The raw value to write so that the point has `value`. Raises Refused if there is none.

    It is never rounded: a command that is read back must be equal to what was ordered.
    """
    try:
        return EXACT.divide(value, point.scale)
    except Inexact:
        reason = f"{value} {point.unit} is not an exact multiple of the scale {point.scale}"
        raise Refused(f"{point.device}/{point.name}: {reason}") from None


def from_raw(point: Point, raw_value: Decimal) -> Decimal:
    """The value in the point's unit when its device holds `raw_value`."""
    return EXACT.multiply(raw_value, point.scale)

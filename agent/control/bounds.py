"""Limits on the value and the hours, which both a modality and a grant may have. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.control import hours
from agent.control.guard import measured, plain
from agent.control.model import No, OrderCode

if TYPE_CHECKING:
    from decimal import Decimal

    from agent.control.decision_input import DecisionFacts
    from agent.control.model import ControlOrder, Limits


def outside(value: Decimal, limits: Limits, unit: str) -> str:
    """Which limit a value exceeds, as text; empty: none."""
    if limits.least is not None and value < limits.least:
        return f"down to {measured(limits.least, unit)}, {plain(value)} was asked"
    if limits.most is not None and value > limits.most:
        return f"up to {measured(limits.most, unit)}, {plain(value)} was asked"
    return ""


def outside_hours(
    order: ControlOrder, limits: Limits, facts: DecisionFacts, code: OrderCode, whose: str
) -> No | None:
    """Refuse an order of which a minute, its draw included, lies outside the windows or the season.

    `whose`: the subject of the refusal, such as `boiler is`.
    """
    span = (order.start, order.latest_end)
    beyond = hours.first_outside(limits.windows, limits.season, span, facts.zone)
    if beyond is None:
        return None
    return No(code, f"{whose} not agreed for {beyond:%a %d %B, %H:%M}")


def role_name(role: str) -> str:
    """A role for people: without underscores."""
    return role.replace("_", " ")


def duration_text(seconds: float) -> str:
    """A duration for people, such as `1 h 30 min`."""
    if seconds >= 60 and seconds % 60 == 0:  # noqa: PLR2004 -- a minute
        hour, minute = divmod(int(seconds) // 60, 60)
        return (
            f"{hour} h {minute:02} min"
            if hour and minute
            else f"{hour} h"
            if hour
            else (f"{minute} min")
        )
    return f"{seconds:g} s"

"""Which value a control is tested with. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.control.hold_record import same
from agent.control.model import LossRule
from agent.errors import Refused

if TYPE_CHECKING:
    from decimal import Decimal

    from agent.control.model import Modality
    from agent.model import Value


def probe(agreed: Modality, base: Decimal | None, fallback: Value | None = None) -> Decimal:
    """A value within what is agreed that can be told from what is in force, and from what the
    device's watchdog falls back to; the nearest.

    A limit is tested below what is in force: it never raises. Raises Refused where there is none.
    """
    limits = agreed.limits
    least, most = limits.least, limits.most
    if agreed.choices:
        found = list(agreed.choices)
    else:
        assert least is not None
        assert most is not None
        by = agreed.step or (most - least) / 10
        near = [base + by, base - by] if base is not None else []
        if agreed.step:
            near = [one // by * by for one in near]
        found = [one for one in (*near, least, most) if least <= one <= most]
    for value in found:
        lower = agreed.kind is not LossRule.LIMIT or base is None or value < base
        if lower and not any(same(value, one, agreed.tolerance) for one in (base, fallback)):
            return value
    raise Refused(f"{agreed.name}: no value that is agreed differs from {base}, which is in force")

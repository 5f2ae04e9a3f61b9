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


def probe(modality: Modality, base: Decimal | None, fallback: Value | None = None) -> Decimal:
    """A value within what is agreed that can be told from what is in force, and from what the
    device's watchdog falls back to; the nearest.

    A limit is tested below what is in force: it never raises. Raises Refused where there is none.
    """
    limits = modality.limits
    least, most = limits.least, limits.most
    if modality.choices:
        candidates = list(modality.choices)
    else:
        assert least is not None
        assert most is not None
        by = modality.step or (most - least) / 10
        near = [base + by, base - by] if base is not None else []
        if modality.step:
            near = [one // by * by for one in near]
        candidates = [one for one in (*near, least, most) if least <= one <= most]
    for value in candidates:
        lower = modality.kind is not LossRule.LIMIT or base is None or value < base
        if lower and not any(same(value, one, modality.tolerance) for one in (base, fallback)):
            return value
    raise Refused(
        f"{modality.name}: no value that is agreed differs from {base}, which is in force"
    )

"""The value with which a control is tested. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.control.hold_record import same
from agent.control.model import LossRule
from agent.core.errors import Refused

if TYPE_CHECKING:
    from decimal import Decimal

    from agent.control.model import Modality
    from agent.core.model import Value


def probe(modality: Modality, base: Decimal | None, fallback: Value | None = None) -> Decimal:
    """The nearest agreed value that differs from the value in force and from the fallback.

    `base`: the value in force; `fallback`: the value to which the device's watchdog falls back. A
    limit is tested below `base`, because a limit never raises a value. Raises Refused if there is
    no such value.
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
    raise Refused(f"{modality.name}: no agreed value differs from {base}, which is in force")

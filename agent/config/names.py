"""The form of names, and texts for unknown units."""

from __future__ import annotations

import re

from agent.config.problem import did_you_mean
from agent.core.i18n import N_, _
from agent.core.settings import shown
from agent.core.units import units

NAME = re.compile(r"[^\W_][\w-]{0,63}")
ILL_NAMED = N_("a name has letters, digits, - and _ only, at most 64 of them")
OTHER_SPELLINGS = {"°C": "Cel", "C": "Cel", "degC": "Cel", "m³": "m3", "L": "l", "°": "deg"}


def no_unit(unit: str) -> str:
    """The text for an unknown unit, with the one that may be meant."""
    other = OTHER_SPELLINGS.get(unit)
    near = _('; did you mean "{other}"?', other=other) if other else did_you_mean(unit, units())
    return _(
        "no unit {unit}{near}",
        unit=shown(unit),
        near=near or _(", known are such as kWh, W, m3, Cel, %RH"),
    )

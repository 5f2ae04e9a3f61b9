"""What names and units may be: words that people misspell."""

from __future__ import annotations

import re

from agent.config.problem import did_you_mean
from agent.i18n import N_, _
from agent.settings import shown
from agent.units import units

NAME = re.compile(r"[^\W_][\w-]{0,63}")
ILL_NAMED = N_("a name has letters, digits, - and _ only, at most 64 of them")
OTHER_SPELLINGS = {"°C": "Cel", "C": "Cel", "degC": "Cel", "m³": "m3", "L": "l", "°": "deg"}


def no_unit(unit: str) -> str:
    """Say that a unit is not known, and which one may be meant."""
    other = OTHER_SPELLINGS.get(unit)
    near = _('; did you mean "{other}"?', other=other) if other else did_you_mean(unit, units())
    return _(
        "no unit {unit}{near}",
        unit=shown(unit),
        near=near or _(", known are such as kWh, W, m3, Cel, %RH"),
    )

"""Compact profiles: many values of one register in one record (EN 13757-3 annex F)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.drivers.mbus.dib import CODINGS, Coding
from agent.drivers.mbus.novalue import NoValue

if TYPE_CHECKING:
    from collections.abc import Callable

MODES = ("values", "increments", "decrements", "differences")
UNITS = ("s", "min", "h", "d")
SIGNED = ("values", "differences")
CONTROL = 2
"""bytes before the elements: spacing control and spacing value"""
LONGEST_SPACING = 250
"""higher codes mean parts of months"""


def as_text(data: bytes, element: Callable[[Coding, bytes, bool], str]) -> str:
    """The list as text: `increments every 1 h: 12 13 -`.

    element: converts one element of this coding, signed or not, to text. The time of the first
    value is in the record with the same storage number. Raises NoValue if the data is not such a
    list.
    """
    if len(data) < CONTROL:
        raise NoValue("a profile without spacing")
    control, spacing = data[:CONTROL]
    coding = CODINGS[control & 0x0F]
    rest = data[CONTROL:]
    if coding.length <= 0 or len(rest) % coding.length:
        raise NoValue(f"a profile of {len(rest)} bytes, not a multiple of {coding.length}")
    mode = MODES[control >> 6]
    parts = (rest[at : at + coding.length] for at in range(0, len(rest), coding.length))
    elements = " ".join(element(coding, part, mode in SIGNED) for part in parts)
    return f"{mode} every {_spacing(control >> 4 & 3, spacing)}: {elements}"


def _spacing(unit: int, spacing: int) -> str:
    if spacing > LONGEST_SPACING:
        return f"part of a month (code {spacing})"
    return f"{spacing} {UNITS[unit]}"

"""Units with their exact factors, the table of channels, and raw values in a point's unit."""

from __future__ import annotations

import tomllib
from decimal import Context, Decimal, Inexact
from fractions import Fraction
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from agent.core.errors import Refused
from agent.core.i18n import N_
from agent.core.model import Channel, ValueKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.core.model import Point

PREFIXES = {"": 0, "m": -3, "k": 3, "M": 6, "G": 9}

PREFIXED = {
    "W": ("power", Fraction(1)),
    "Wh": ("energy", Fraction(3600)),
    "J": ("energy", Fraction(1)),
    "VA": ("apparent power", Fraction(1)),
    "VAh": ("apparent energy", Fraction(1)),
    "var": ("reactive power", Fraction(1)),
    "varh": ("reactive energy", Fraction(1)),
    "V": ("voltage", Fraction(1)),
    "A": ("current", Fraction(1)),
    "Hz": ("frequency", Fraction(1)),
    "Pa": ("pressure", Fraction(1)),
    "bar": ("pressure", Fraction(100_000)),
}
"""units that take a prefix: their dimension, and their size in its base unit"""

PLAIN = {
    "m3": ("volume", Fraction(1)),
    "hl": ("volume", Fraction(1, 10)),
    "l": ("volume", Fraction(1, 1000)),
    "ml": ("volume", Fraction(1, 1_000_000)),
    "m3/h": ("flow", Fraction(1)),
    "l/h": ("flow", Fraction(1, 1000)),
    "l/min": ("flow", Fraction(60, 1000)),
    "l/s": ("flow", Fraction(3600, 1000)),
    "s": ("time", Fraction(1)),
    "min": ("time", Fraction(60)),
    "h": ("time", Fraction(3600)),
    "1": ("number", Fraction(1)),
    "%": ("number", Fraction(1, 100)),
    "ppm": ("concentration", Fraction(1)),
    "ppb": ("concentration", Fraction(1, 1000)),
    "lx": ("illuminance", Fraction(1)),
    "dB": ("level", Fraction(1)),
    "%RH": ("humidity", Fraction(1)),
    "Cel": ("temperature", Fraction(1)),
    "K": ("temperature difference", Fraction(1)),
    "deg": ("angle", Fraction(1)),
}

SPOKEN = {"Cel": "°C", "m3": "m³", "m3/h": "m³/h", "%RH": "% RH", "1": ""}
"""how people write a unit, if they do not use its name"""
MEASURED = {
    "heat": N_("heat"),
    "cool": N_("cooling"),
    "cw": N_("cold water"),
    "dhw": N_("hot water"),
    "elec.imp": N_("electricity"),
    "elec.exp": N_("electricity (fed in)"),
    "gas": N_("gas"),
    "hca": N_("heat cost allocator"),
}
"""what a meter measures, by channel, before the word meter"""
EXACT = Context(prec=40, traps=[Inexact])


@cache
def units() -> dict[str, tuple[str, Fraction]]:
    """Return every unit by name: its dimension, and its size in the base unit of the dimension."""
    prefixed = {
        prefix + unit: (dimension, size * Fraction(10) ** power)
        for unit, (dimension, size) in PREFIXED.items()
        for prefix, power in PREFIXES.items()
    }
    return prefixed | PLAIN


def spoken(unit: str, *, shift: bool = False) -> str:
    """Return a unit as people write it. `shift`: of a difference; residents do not know K."""
    return SPOKEN.get("Cel" if shift and unit == "K" else unit, unit)


@cache
def factor(from_unit: str, to_unit: str) -> Decimal | None:
    """Return how many `to_unit` one `from_unit` is, exactly.

    None if that is not a finite decimal, if the dimensions differ, or if a unit is unknown.
    """
    if from_unit == to_unit:
        return Decimal(1) if from_unit in units() else None
    here, there = units().get(from_unit), units().get(to_unit)
    if here is None or there is None or here[0] != there[0]:
        return None
    return _exact(here[1] / there[1])


def _exact(ratio: Fraction) -> Decimal | None:
    for places in range(19):
        scaled = ratio * 10**places
        if scaled.denominator == 1:
            return Decimal(scaled.numerator).scaleb(-places)
    return None


@cache
def _rows() -> Mapping[str, dict[str, object]]:
    # not YAML, whose parser takes 1 MB and which the web page needs for nothing else
    return tomllib.loads(Path(__file__).with_name("channels.toml").read_text(encoding="utf-8"))


def _number(written: object) -> Decimal | None:
    return None if written is None else Decimal(str(written))


@cache
def channels() -> Mapping[str, Channel]:
    """Return every channel by name."""
    return MappingProxyType(
        {
            name: Channel(
                name=name,
                kind=ValueKind(str(row["kind"])),
                unit=str(row["unit"]),
                obis=str(row["obis"]) if "obis" in row else None,
                personal=bool(row["personal"]),
                least=_number(row.get("least")),
                most=_number(row.get("most")),
                jump=_number(row.get("jump")),
                en=None if row.get("en") is None else str(row["en"]),
                fr=None if row.get("fr") is None else str(row["fr"]),
                still=float(str(row["still"])) * 3600 if "still" in row else None,
            )
            for name, row in _rows().items()
        }
    )


@cache
def channel_of_quantity() -> Mapping[str, str]:
    """Return the name of the channel for each quantity that device profiles name."""
    return MappingProxyType(
        {
            str(quantity): name
            for name, row in _rows().items()
            for quantity in row.get("quantities", [])  # type: ignore[attr-defined]
        }
    )


def to_raw(point: Point, value: Decimal) -> Decimal:
    """The raw value to write so that the point has `value`. Raises Refused if there is none.

    It is never rounded: a command that is read back must be equal to what was ordered.
    """
    try:
        return EXACT.divide(value, point.scale)
    except Inexact:
        reason = f"{value} {point.unit} is not an exact multiple of the scale {point.scale}"
        raise Refused(
            "{device}/{name}: {reason}", device=point.device, name=point.name, reason=reason
        ) from None


def from_raw(point: Point, raw_value: Decimal) -> Decimal:
    """The value in the point's unit when its device holds `raw_value`."""
    return EXACT.multiply(raw_value, point.scale)


HOTTER, WITHOUT_FLOW = Decimal(1), Decimal(3)
"""K by which a heat meter's return is above its supply: more than two sensors of a pair may differ,
and more again where nothing tells whether water flows: standing water cools down unevenly
"""


def return_hotter(supply: Decimal, back: Decimal, flows: Sequence[Decimal]) -> bool | None:
    """Whether a heat meter's return is hotter than its supply. `flows`: its flow and power, if it
    gives them. None: this read does not tell, because nothing flows or the difference is small.
    """
    # with swapped sensors the power is negative, or 0 although water flows
    if flows and not any(flows):
        return None
    if back - supply >= (HOTTER if flows else WITHOUT_FLOW):
        return True
    return False if back <= supply else None

"""Guess what an object measures from its unit and its name, for a person to check. Pure."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.core.channels import channels
from agent.core.units import factor
from agent.drivers.bacnet.names import ENGINEERING_UNITS, NO_UNITS, OBJECTS, type_name, unit_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.drivers.bacnet.tags import ObjectId

VALUES = frozenset(
    OBJECTS[name]
    for name in (
        "analog-input", "analog-output", "analog-value", "binary-input", "binary-output",
        "binary-value", "multi-state-input", "multi-state-output", "multi-state-value",
        "accumulator", "pulse-converter", "integer-value", "positive-integer-value",
        "large-analog-value",
    )
)  # fmt: skip
"""types of objects whose value is a number"""

NAME_PATTERNS: tuple[tuple[str, str], ...] = (
    ("temp.supply", r"supply|flow temp|depart|vorlauf|\bvl\b|aller"),
    ("temp.return", r"return|retour|rucklauf|\brl\b"),
    ("elec.exp", r"elec.*(export|inject)|export.*elec|lieferung|einspeis"),
    ("elec.imp", r"\belec|strom"),
    ("dhw", r"dhw|ecs|hot water|eau chaude|warmwasser"),
    ("cw", r"cold water|eau froide|kaltwasser|\befs?\b"),
    ("gas", r"\bgas\b|\bgaz\b"),
    ("cool", r"cool|froid|kalte|chilled"),
    ("heat", r"heat|chal|chauff|warme|calor|thermi"),
    ("elec.exp", r"export|inject"),
    ("elec.imp", r"import|energ|kwh|soutir"),
)
"""channels by patterns of names, in French, German and English. The first match counts whose unit
fits too
"""
ONLY = {
    "Cel": "temp", "%RH": "rh", "ppm": "co2", "W": "elec.power", "V": "elec.voltage",
    "A": "elec.current", "Hz": "elec.frequency", "VA": "elec.apparent", "var": "elec.reactive",
}  # fmt: skip
"""channels by a unit, or a multiple of it, that hardly any other quantity has"""
MOST_NAMED = 5
"""objects that one warning names"""


class Thing(NamedTuple):
    """An object as its controller describes it."""

    object: ObjectId
    name: str
    description: str = ""
    units: int | None = None
    """the BACnet number of its engineering unit"""
    commandable: bool = False
    unscaled: str = ""
    """of an accumulator: why its scale could not be read; empty: it was"""


def unit_of(thing: Thing) -> str | None:
    """The object's unit in gardien's notation; None: gardien does not convert it."""
    return "1" if thing.units is None else ENGINEERING_UNITS.get(thing.units)


def channel_of(thing: Thing) -> str | None:
    """The probable channel of an object; None: not known."""
    unit = unit_of(thing)
    if unit is None or thing.units is None or thing.commandable:
        return None
    for channel in _named(thing):
        known = channels().get(channel)
        if known and factor(unit, known.unit) is not None:
            return channel
    return next(
        (name for unit_alone, name in ONLY.items() if factor(unit, unit_alone) is not None), None
    )


def _named(thing: Thing) -> list[str]:
    """The channels that the name and description of an object suggest, whatever its unit."""
    text = plain_words(f"{thing.name} {thing.description}")
    return [channel for channel, pattern in NAME_PATTERNS if re.search(pattern, text)]


def plain_words(text: str) -> str:
    """The text in lower case without accents, its words separated by single blanks."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return re.sub(r"[^a-z0-9]+", " ", "".join(c for c in plain if not unicodedata.combining(c)))


def slug(text: str, otherwise: str) -> str:
    """A name for the configuration, made from a text; `otherwise` if nothing of it is left."""
    return re.sub(r"[^a-z0-9]+", "-", plain_words(text)).strip("-")[:48] or otherwise


def name_of(reported: str, instance: int, taken: set[str]) -> str:
    """A name for a device in the configuration, unlike those in `taken`; it is added to them."""
    plain = slug(reported, f"bacnet-{instance}")
    name = plain if plain not in taken else f"{plain}-{instance}"
    taken.add(name)
    return name


def points(things: Iterable[Thing]) -> tuple[dict[str, Mapping[str, Any]], list[str]]:
    """The points of one device for the configuration, and warnings for a person.

    Each channel is given once; a second object of the same kind has none.
    """
    entries: dict[str, Mapping[str, Any]] = {}
    taken: dict[str, str] = {}
    warnings: list[str] = []
    unitless: list[str] = []
    for thing in things:
        if thing.units == NO_UNITS and not thing.commandable and _named(thing):
            unitless.append(f"{thing.name} ({_at(thing)})")
        channel, unit = channel_of(thing), unit_of(thing)
        if thing.object.type not in VALUES or (channel is None and not thing.commandable):
            continue
        written = _at(thing)
        name = slug(thing.name, written.replace(",", "-"))
        name = name if name not in entries else f"{name[:40]}-{thing.object.instance}"
        if channel in taken:
            warnings.append(f"{name} may be {channel} too, as {taken[channel]} is: choose one")
            channel = None
        entries[name] = {
            "at": written,
            **({"channel": channel} if channel else {}),
            "unit": unit or "1",
        }
        if unit is None and thing.units is not None:
            warnings.append(
                f"{name} is in {unit_name(thing.units)}, which gardien does not convert: orders for"
                " it are in that unit"
            )
        if thing.unscaled:
            warnings.append(
                f"{name}: its scale could not be read ({thing.unscaled}); without it gardien takes"
                " no value from it"
            )
        if channel:
            taken[channel] = name
    if unitless:
        more = f" and {len(unitless) - MOST_NAMED} more" if len(unitless) > MOST_NAMED else ""
        warnings.append(
            f"no units in the controller, so not proposed: {', '.join(unitless[:MOST_NAMED])}"
            f"{more}: find out their units, and add them with `channel` and `unit`"
        )
    return entries, warnings


def _at(thing: Thing) -> str:
    return f"{type_name(thing.object.type)},{thing.object.instance}"

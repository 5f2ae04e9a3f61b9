"""What objects measure: guessed from unit and name, and read from EDE files of integrators."""

from __future__ import annotations

import csv
import re
import unicodedata
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.core.errors import Refused
from agent.core.i18n import Text
from agent.core.quantities import channels, factor
from agent.drivers.bacnet.codec import (
    DEVICE,
    ENGINEERING_UNITS,
    NO_UNITS,
    OBJECTS,
    ObjectId,
    type_name,
    unit_name,
)
from agent.drivers.bacnet.settings import LAST_INSTANCE
from agent.drivers.base import Found

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

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
KEY, WHERE, NAME, KIND, INSTANCE = (
    "keyname", "device obj -instance", "object-name", "object-type", "object-instance",
)  # fmt: skip
DESCRIPTION, SETTABLE, UNIT = "description", "settable", "unit-code"
NEEDED = (WHERE, NAME, KIND, INSTANCE)
LAST_TYPE, LAST_UNIT = 1023, 65_535
YES = {"y", "yes", "1", "true", "j", "ja", "o", "oui"}


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


def points(things: Iterable[Thing]) -> tuple[dict[str, Mapping[str, Any]], list[Text]]:
    """The points of one device for the configuration, and warnings for a person.

    Each channel is given once; a second object of the same kind has none.
    """
    entries: dict[str, Mapping[str, Any]] = {}
    taken: dict[str, str] = {}
    warnings: list[Text] = []
    unitless: list[str] = []
    for thing in things:
        if thing.units == NO_UNITS and not thing.commandable and _named(thing):
            unitless.append(f"{thing.name} ({at_of(thing.object)})")
        channel, unit = channel_of(thing), unit_of(thing)
        if thing.object.type not in VALUES or (channel is None and not thing.commandable):
            continue
        written = at_of(thing.object)
        name = slug(thing.name, written.replace(",", "-"))
        name = name if name not in entries else f"{name[:40]}-{thing.object.instance}"
        if channel in taken:
            warnings.append(
                Text(
                    "{name} may be {channel} too, as {taken} is: choose one",
                    name=name,
                    channel=channel,
                    taken=taken[channel],
                )
            )
            channel = None
        entries[name] = {
            "at": written,
            **({"channel": channel} if channel else {}),
            "unit": unit or "1",
        }
        if unit is None and thing.units is not None:
            warnings.append(
                Text(
                    "{name} is in {units}, which gardien does not convert: orders for it are in"
                    " that unit",
                    name=name,
                    units=unit_name(thing.units),
                )
            )
        if thing.unscaled:
            warnings.append(
                Text(
                    "{name}: its scale could not be read ({unscaled}); without it gardien takes no"
                    " value from it",
                    name=name,
                    unscaled=thing.unscaled,
                )
            )
        if channel:
            taken[channel] = name
    if unitless:
        more = (
            Text(" and {number} more", number=len(unitless) - MOST_NAMED)
            if len(unitless) > MOST_NAMED
            else ""
        )
        warnings.append(
            Text(
                "no units in the controller, so not proposed: {names}{more}: find out their units,"
                " and add them with `channel` and `unit`",
                names=", ".join(unitless[:MOST_NAMED]),
                more=more,
            )
        )
    return entries, warnings


def at_of(of: ObjectId) -> str:
    """An object as `at` names it."""
    return f"{type_name(of.type)},{of.instance}"


def text_of(content: bytes) -> str:
    """The text of a file, in UTF-8 or in the Windows code page 1252."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def read(text: str, name: str) -> list[Found]:
    """The devices of an EDE file with their entries for the configuration, by instance number.

    An invalid line is left out, with a warning. Raises Refused if the file is not an EDE file or
    contains no objects.
    """
    columns, rows = _headed(text, name)
    devices: dict[int, list[Thing]] = {}
    names: dict[int, str] = {}
    wrong: list[str] = []
    for number, row in rows:
        cells = {column: row[at].strip() for column, at in columns.items() if at < len(row)}
        device, thing = _whole(cells.get(WHERE, ""), LAST_INSTANCE), _thing(cells)
        if device is None or thing is None:
            wrong.append(f"{name}:{number}")
        elif thing.object.type == DEVICE:
            names[device] = thing.name
        else:
            devices.setdefault(device, []).append(thing)
    if not devices:
        raise Refused("{name} contains no objects: take the EDE file that lists them", name=name)
    taken: set[str] = set()
    entries = [
        _device_entry(device, names.get(device, ""), devices[device], taken)
        for device in sorted(devices)
    ]
    return [_warned(entries[0], wrong), *entries[1:]]


def _headed(text: str, name: str) -> tuple[dict[str, int], Iterable[tuple[int, Sequence[str]]]]:
    """The columns by name, and the rows below the heading with their numbers."""
    # Tools and spreadsheets write different separators; a file has mostly the one it uses.
    separator = max(";,\t", key=text.count)
    rows = iter(enumerate(csv.reader(text.splitlines(), delimiter=separator), 1))
    for _, row in rows:
        columns = {_heading(cell): at for at, cell in enumerate(row)}
        if all(heading in columns for heading in NEEDED):
            return columns, _objects(rows)
    raise Refused(
        "{name} is not an EDE file: it has no heading (# keyname; device obj.-instance;"
        " object-name; object-type; object-instance)",
        name=name,
    )


def _heading(cell: str) -> str:
    return " ".join(cell.replace("#", " ").replace(".", " ").casefold().split())


def _objects(rows: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, Sequence[str]]]:
    for number, row in rows:
        if any(cell.strip() for cell in row) and not row[0].lstrip().startswith("#"):
            yield number, row


def _thing(cells: dict[str, str]) -> Thing | None:
    kind = cells.get(KIND, "").casefold()
    number = OBJECTS[kind] if kind in OBJECTS else _whole(kind, LAST_TYPE)
    instance = _whole(cells.get(INSTANCE, ""), LAST_INSTANCE)
    if number is None or instance is None:
        return None
    return Thing(
        ObjectId(number, instance),
        cells.get(NAME, "") or cells.get(KEY, ""),
        cells.get(DESCRIPTION, ""),
        _whole(cells.get(UNIT, ""), LAST_UNIT),
        cells.get(SETTABLE, "").casefold() in YES,
    )


def _whole(cell: str, most: int) -> int | None:
    return int(cell) if cell.isdecimal() and cell.isascii() and int(cell) <= most else None


def _device_entry(device: int, name: str, things: Sequence[Thing], taken: set[str]) -> Found:
    point_entries, warnings = points(things)
    rest = len(things) - len(point_entries)
    return Found(
        name=name_of(name, device, taken),
        entry={"address": str(device), **({"points": point_entries} if point_entries else {})},
        about=Text("{name} ({number})", name=name or Text("BACnet device"), number=str(device))
        + (Text(", {rest} further objects", rest=rest) if rest else ""),
        warnings=tuple(warnings),
        objects=tuple(_listed(thing) for thing in things),
    )


def _listed(thing: Thing) -> dict[str, Any]:
    """All that the file says of an object."""
    entry: dict[str, Any] = {"at": at_of(thing.object), "name": thing.name, "value": None}
    if thing.units is not None:
        entry["unit"] = unit_name(thing.units)
    if thing.description:
        entry["description"] = thing.description
    return entry | {"channel": channel_of(thing)}


def _warned(entry: Found, wrong: Sequence[str]) -> Found:
    if not wrong:
        return entry
    warning = Text("not understood and left out: {rows}", rows=", ".join(wrong[:10]))
    return replace(entry, warnings=(warning, *entry.warnings))

"""EDE files: the list of a plant's BACnet objects, as integrators deliver it ("Engineering Data
Exchange", BACnet Interest Group Europe, layout 2). Pure.
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from agent.core.errors import Refused
from agent.drivers.bacnet.guess import Thing, name_of, points
from agent.drivers.bacnet.names import DEVICE, OBJECTS
from agent.drivers.bacnet.notation import LAST_INSTANCE
from agent.drivers.bacnet.tags import ObjectId
from agent.drivers.base import Found

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

KEY, WHERE, NAME, KIND, INSTANCE = (
    "keyname", "device obj -instance", "object-name", "object-type", "object-instance",
)  # fmt: skip
DESCRIPTION, SETTABLE, UNIT = "description", "settable", "unit-code"
NEEDED = (WHERE, NAME, KIND, INSTANCE)
LAST_TYPE, LAST_UNIT = 1023, 65_535
YES = {"y", "yes", "1", "true", "j", "ja", "o", "oui"}


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
        raise Refused(f"{name} contains no objects: take the EDE file that lists them")
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
        f"{name} is not an EDE file: it has no heading (# keyname; device obj.-instance;"
        " object-name; object-type; object-instance)"
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
        about=f"{name or 'BACnet device'} ({device})"
        + (f", {rest} further objects" if rest else ""),
        warnings=tuple(warnings),
    )


def _warned(entry: Found, wrong: Sequence[str]) -> Found:
    if not wrong:
        return entry
    warning = f"not understood and left out: {', '.join(wrong[:10])}"
    return Found(entry.name, entry.entry, entry.about, (warning, *entry.warnings))

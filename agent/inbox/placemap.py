"""The CSV of a place map: `place_id;type;parent;label;scheme;value;valid_from;valid_to`.

Each line gives one alias of a place; a place without aliases has one line without scheme. Known
facts may be repeated. Occupancies are not part of it.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.core.errors import Refused
from agent.registry.inputs import NewAlias, NewPlace
from agent.registry.place import PLACES, parse
from agent.trust.claim_types import moment

if TYPE_CHECKING:
    from collections.abc import Collection

MOST_LINES = 25_000
"""lines of one map, which has 1 MiB at most"""
MOST_PLACES, MOST_NAMES = 60_000, 120_000
"""limits for the registry after a map is recorded"""
COLUMNS = ["place_id", "type", "parent", "label", "scheme", "value", "valid_from", "valid_to"]


@dataclass
class NewMap:
    """The rows of a map, for the registry."""

    places: list[NewPlace] = field(default_factory=list)
    names: list[NewAlias] = field(default_factory=list)


def read_map(text: str, name: str, known: Collection[str]) -> NewMap:
    """Read a map; `known`: ids of recorded places. Raises Refused with the wrong line."""
    lines = csv.reader(io.StringIO(text), delimiter=";", strict=True)
    place_map, seen = NewMap(), set(known)
    try:
        heading = next(lines, [])
        if heading != COLUMNS:
            raise Refused(f"{name}:1: a place map has the columns {';'.join(COLUMNS)}")
        for number, cells in enumerate(lines, start=2):
            if number > MOST_LINES + 1:
                raise Refused(f"{name}:{number}: a place map has {MOST_LINES:,} lines at most")
            if cells:
                _line(cells, f"{name}:{number}", place_map, seen)
    except csv.Error as error:
        raise Refused(f"{name}:{lines.line_num}: {error}") from None
    return place_map


def _line(cells: list[str], where: str, place_map: NewMap, seen: set[str]) -> None:
    if len(cells) != len(COLUMNS):
        raise Refused(f"{where}: {len(cells)} cells instead of {len(COLUMNS)}")
    id_, type_, _, label, scheme, value, since, until = cells
    try:
        place = parse(id_)
        begins, ends = _moment(since), _moment(until)
    except (Refused, ValueError) as error:
        raise Refused(f"{where}: {error}") from None
    if type_ not in {place[0], PLACES[place[0]]}:
        raise Refused(f"{where}: {id_} is a {PLACES[place[0]]}, not a {type_}")
    if place not in seen:
        place_map.places.append(
            NewPlace(label, PLACES[place[0]], place, occupied=False, where=where)
        )
        seen.add(place)
    if scheme:
        place_map.names.append(NewAlias(place, scheme, value, begins, ends, where=where))


def _moment(text: str) -> int | None:
    return moment(text) if text else None

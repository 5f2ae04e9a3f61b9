"""Lots of dwellings (flat, cellar, parking space), as in the manager's list. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from agent.registry.fields import TYPES
from agent.registry.inputs import NewAlias
from agent.registry.labels import label_key
from agent.registry.records import covers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.registry.records import Alias, Place
    from agent.registry.sheet import SheetRow

PARTS = {
    "cave", "cellier", "cellar", "storage", "parking", "parking space", "stationnement", "garage",
    "box", "place de parking", "emplacement", "jardin", "garden", "grenier", "attic",
}  # fmt: skip
"""types of lots in which nobody lives; each belongs to the dwelling with the label of its row"""


def of_types(
    lines: Sequence[SheetRow], types: Sequence[str]
) -> tuple[list[SheetRow], dict[str, int]]:
    """The rows of these types, and the number of rows of each other type; no types: all rows.

    `dwelling` and `appartement` are the same type, as are other synonyms.
    """
    wanted = {_kind(word) for word in types}
    taken: list[SheetRow] = []
    left: Counter[str] = Counter()
    for line in lines:
        type_ = line.cells.get("type", "")
        if wanted and _kind(type_) not in wanted:
            left[type_] += 1
        else:
            taken.append(line)
    return taken, dict(left)


def split_lots(lines: Iterable[SheetRow]) -> tuple[list[SheetRow], list[NewAlias]]:
    """The rows that are places, and the lots of all rows as aliases of the place with their
    label.
    """
    places: list[SheetRow] = []
    parts: list[NewAlias] = []
    for line in lines:
        type_ = line.cells.get("type", "")
        part = _plain(type_) in PARTS
        if not part:
            places.append(line)
        lot = line.cells.get("lot", "")
        if lot or part:
            fault = "" if lot else f"lot: a {type_} is known by its lot number"
            label = line.cells.get("label", "")
            part_type = type_ if part else ""
            parts.append(
                NewAlias(
                    label, "fr.lot", lot, note=type_, part=part_type, where=line.where, fault=fault
                )
            )
    return places, parts


def known(
    places: Iterable[Place], aliases: Iterable[Alias], parts: Iterable[NewAlias], now: float
) -> int:
    """How many of these lots are recorded for their dwelling already."""
    labels = {place.id: label_key(place.label) for place in places}
    named = {
        (labels[alias.place], _plain(alias.value))
        for alias in aliases
        if alias.scheme == "fr.lot" and covers(alias, int(now))
    }
    return sum((label_key(part.place), _plain(part.value)) in named for part in parts)


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _kind(type_text: str) -> str:
    plain = _plain(type_text)
    return TYPES.get(plain, plain)

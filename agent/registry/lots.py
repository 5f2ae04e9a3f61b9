"""A list of lots as a syndic's software exports it: labels, types, what is no dwelling. Pure.

Nothing is decided silently: what is left out or recorded otherwise is in the result, with the line.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING

from agent.core.clock import stamp
from agent.core.errors import Refused
from agent.core.i18n import N_, Text
from agent.registry import parsers
from agent.registry.facts.place import PEOPLE, WHERE
from agent.registry.inputs import NewAlias
from agent.registry.labels import label_key
from agent.registry.records import covers
from agent.registry.sheet import SheetRow, plain
from agent.registry.words import GROUND, PLACES, VACANT, LotKind, kind_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from agent.registry.records import Alias, Place

PARTS = tuple(column.name for column in WHERE)
NAMES = ("occupant", "tenant")
DWELLING = frozenset(("dwelling", "place"))
"""columns that name the dwelling of a row"""
LEASE = frozenset(("reference", "since", "until"))
"""columns of which a row of a list of leases has at least one"""
NO_END = re.compile(r"(?<![0-9])(2[1-9]|[3-9][0-9])[0-9]{2}(?![0-9])")
"""a year that means that there is no end: 31/12/2999"""
YEAR = re.compile(r"(?<![0-9])(1[89][0-9]{2})(?![0-9])")
EARLIEST, NO_DATE = "2000-01-02", 1920
"""the first day that is recorded; an earlier year than the second is a placeholder: 01/01/1900"""
SECTION = re.compile(r"(bat|batiment|immeuble|tour|bloc|escalier|esc|cage|montee) (\S{1,10})\b")
"""a row above those of one building or staircase, as `plain` makes it"""
STAIRS = frozenset(("escalier", "esc", "cage", "montee"))
TITLES = frozenset((
    "bat", "batiment", "bloc", "tour", "escalier", "esc", "cage", "montee", "porte", "appartement",
    "appt", "apt", "logement", "n", "no", "numero",
))  # fmt: skip
"""words before the name of a building, staircase or door"""
RANGE = re.compile(r"[0-9]+\s*-\s*[0-9]+", re.ASCII)
SEPARATE = re.compile(r"\s*(?:[,;/+&]|\bet\b|\band\b)\s*")


class Left(StrEnum):
    """Why a row is not imported."""

    NOTE = "note"
    OTHER = "other"
    NO_DWELLING = "no_dwelling"
    NO_LOT = "no_lot"
    NO_LEASE = "no_lease"


class Remark(StrEnum):
    """How a row is recorded otherwise than it is written."""

    VACANT = "vacant"
    LEFT = "left"
    NOBODY = "nobody"
    OWNER = "owner"
    EARLY = "early"
    NO_DATE = "no_date"
    LEAVES = "leaves"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that is not imported."""

    where: str
    what: str
    """its type and lot, or its text"""
    why: Left


@dataclass(slots=True)
class Lots:
    """What a list of lots says, for the registry and for people."""

    places: list[SheetRow] = field(default_factory=list)
    parts: list[NewAlias] = field(default_factory=list)
    left: list[LeftOut] = field(default_factory=list)
    remarks: list[tuple[str, Remark]] = field(default_factory=list)
    """label of a dwelling, and how it is recorded otherwise"""
    made_of: tuple[str, ...] = ()
    """the columns of which the labels are made; empty: there is a column for labels"""
    not_taken: Counter[str] = field(default_factory=Counter)
    """rows of types that were not asked for"""


def read(
    rows: Iterable[SheetRow],
    present: Collection[str],
    types: Sequence[str],
    known: Collection[str],
    today: str,
) -> Lots:
    """What the rows of a list say. `present`: the columns of the list; `types`: only rows of these
    (`dwelling` and `appartement` are the same); `known`: keys of the labels that are recorded;
    `today`: as in `2026-05-12`.
    """
    lots = Lots()
    lines = list(_with_sections(rows, present))
    typed = all(kind_of(one.cells.get("label", "")) for one in _entries(lines))
    if "label" in present and {*PARTS} & {*present} and typed:
        # a column `Désignation` that says `Appartement` and `Cave`
        present = [*(name for name in present if name != "label"), "nature"]
        lines = [_renamed(one, "label", "nature") for one in lines]
    if "label" not in present:
        used = [name for name in PARTS if any(name in one.cells for one in lines)]
        lots.made_of = tuple(used or ["lot"])
    wanted = {_kind(word) for word in types}
    entries: list[tuple[SheetRow, LotKind | None]] = []
    for line in lines:
        if line.note:
            lots.left.append(LeftOut(line.where, line.note, Left.NOTE))
            continue
        row, kind = _typed(line if "label" in present else with_label(line, "label"))
        type_ = row.cells.get("type", "")
        if wanted and not wanted & {_kind(type_), kind}:
            lots.not_taken[type_] += 1
        else:
            entries.append((row, kind))
    dwellings = {label_key(row.cells.get("label", "")) for row, kind in entries if _lived_in(kind)}
    owned = "owner" in present and not {*NAMES} & {*present}
    for row, kind in entries:
        if kind is LotKind.OTHER and not row.fault:
            lots.left.append(LeftOut(row.where, _shown(row), Left.OTHER))
        elif kind is LotKind.PART and not row.fault:
            _add_part(lots, row, dwellings | {*known})
        else:
            lots.places.append(_occupied(lots, row, kind, present, today, owned=owned))
            lots.parts += _aliases(row, "")
    lots.left.sort(key=lambda row: int(row.where.rpartition(":")[2]))
    return lots


def required_in(columns: Sequence[str], present: Collection[str]) -> list[str]:
    """The columns that a list of meters or leases must have: building, floor and door may stand for
    the dwelling.
    """
    whereabouts = {*PARTS} & {*present}
    return [name for name in columns if not (whereabouts and name in DWELLING)]


def of_dwellings(
    lines: Iterable[SheetRow], columns: Sequence[str], present: Collection[str]
) -> tuple[list[SheetRow], list[LeftOut]]:
    """The entries of a list of meters or leases, each with its dwelling, and the other rows.
    `columns`: those that the list must have.
    """
    column = next((name for name in columns if name in DWELLING), "")
    made = column and column not in present and {*PARTS} & {*present}
    entries: list[SheetRow] = []
    left: list[LeftOut] = []
    for line in lines:
        row = with_label(line, column) if made and not line.note else line
        kinds = {kind_of(row.cells.get(name, "")) for name in ("nature", "type")}
        dwelling = row.cells.get(column, "")
        if row.note:
            left.append(LeftOut(row.where, row.note, Left.NOTE))
        elif not row.fault and kinds & {LotKind.PART, LotKind.OTHER}:
            left.append(LeftOut(row.where, _shown(row) or dwelling, Left.NO_LEASE))
        elif not row.fault and "reference" in columns and not LEASE & row.cells.keys():
            left.append(LeftOut(row.where, dwelling, Left.NO_LEASE))
        else:
            entries.append(row)
    return entries, left


def _entries(lines: Iterable[SheetRow]) -> list[SheetRow]:
    return [line for line in lines if not line.note and not line.fault]


def _lived_in(kind: LotKind | None) -> bool:
    return kind not in {LotKind.PART, LotKind.OTHER}


def _kind(written: str) -> str:
    """A type as `--only` compares it: `appartement` and `logement` are one, `T2` is another."""
    known = PLACES.find(written)
    return LotKind(known) if known else plain(written)


def _renamed(line: SheetRow, old: str, new: str) -> SheetRow:
    return replace(line, cells={new if name == old else name: c for name, c in line.cells.items()})


def _with_sections(rows: Iterable[SheetRow], present: Collection[str]) -> Iterable[SheetRow]:
    """The rows, with the building or staircase that a row above them names."""
    section: dict[str, str] = {}
    for row in rows:
        if row.note and (match := SECTION.match(plain(row.note))):
            column = "staircase" if match[1] in STAIRS else "building"
            if column == "building":
                section = {}
            if column not in present:
                section[column] = match[2].upper()
        yield replace(row, cells={**section, **row.cells}) if section and row.cells else row


def _typed(row: SheetRow) -> tuple[SheetRow, LotKind | None]:
    """The row with one type, of its columns `type` and `nature`; and what that is."""
    texts = [text for name in ("nature", "type") if (text := row.cells.get(name))]
    kinds = {kind: text for text in texts if (kind := kind_of(text))}
    if len(kinds) > 1:
        contradiction = ", ".join(f'"{text}"' for text in texts)
        fault = Text("type: the row says {words}, which contradict each other", words=contradiction)
        return replace(row, fault=row.fault or fault), None
    kind, text = next(iter(kinds.items()), (None, texts[0] if texts else ""))
    return replace(row, cells={**row.cells, "type": text} if text else row.cells), kind


def with_label(line: SheetRow, column: str) -> SheetRow:
    """The row with a label made of its building, staircase, floor and door: A-2-3-12. Without a
    door, or without all of these, the lot is part of the label.
    """
    cells = line.cells
    names = {name: _bare(name, cells[name]) for name in PARTS if name in cells}
    for name in names:
        # a door such as 3-1
        if fault := parsers.made_a_date(cells[name], name):
            return replace(line, fault=line.fault or fault)
    parts = [word for word in names.values() if word]
    if "door" not in names and (lot := cells.get("lot")):
        parts.append(f"lot {lot}")
    label = "-".join(parts)
    return replace(line, cells={**cells, column: label}) if label else line


@lru_cache(maxsize=1000)
def _bare(column: str, written: str) -> str:
    """A part of a label: `A` of `Bâtiment A`, `3` of `3ème étage`, `12` of `Porte n° 012`."""
    text = plain(written)
    if column == "floor":
        text = text.replace("etage", "").strip()
        if text in GROUND:
            return "RDC"
        if number := re.fullmatch(r"(?:r )?([0-9]{1,2}) ?(?:er|ere|e|eme|nd|nde|st|rd|th)?", text):
            # a minus sign is no part of `text`: the cellar is not the first floor
            return f"{'-' * written.strip().startswith('-')}{int(number[1])}"
        return "".join(written.split())
    rest = text.split()
    while len(rest) > 1 and rest[0] in TITLES:
        del rest[0]
    name = "".join(rest) if len(rest) < len(text.split()) else "".join(written.split())
    return str(int(name)) if re.fullmatch("[0-9]{1,6}", name, re.ASCII) else name.upper()


def _shown(row: SheetRow) -> str:
    lot = row.cells.get("lot", "")
    return ", ".join(filter(None, [row.cells.get("type", ""), lot and f"lot {lot}"]))


def _add_part(lots: Lots, row: SheetRow, dwellings: Collection[str]) -> None:
    if "lot" not in row.cells:
        lots.left.append(LeftOut(row.where, _shown(row), Left.NO_LOT))
    elif label_key(row.cells.get("label", "")) not in dwellings:
        lots.left.append(LeftOut(row.where, _shown(row), Left.NO_DWELLING))
    else:
        lots.parts += _aliases(row, row.cells["type"])


def _aliases(row: SheetRow, part: str) -> list[NewAlias]:
    """The lots of a row, as aliases of the place with its label."""
    label, type_ = row.cells.get("label", ""), row.cells.get("type", "")
    return [
        NewAlias(label, "fr.lot", lot, note=type_, part=part, where=row.where, fault=_range(lot))
        for lot in SEPARATE.split(row.cells.get("lot", ""))
        if lot
    ]


def _range(lot: str) -> str:
    """The fault of `12-14`, which may be one lot, two or three."""
    if not RANGE.fullmatch(lot):
        return ""
    return Text('lot: "{lot}" may be one lot or several: write 12, 13, 14', lot=lot)


def _occupied(  # noqa: PLR0913 -- what a row says about its occupants
    lots: Lots,
    row: SheetRow,
    kind: LotKind | None,
    present: Collection[str],
    today: str,
    *,
    owned: bool,
) -> SheetRow:
    """The row without a date `since` that is not that of the present occupants."""
    if row.fault or kind not in {LotKind.DWELLING, None}:
        return row
    cells, label = dict(row.cells), row.cells.get("label", "")
    named = [name for name in NAMES if name in present]
    why: Remark | None = None
    if any(VACANT.find(cells.get(column.name, "")) for column in PEOPLE):
        why = Remark.VACANT
    elif "since" in cells and owned:
        why = Remark.OWNER
    elif "since" in cells and named and not any(name in cells for name in named):
        why = Remark.NOBODY
    elif (until := cells.get("until", "")) and not NO_END.search(until):
        why = Remark.LEFT if _day(until) <= today else Remark.LEAVES
    if why:
        lots.remarks.append((label, why))
    if why not in {None, Remark.LEAVES}:
        cells.pop("since", None)
    cells, early = dated(cells)
    if early:
        lots.remarks.append((label, early))
    return replace(row, cells=cells)


def dated(cells: Mapping[str, str]) -> tuple[dict[str, str], Remark | None]:
    """The cells with a `since` that can be recorded, and how it differs."""
    since = cells.get("since", "")
    year = YEAR.search(since)
    if year is None:
        # a day later in UTC, in which the earliest day is counted
        early = _day(since) == "2000-01-01"
        return {**cells, **({"since": EARLIEST} if early else {})}, Remark.EARLY if early else None
    if int(year[1]) < NO_DATE:
        return {name: cell for name, cell in cells.items() if name != "since"}, Remark.NO_DATE
    return {**cells, "since": EARLIEST}, Remark.EARLY


def _day(written: str) -> str:
    """The day that a cell states, as `2026-05-12`; a cell that is no date is later than all."""
    try:
        at = parsers.when(written, "UTC")
    except Refused:
        return "9999"
    return stamp(at)[:10] if at is not None else "9999"


def known_lots(
    places: Iterable[Place], aliases: Iterable[Alias], parts: Iterable[NewAlias], now: float
) -> int:
    """How many of these lots are recorded for their dwelling already."""
    labels = {place.id: label_key(place.label) for place in places}
    named = {
        (labels[alias.place], alias.value)
        for alias in aliases
        if alias.scheme == "fr.lot" and covers(alias, int(now))
    }
    return sum((label_key(part.place), part.value.lstrip("0")) in named for part in parts)


def unconfirmed(name: str, lots: Lots, made_of: Sequence[str]) -> Refused:
    """The refusal of a list of which a person has to see first what gardien makes of it. `made_of`:
    the headings of the columns of which labels are made.
    """
    return Refused(
        N_(
            "{name}: nothing was recorded, because a person must confirm it first. Rows left out:"
            " {left}; dwellings recorded otherwise than the list says: {changed}; labels made of:"
            " {made_of}. To see them: gardien place import {name} --preview. If they are right, add"
            " --yes"
        ),
        name=name,
        left=str(len(lots.left)),
        changed=str(len(lots.remarks)),
        made_of=", ".join(made_of) or "-",
    )

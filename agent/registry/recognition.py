"""A syndic's own sheet of dwellings and meters: what each column means, and our lists made of it.

Pure. Each row keeps its line number, so that a refusal names the line of the syndic's file.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, NamedTuple

from agent.core.i18n import N_
from agent.registry import sheet
from agent.registry.facts import meter, place
from agent.registry.facts.declaration import columns
from agent.registry.sheet import plain
from agent.registry.words import CHANNELS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

DWELLING, SERIAL, INPUT = "dwelling", "serial", "input"
OF = "serial of "
"""before a channel: the serial numbers of the dwelling's meter for it"""
MEANINGS: Mapping[str, str] = {
    DWELLING: N_("dwelling"),
    "lot": N_("lot number"),
    "building": N_("block (Bât.)"),
    "staircase": N_("staircase"),
    "floor": N_("floor"),
    "door": N_("door"),
    "type": N_("type of lot"),
    "nature": N_("type of lot (words of the syndic)"),
    "area_m2": N_("living area"),
    "since": N_("since when (occupants, or meter)"),
    "occupant": N_("occupant (not kept)"),
    SERIAL: N_("serial number of the meter"),
    INPUT: N_("input of the pulse collector"),
    "channel": N_("what the meter measures"),
    f"{OF}heat": N_("serial number of the heat meter"),
    f"{OF}cw": N_("serial number of the cold water meter"),
    f"{OF}dhw": N_("serial number of the hot water meter"),
    f"{OF}elec.imp": N_("serial number of the electricity meter"),
    f"{OF}gas": N_("serial number of the gas meter"),
    "multiplier": N_("factor of the meter"),
    "index": N_("index when the meter was installed"),
}
"""what a column may mean, as people read it"""
PLACE = ("lot", "building", "staircase", "floor", "door")
"""columns that say of which dwelling a row is, beside its name"""
METERS = {"compteur", "compteurs", "cpt", "meter", "serie", "serial", "matricule", "module"}
INPUTS = {"entree impulsion", "voie", "voie impulsion", "entree module", "input", "pulse input"}
HOMES = {"appartement", "appt", "apt", "logement", "dwelling", "flat", "label"}
SHORT = {"efs": "cw", "ef": "cw", "ecs": "dhw", "ec": "dhw", "elec": "elec.imp", "cet": "heat",
         "calorifique": "heat", "thermique": "heat", "calories": "heat"}  # fmt: skip


class Column(NamedTuple):
    """One column of a syndic's sheet."""

    heading: str
    meaning: str
    """one of MEANINGS; empty: it is not read"""
    example: str


class Lists(NamedTuple):
    """Our lists, made of a syndic's sheet."""

    places: str | None
    """None: the sheet names no dwelling"""
    meters: tuple[str, ...]
    """one for each column with serial numbers"""


def known_headings() -> dict[str, str]:
    """All headings that we know, with our names; by them the line of headings is found."""
    return {**columns((*meter.SHEET, *place.SHEET, *place.LOTS)), **dict.fromkeys(INPUTS, INPUT)}


def recognised(text: str, name: str, remembered: Mapping[str, str]) -> list[Column]:
    """The columns of a sheet. `remembered`: meanings that a person confirmed before, by plain
    heading. Raises Refused.
    """
    _, first, below = sheet.rows(text, name, known_headings())
    examples = [""] * len(first)
    for _, row in below:
        for at, cell in enumerate(row[: len(first)]):
            examples[at] = examples[at] or cell
        if all(examples):
            break
    made, taken = list[Column](), set[str]()
    for heading, example in zip(first, examples, strict=True):
        meaning = remembered.get(plain(heading), _meaning(heading))
        meaning = meaning if meaning in MEANINGS and meaning not in taken else ""
        taken.add(meaning)
        made.append(Column(heading, meaning, example))
    # a door alone is the name of the dwelling
    alone = taken & {DWELLING, *PLACE} == {"door"}
    return [
        one._replace(meaning=DWELLING) if alone and one.meaning == "door" else one for one in made
    ]


def _meaning(heading: str) -> str:
    text = plain(heading)
    parts = set(text.split())
    # before the headings of our own lists: `Compteur chauffage` names the channel as well
    if parts & METERS and (channel := _channel(text, parts)):
        return f"{OF}{channel}"
    known = {plain(each): ours for each, ours in known_headings().items()}
    if ours := known.get(text):
        return {"label": DWELLING, "tenant": "occupant"}.get(ours, ours)
    if parts & METERS and (parts & {"n", "no", "num", "numero"} or text.startswith("compteur")):
        return SERIAL
    return DWELLING if parts & HOMES and not parts & METERS else ""


def _channel(text: str, parts: Iterable[str]) -> str:
    """The channel that a heading names."""
    for channel in ("cw", "dhw", "heat", "elec.imp", "gas"):
        terms = [plain(term) for term in CHANNELS.terms[channel]]
        if any(f" {term} " in f" {text} " for term in terms):
            return channel
    return next((SHORT[part] for part in parts if part in SHORT), "")


def lists(text: str, name: str, meanings: Sequence[str]) -> Lists:
    """Our lists of dwellings and of meters, made of a sheet whose columns have these meanings."""
    line, _, below = sheet.rows(text, name, known_headings())
    rows = [
        (number, {ours: cell for ours, cell in zip(meanings, row, strict=False) if ours and cell})
        for number, row in below
    ]
    names = set(meanings) - {""}
    where = [one for one in (DWELLING, *PLACE) if one in names]
    if not where:
        return Lists(None, ())
    serials = [one for one in meanings if one == SERIAL or one.startswith(OF)]
    return Lists(
        _places(line, rows, names, where, long=bool(serials)),
        tuple(_meters(line, rows, names, where, one) for one in serials),
    )


Rows = list[tuple[int, dict[str, str]]]


def _places(line: int, rows: Rows, names: set[str], where: Sequence[str], *, long: bool) -> str:
    more: list[str] = [one for one in ("type", "nature", "area_m2", "occupant") if one in names]
    # in a list of meters, `since` is the date of the meter
    more += ["since"] * ("since" in names and not long)
    fixed = not names & {"type", "nature"}
    titles = ["label" if one == DWELLING else one for one in (*where, *more)] + ["type"] * fixed
    made, seen = [(line, titles)], set[tuple[str, ...]]()
    for number, row in rows:
        cells = [row.get(one, "") for one in (*where, *more)]
        key = tuple(cells[: len(where)])
        # a list of meters has a row for each meter of a dwelling
        if any(key) and not (long and key in seen):
            made.append((number, cells + ["dwelling"] * fixed))
        seen.add(key)
    return _csv(made)


def _meters(line: int, rows: Rows, names: set[str], where: Sequence[str], serial: str) -> str:
    channel = serial.removeprefix(OF) if serial.startswith(OF) else ""
    more = [one for one in ("channel", "multiplier", "since", "index") if one in names]
    if channel:
        more = [one for one in more if one == "since"]
    titles = ["serial", *where, *more] + ["channel"] * bool(channel)
    made = [(line, titles)]
    for number, row in rows:
        if number_of_meter := row.get(serial, ""):
            if serial == SERIAL and INPUT in row:
                number_of_meter += f"/{row[INPUT]}"
            cells = [row.get(one, "") for one in (*where, *more)]
            made.append((number, [number_of_meter, *cells, *[channel] * bool(channel)]))
    return _csv(made)


def _csv(rows: Iterable[tuple[int, list[str]]]) -> str:
    """The rows as CSV, each on its own line number."""
    table, at = io.StringIO(), 1
    writer = csv.writer(table, delimiter=";", lineterminator="\n")
    for number, cells in rows:
        table.write("\n" * (number - at))
        writer.writerow(cells)
        at = number + 1
    return table.getvalue()

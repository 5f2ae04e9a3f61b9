"""Tables that people keep in a spreadsheet, with a line number in every complaint.

Headings may be French or English, with or without accents. Columns that are none of ours, such as
names and telephones, are not read: `unread` says which.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.errors import Refused
from agent.registry.problems import Problems, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SEPARATORS = ";,\t"
STRANGE = "?"
"""the name of a column that is not read"""


@dataclass(frozen=True, slots=True)
class Line:
    """One row, by the names of its columns; empty cells are absent."""

    where: str
    """`places.csv:17`"""
    cells: Mapping[str, str]
    fault: str = ""
    """why the row cannot be read, for people; empty: it can"""


def read(text: str, name: str, columns: Mapping[str, str], required: Sequence[str]) -> list[Line]:
    """Rows of a table separated by semicolons, commas or tabs.

    `columns` maps each heading a person may write, in lower case, to our name for it; `required`
    are names of ours. Raises Refused on a heading that is misspelt, double or missing, and on a
    file without rows; a row that is wrong comes back with its `fault`.
    """
    first, rows = _headed(text.removeprefix("\ufeff"), name)
    names = _names(first, name, columns, required)
    lines = [_line(f"{name}:{number}", row, names) for number, row in rows if any(row)]
    if not lines:
        raise Refused(f"{name}: there is no line below the headings")
    return lines


def unread(text: str, name: str, columns: Mapping[str, str]) -> list[str]:
    """The headings whose columns are not read."""
    first, _ = _headed(text.removeprefix("\ufeff"), name)
    known = {plain(heading) for heading in columns}
    return [heading for heading in first if heading and plain(heading) not in known]


def plain(heading: str) -> str:
    """A heading as it is compared: `N° de Série` is `n de serie`."""
    bare = unicodedata.normalize("NFD", heading.casefold().replace("°", " "))
    letters = "".join(c if c.isalnum() else " " for c in bare if not unicodedata.combining(c))
    return " ".join(letters.split())


def _headed(text: str, name: str) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    head = text.partition("\n")[0]
    separator = max(SEPARATORS, key=head.count)
    rows = _numbered(text, separator, name)
    _, first = next(rows, (1, []))
    if not any(first):
        raise Refused(f"{name}:1: the first line must be the headings; it is empty")
    return first, rows


def _numbered(text: str, separator: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """Rows with the line on which each begins: a quoted cell may span several."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    begins = 1
    try:
        for row in reader:
            yield begins, [cell.strip() for cell in row]
            begins = reader.line_num + 1
    except csv.Error as error:
        raise Refused(f"{name}:{begins}: from here on this is no table ({error})") from error


def _names(
    first: list[str], name: str, columns: Mapping[str, str], required: Sequence[str]
) -> list[str]:
    problems, names = Problems(), []
    known = {plain(heading): ours for heading, ours in columns.items()}
    said = {known.get(plain(heading)) for heading in first}
    open_ones = [heading for heading, ours in columns.items() if ours not in said]
    for heading in first:
        ours = known.get(plain(heading), STRANGE if heading else "")
        if ours == STRANGE:
            if near := did_you_mean(heading, open_ones):
                problems.add(f"{name}:1", f'there is no column "{heading}"{near}')
        elif ours in names and ours:
            problems.add(f"{name}:1", f'a second column says "{ours}": "{heading}"')
        names.append(ours)
    for missing in [each for each in required if each not in names]:
        problems.add(f"{name}:1", f'the column "{missing}" is missing')
    problems.settle()
    return names


def _line(where: str, row: list[str], names: list[str]) -> Line:
    beyond = [cell for cell in row[len(names) :] if cell]
    beyond += [cell for cell, ours in zip(row, names, strict=False) if cell and not ours]
    if beyond:
        fault = f'"{beyond[0]}" stands under no heading; quote a cell that contains a separator'
        return Line(where, {}, fault)
    cells = zip(names, row, strict=False)
    return Line(where, {ours: cell for ours, cell in cells if cell and ours != STRANGE})

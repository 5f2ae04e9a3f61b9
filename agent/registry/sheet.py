"""Tables that people keep in a spreadsheet: UTF-8 CSV, with a line number in every complaint."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.errors import Refused
from agent.registry.problems import Problems, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SEPARATORS = ";,\t"


@dataclass(frozen=True, slots=True)
class Line:
    """One row, by the names of its columns; empty cells are absent."""

    where: str
    """`places.csv:17`"""
    cells: Mapping[str, str]
    fault: str = ""
    """why the row cannot be read, for people; empty: it can"""


def decode(content: bytes, name: str) -> str:
    """Read a file's bytes as UTF-8. Raises Refused, naming the line that is not."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Refused(f'{name}:{line}: this is not UTF-8; save it as "CSV UTF-8"') from error


def read(text: str, name: str, columns: Mapping[str, str], required: Sequence[str]) -> list[Line]:
    """Rows of a table separated by semicolons, commas or tabs.

    `columns` maps each heading a person may write, in lower case, to our name for it; `required`
    are names of ours. Raises Refused on a heading that is unknown, double or missing, and on a
    file without rows; a row that is wrong comes back with its `fault`.
    """
    first, rows = _headed(text.removeprefix("\ufeff"), name)
    names = _names(first, name, columns, required)
    lines = [_line(f"{name}:{number}", row, names) for number, row in rows if any(row)]
    if not lines:
        raise Refused(f"{name}: there is no line below the headings")
    return lines


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
    for heading in first:
        ours = columns.get(heading.casefold(), "")
        if heading and not ours:
            problems.add(
                f"{name}:1", f'there is no column "{heading}"{did_you_mean(heading, columns)}'
            )
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
    return Line(where, {ours: cell for ours, cell in zip(names, row, strict=False) if cell})

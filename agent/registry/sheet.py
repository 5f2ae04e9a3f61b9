"""Tables from spreadsheet programs: their rows, and all faults with their line."""

from __future__ import annotations

import csv
import re
import unicodedata
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import chain, islice
from typing import TYPE_CHECKING

from agent.core.errors import Refused
from agent.core.i18n import Text, joined
from agent.registry.facts.declaration import UNRELATED

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

MOST_FAULTS = 20
"""faults that are shown; further ones are only counted"""
SEPARATORS = ";,\t"
SEPARATOR_NAMES = {";": Text("semicolons"), ",": Text("commas"), "\t": Text("tabs")}
A_ROW = 3
"""parts of a cell that are taken for a row with another separator"""
STRANGE = "?"
"""name of a column that is not read"""
ABOVE = 20
"""lines in which the headings are searched: a title may precede them"""
LONGEST_HEAD = 20_000
"""characters of a line that are searched for headings"""
LINE = re.compile(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+")
LONGEST_LINE = 1_000_000
SURE = 2
"""headings that a line other than the first must have to be taken for the line of headings"""
MOST_HINTS = 13
"""words that a refusal lists"""
MOST, LONG = 6, 24
"""number of headings, and characters of each, that a message shows"""
EXACTLY = frozenset({"lease", "bail"})
"""headings that unrelated columns resemble (Mail, Bailleur, Base), so no similar one is
suggested
"""
BLANKS = str.maketrans("\u00a0\u202f", "  ")
WRONG = re.compile(
    r"#(REF|N/A|NAME|VALUE|DIV/0|NUM|NULL|NOM|VALEUR|NOMBRE|NUL)[!?]?|Err:5[0-9]{2}", re.ASCII
)
"""what a cell shows if its formula failed"""
TOTAL = re.compile(
    r"(sous )?tota(l|ux)\b|nombre de |page [0-9]|edite |edition du |imprime |date d edition"
)
"""begin of a row that sums up others, or of a footer, as `plain` makes it"""
LONGEST_NOTE = 80
ONE_LETTER = 0.8
"""how similar a heading is to one of ours if a letter is wrong"""
NO_END = "unexpected end of data"
"""message of the csv module for an unterminated quote"""


MOST_ROWS = 60_000
MOST_COLUMNS = 256
MOST_CELLS = 1_500_000
"""of all rows, without empty cells at the end of each"""


class Problems:
    """Collects faults, so that people can correct a file in one go."""

    def __init__(self) -> None:
        self._problems: list[str] = []

    def __len__(self) -> int:
        return len(self._problems)

    def add(self, where: str, what: str | Exception) -> None:
        """Note one fault; `where` is `places.csv:17`, or empty for a command."""
        text = Text("{what}", what=what)
        self._problems.append(Text("{where}: {what}", where=where, what=text) if where else text)

    def settle(self) -> None:
        """Raise Refused with the first 20 faults, one per line, if there are any."""
        if not self._problems:
            return
        shown = self._problems[:MOST_FAULTS]
        if len(self._problems) > MOST_FAULTS:
            shown.append(Text("… and {number} more", number=len(self._problems) - MOST_FAULTS))
        raise Refused(joined("\n", shown))


def unrecorded(text: Text) -> Text:
    """The text of a refusal; its last line says that nothing was recorded."""
    return joined("\n", [text, Text("nothing was recorded")])


def cause(text: Text) -> Text:
    """The text of a refusal without the last line of `unrecorded`: something else was recorded."""
    first = text.values.get("first")
    last = text.values.get("then") == Text("nothing was recorded")
    return first if last and isinstance(first, Text) else text


def did_you_mean(written: str, known: Iterable[str]) -> str:
    """`; did you mean "dwelling"?`, or empty if no known name is similar."""
    names = joined(Text(" or "), [f'"{name}"' for name in nearest(written, known)])
    return Text("; did you mean {names}?", names=names) if names else ""


def nearest(written: str, known: Iterable[str], least: float = 0.6) -> list[str]:
    """At most three known names that are similar; `least`: how much, from 0 to 1."""
    # people write names in any case
    near = {name.casefold(): name for name in known}
    similar = get_close_matches(written.casefold(), list(near), n=3, cutoff=least)
    return [near[name] for name in similar]


@dataclass(frozen=True, slots=True)
class SheetRow:
    """One row by our column names; empty cells are absent."""

    where: str
    """`places.csv:17`"""
    cells: Mapping[str, str]
    fault: str = ""
    """why the row cannot be read, for people; empty: it can"""
    headings: Mapping[str, str] = field(default_factory=dict)
    """what the list writes above our columns"""
    note: str = ""
    """text of a row that is no entry: a total, a section, a footer, the headings once more"""

    def as_headed(self, fault: Text, ours: str) -> Text:
        """A fault of a cell; it names the column as the list does."""
        heading = self.headings.get(ours, ours)
        return fault.with_values(lambda value: heading if value == ours else value)


def read(  # noqa: PLR0913 -- what a list is
    text: str,
    name: str,
    columns: Mapping[str, str],
    required: Sequence[str],
    exactly: Container[str] = EXACTLY,
    *,
    notes: Container[str] | None = None,
) -> list[SheetRow]:
    """The rows of a table separated by semicolons, commas or tabs.

    `columns` maps each heading that people may write, in lower case, to our name; `required` has
    our names; a heading that resembles one of `exactly` is not taken for a mistake. Raises Refused
    if a heading is misspelt, duplicate or missing, and if the file has no rows or exceeds
    MOST_ROWS, MOST_COLUMNS or MOST_CELLS. A faulty row is returned with its `fault`. `notes`: find
    rows that are no entries (`SheetRow.note`); a single cell in one of these columns is an entry.
    """
    at, first, rows = _find_headings(text, name, columns)
    names = _column_names(first, f"{name}:{at}", columns, required, exactly)
    separator = _separated(text, {plain(heading) for heading in columns})[1]
    written = {ours: heading for ours, heading in zip(names, first, strict=True) if ours}
    lines = [
        SheetRow(f"{name}:{number}", {}, note=note)
        if notes is not None and (note := _note(row, first, names, notes))
        else replace(_line(f"{name}:{number}", row, names, separator), headings=written)
        for number, row in rows
        if any(row)
    ]
    if not lines:
        raise Refused("{name}: there is no line below the headings", name=name)
    return lines


def headings(text: str, name: str, columns: Mapping[str, str]) -> tuple[int, list[str]]:
    """The line number of the headings, and the headings. Raises Refused."""
    line, first, _ = _find_headings(text, name, columns)
    return line, first


def rows(
    text: str, name: str, columns: Mapping[str, str]
) -> tuple[int, list[str], Iterator[tuple[int, list[str]]]]:
    """The line number of the headings, the headings, and the rows below with their line numbers.

    Raises Refused.
    """
    return _find_headings(text, name, columns)


def unread(text: str, name: str, columns: Mapping[str, str]) -> list[str]:
    """Headings whose columns are not read."""
    _, first, _ = _find_headings(text, name, columns)
    known = {plain(heading): ours for heading, ours in columns.items()}
    meanings = [known.get(plain(heading)) for heading in first]
    return [
        heading
        for at, heading in enumerate(first)
        if heading and (meanings[at] is None or meanings[at] in meanings[:at])
    ]


def present(first: Iterable[str], columns: Mapping[str, str]) -> list[str]:
    """Our names of the columns with these headings."""
    known = {plain(heading): ours for heading, ours in columns.items()}
    return [ours for heading in first if (ours := known.get(plain(heading)))]


def heading(first: Iterable[str], columns: Mapping[str, str], name: str) -> str:
    """What the file calls one of our columns."""
    return next((one for one in first if present([one], columns) == [name]), name)


def plain(heading: str) -> str:
    """A heading in comparable form: `N° de Série` is `n de serie`."""
    bare = unicodedata.normalize("NFD", heading.casefold().replace("°", " "))
    letters = "".join(c if c.isalnum() else " " for c in bare if not unicodedata.combining(c))
    return " ".join(letters.split())


def harmless(cell: str) -> str:
    """A cell that no spreadsheet program takes for a formula."""
    return f"'{cell}" if cell[:1] in {"=", "+", "-", "@"} else cell


def _find_headings(
    text: str, name: str, columns: Mapping[str, str]
) -> tuple[int, list[str], Iterator[tuple[int, list[str]]]]:
    """The line number of the headings, the headings, and the rows below with their lines."""
    known = {plain(heading) for heading in columns}
    all_rows = _numbered(*_separated(text.removeprefix("\ufeff"), known), name)
    rows = list(islice(all_rows, ABOVE))
    filled = [number for number, (_, row) in enumerate(rows) if any(row)]
    if not filled:
        raise Refused("{name}:1: the first line must be the headings; it is empty", name=name)
    # the line with most headings; of several the first, because of the negative number
    most, at = max((_count_headings(rows[number][1], known), -number) for number in filled)
    begins = -at if most >= SURE else filled[0]
    line, first = rows[begins]
    return line, first, chain(rows[begins + 1 :], all_rows)


def best_headings(columns: Iterable[str], rows: Iterable[Sequence[str]]) -> int:
    """How many headings the row has that has most of them."""
    known = {plain(heading) for heading in columns}
    return max((_count_headings(row, known) for row in rows), default=0)


def _count_headings(cells: Iterable[str], known: Container[str]) -> int:
    """How many of these cells are known headings."""
    return sum(plain(cell) in known for cell in cells)


def _separated(text: str, known: Container[str]) -> tuple[str, str]:
    """The text and its separator: the one that Excel's own `sep=;` names, else the one that gives
    the most headings in one line, else the most frequent one in the first line.
    """
    head, end, below = text.partition("\n")
    if head.strip().casefold() in {f"sep={one}" for one in SEPARATORS}:
        return end + below, head.strip()[-1]

    first = [line[:LONGEST_HEAD] for line in islice(_lines(text), ABOVE)]

    def good(separator: str) -> tuple[int, int]:
        counts = (_count_headings(line.split(separator), known) for line in first)
        return max(counts, default=0), first[0].count(separator) if first else 0

    return text, max(SEPARATORS, key=good)


def _lines(text: str) -> Iterator[str]:
    """Each line with its line break; only one is copied at a time."""
    return (line[0] for line in LINE.finditer(text))


def _short_lines(text: str) -> Iterator[str]:
    # an unclosed quote would make the csv module join all further lines into one cell
    for line in _lines(text):
        if len(line) > LONGEST_LINE:
            raise csv.Error(f"a line of more than {LONGEST_LINE:,} characters")
        yield line


def _numbered(text: str, separator: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """Rows with the line on which each begins: a quoted cell may span several lines."""
    reader = csv.reader(_short_lines(text), delimiter=separator, strict=True)
    begins, cells = 1, 0
    try:
        for number, row in enumerate(reader, start=1):
            # spreadsheets pad rows with empty cells, which would count towards the limits
            while row and not row[-1]:
                row.pop()
            cells += len(row)
            if number > MOST_ROWS + 1 or len(row) > MOST_COLUMNS or cells > MOST_CELLS:
                raise Refused(
                    "{name}:{begins}: {too_much}",
                    name=name,
                    begins=begins,
                    too_much=_too_much(len(row), cells),
                )
            yield begins, [cell.translate(BLANKS).strip() for cell in row]
            # the reader's count, because a quoted cell may have line breaks
            begins = reader.line_num + 1
    except csv.Error as error:
        what = Text("from here on this is no table ({error})", error=error)
        if str(error) == NO_END:
            what = Text('a " that opens in this row is never closed')
        raise Refused("{name}:{begins}: {what}", name=name, begins=begins, what=what) from error


def _too_much(columns: int, cells: int) -> str:
    if columns > MOST_COLUMNS:
        return Text(
            "more than {most_columns} columns: keep those that are needed",
            most_columns=MOST_COLUMNS,
        )
    if cells > MOST_CELLS:
        return Text(
            "more than {most_cells:,} cells up to here: keep the columns that are needed",
            most_cells=MOST_CELLS,
        )
    return Text("more than {most_rows:,} rows: import the table in parts", most_rows=MOST_ROWS)


def _column_names(
    first: list[str],
    where: str,
    columns: Mapping[str, str],
    required: Sequence[str],
    exactly: Container[str],
) -> list[str]:
    problems, names, meant = Problems(), [], set[str]()
    known = {plain(heading): ours for heading, ours in columns.items()}
    present = {known.get(plain(heading)) for heading in first}
    open_ones = [heading for heading, ours in columns.items() if ours not in present]
    open_ones = [heading for heading in open_ones if heading not in exactly]
    needed = [heading for heading in open_ones if columns[heading] in required]
    for heading in first:
        ours = known.get(plain(heading), STRANGE if heading else "")
        if ours in names and heading and _may_repeat(ours, columns, exactly):
            ours = STRANGE
        if ours == STRANGE:
            # exports have dozens of other columns: `Date de vente` is no misspelt `Date d'entrée`
            near = nearest(heading, needed) or nearest(heading, open_ones, ONE_LETTER)
            if plain(heading) not in UNRELATED and near:
                meant |= {columns[one] for one in near}
                problems.add(
                    where,
                    Text(
                        'there is no column "{heading}"{did_you_mean}',
                        heading=heading,
                        did_you_mean=did_you_mean(heading, near),
                    ),
                )
        elif ours in names and ours:
            problems.add(
                where,
                Text(
                    'two columns mean "{ours}"; the second is "{heading}"',
                    ours=ours,
                    heading=heading,
                ),
            )
        names.append(ours)
    # a misspelt heading is reported once, and not as missing as well
    for missing in [each for each in required if each not in {*names, *meant}]:
        problems.add(
            where,
            Text(
                'the column "{missing}" is missing; there are: {list_headings}. Write one of these'
                " headings above it: {accepted}",
                missing=missing,
                list_headings=_list_headings(first),
                accepted=_list_headings(
                    [name for name, ours in columns.items() if ours == missing]
                ),
            ),
        )
    problems.settle()
    return names


def _other_separator(cell: str, columns: int) -> str:
    """The separator that divides a cell, the only one of its row, into a row; empty: none does."""
    # a single name may have a comma, but with a blank, and seldom as many as there are columns
    parts = {one: cell.count(one) - cell.count(f"{one} ") + 1 for one in SEPARATORS}
    least = max(2, min(columns, A_ROW))
    return next((one for one, many in parts.items() if least <= many <= columns), "")


def _may_repeat(ours: str, columns: Mapping[str, str], exactly: Container[str]) -> bool:
    """Whether the second of two columns with this meaning is not read, instead of refused."""
    return all(heading in exactly for heading, each in columns.items() if each == ours)


def _list_headings(first: list[str]) -> str:
    """The headings, shortened to fit into a message."""
    shown = [one if len(one) <= LONG else f"{one[:LONG]}…" for one in first if one]
    return ", ".join(shown[:MOST] + ["…"] * (len(shown) > MOST))


def _note(row: list[str], first: list[str], names: list[str], entries: Container[str]) -> str:
    """The text of a row that is no entry; empty: it is one."""
    filled = [(cell, at) for at, cell in enumerate(row) if cell]
    text, at = filled[0]
    alone = len(filled) == 1 and (at >= len(names) or names[at] not in entries)
    # a list that was made for printing repeats its headings on each page
    if alone or TOTAL.match(plain(text)) or row == first:
        return " ".join(cell for cell, _ in filled)[:LONGEST_NOTE]
    return ""


def _line(where: str, row: list[str], names: list[str], separator: str) -> SheetRow:
    if len(row) == 1 and (other := _other_separator(row[0], len(names))):
        message = Text(
            'the values of "{row}" are separated by {other}, those of the headings by {separator}:'
            " use the same separator in the whole file",
            row=row[0][:LONG], other=SEPARATOR_NAMES[other], separator=SEPARATOR_NAMES[separator],
        )  # fmt: skip
        return SheetRow(where, {}, message)
    # mostly an unquoted separator has moved all later cells to the right
    beyond = [cell for cell in row[len(names) :] if cell]
    beyond += [cell for cell, ours in zip(row, names, strict=False) if cell and not ours]
    if beyond:
        beside = Text(
            '"{beyond}" stands under no heading; quote a cell that contains a separator',
            beyond=beyond[0],
        )
        return SheetRow(where, {}, beside)
    cells = zip(names, row, strict=False)
    mine = {ours: cell for ours, cell in cells if cell and ours != STRANGE}
    wrong = next((cell for cell in mine.values() if WRONG.fullmatch(cell)), "")
    fault: str = (
        Text('"{wrong}" is what a formula says that went wrong: correct it', wrong=wrong)
        if wrong
        else ""
    )
    return SheetRow(where, {} if wrong else mine, fault)

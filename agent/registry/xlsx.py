"""Read one visible sheet of a workbook (.xlsx) while it is unpacked, within limits.

A small file can unpack to a thousand times its size, and one cell in the far corner implies
billions of empty ones. Each limit is therefore checked during unpacking, and only the values of
cells are kept.
"""

from __future__ import annotations

import datetime as dt
import io
import posixpath
import re
import zipfile
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from xml.parsers import expat

from agent.core.errors import Refused
from agent.registry.sheet import ABOVE, MOST_COLUMNS, MOST_ROWS, SURE

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_PARTS = 1000
LARGEST = 100_000_000
"""bytes of all parts that are read, unpacked"""
MOST_ELEMENTS = 1_600_000
MOST_DEPTH = 40
MOST_NAMES = 500
"""different names of elements and attributes: the XML parser keeps each"""
LONGEST_TAG = 1_000_000
"""bytes of one tag or comment, which the XML parser must hold as a whole"""
MOST_CELLS = 500_000
"""cells with a value"""
MOST_CHARACTERS = 5_000_000
"""of all values together"""
MOST_SHARED = 250_000
"""different texts that the cells share"""
MOST_SHARED_CHARACTERS = 3_000_000
LONGEST_CELL = 32_767
"""characters, as in Excel itself"""
LONGEST_NUMBER = 64
"""characters; Excel writes at most 24"""
LONGEST_FORMAT = 255
MOST_STYLES = 70_000
"""number formats and cell formats; Excel allows 64,000"""
CHUNK = 64 * 1024
CALENDAR_1900 = dt.datetime(1899, 12, 30)  # noqa: DTZ001 -- cells have no time zone
CALENDAR_1904 = dt.datetime(1904, 1, 1)  # noqa: DTZ001
"""day 0 of the two calendars of Excel"""
BUILT_IN = dict.fromkeys(map(str, (*range(14, 23), 45, 47)), "yyyy") | {"46": "[h]"}
"""number formats that a workbook names by their number only, as far as they show a date, a time or
a duration (ECMA-376, part 1, 18.8.30)
"""
ELAPSED = re.compile(r"\[(hh?|mm?|ss?)\]", re.IGNORECASE)
"""a duration; other brackets are colours and languages"""
NO_FORMAT = re.compile(r'".*?"|\[(?!(?:hh?|mm?|ss?)\])[^\]]*\]', re.IGNORECASE)
"""parts of a number format that show no value"""
SHOWS_TIME = re.compile(r"(?<![_\\])[dmhys]", re.IGNORECASE)
COORDINATE = re.compile(r"([A-Z]{1,3})([1-9][0-9]*)")
UNPACKED = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
"""other compression methods unpack without a limit; no spreadsheet program writes them"""


class TooMuch(Refused):
    """A workbook exceeds a limit; the message names the limit."""


class Ambiguous(Exception):
    """It is not clear which sheet is meant: one of these names."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(", ".join(names))
        self.names = names


@dataclass
class _Total:
    """What all parts of a workbook have used so far."""

    bytes: int = 0
    elements: int = 0

    def unpacked(self, many: int) -> None:
        self.bytes += many
        if self.bytes > LARGEST:
            raise TooMuch("it unpacks to more than {largest:,} bytes", largest=LARGEST)


class _PartReader:
    """Parses one part of the workbook; subclasses say what they keep."""

    def __init__(self, total: _Total) -> None:
        self._total, self._depth = total, 0
        self._text: list[str] | None = None
        self._length = 0
        self._events = 0

    def begin(self, name: str, _: dict[str, str], /) -> None:
        """An element begins."""

    def end(self, name: str) -> None:
        """An element ends."""

    def collect(self) -> None:
        """Begin to keep text."""
        self._text, self._length = [], 0

    def collected(self) -> str:
        """The text that was kept; keep no more."""
        text = "".join(self._text or ())
        self._text = None
        return text

    def follow(self, part: Any) -> None:
        """Parse a part to its end. Raises TooMuch, or expat's own error if it is damaged."""
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartElementHandler = self._begin
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        # entities can expand a few bytes to gigabytes
        parser.StartDoctypeDeclHandler = _no_entities
        held, events_before = 0, -1
        while chunk := part.read(CHUNK):
            self._total.unpacked(len(chunk))
            parser.Parse(chunk, False)
            # no event since the last chunk: expat is buffering one ever longer tag or comment
            held = held + len(chunk) if events_before == self._events else 0
            events_before = self._events
            if held > LONGEST_TAG:
                raise TooMuch(
                    "a tag or comment in it is longer than {longest_tag:,} bytes",
                    longest_tag=LONGEST_TAG,
                )
            if len(parser.intern) > MOST_NAMES:
                raise TooMuch(
                    "it has more than {most_names:,} different names of elements",
                    most_names=MOST_NAMES,
                )
        parser.Parse(b"", True)

    def _begin(self, name: str, attributes: dict[str, str], /) -> None:
        self._events += 1
        self._depth += 1
        self._total.elements += 1
        if self._depth > MOST_DEPTH:
            raise TooMuch(
                "its elements are nested more than {most_depth} deep", most_depth=MOST_DEPTH
            )
        if self._total.elements > MOST_ELEMENTS:
            raise TooMuch(
                "it has more than {most_elements:,} elements", most_elements=MOST_ELEMENTS
            )
        self.begin(name.rpartition(" ")[2], attributes)

    def _end(self, name: str) -> None:
        self._depth -= 1
        self.end(name.rpartition(" ")[2])

    def _characters(self, text: str) -> None:
        self._events += 1
        if self._text is not None:
            self._length += len(text)
            if self._length > LONGEST_CELL:
                raise TooMuch(
                    "a cell holds more than {longest_cell:,} characters", longest_cell=LONGEST_CELL
                )
            self._text.append(text)


def _no_entities(*_: object) -> None:
    raise TooMuch("it declares a document type, which no spreadsheet program writes")


@dataclass(frozen=True, slots=True)
class _Relation:
    kind: str
    target: str


class _Relations(_PartReader):
    """The parts to which a part refers, by id."""

    def __init__(self, total: _Total) -> None:
        super().__init__(total)
        self.by_id: dict[str, _Relation] = {}

    def begin(self, name: str, attributes: dict[str, str], /) -> None:
        # an external target is an address on the web, and no part of this file
        if name == "Relationship" and attributes.get("TargetMode") != "External":
            kind = attributes["Type"].rpartition("/")[2]
            if len(self.by_id) >= MOST_PARTS:
                raise TooMuch("it has more than {most_parts:,} parts", most_parts=MOST_PARTS)
            self.by_id[attributes["Id"]] = _Relation(kind, attributes["Target"])

    def first(self, kind: str) -> str:
        """The first part of a kind; empty if there is none."""
        return next((one.target for one in self.by_id.values() if one.kind == kind), "")


class _Book(_PartReader):
    """The visible sheets, in order, and the epoch of dates."""

    def __init__(self, total: _Total) -> None:
        super().__init__(total)
        self.shown: dict[str, str] = {}
        """the name of each, by its id"""
        self.epoch = CALENDAR_1900

    def begin(self, name: str, attributes: dict[str, str], /) -> None:
        if name == "workbookPr" and attributes.get("date1904") in {"1", "true"}:
            self.epoch = CALENDAR_1904
        elif name == "sheet" and attributes.get("state", "visible") == "visible":
            if len(self.shown) >= MOST_PARTS:
                raise TooMuch("it has more than {most_parts:,} sheets", most_parts=MOST_PARTS)
            ids = (value for key, value in attributes.items() if key.endswith("/relationships id"))
            self.shown[next(ids)] = attributes.get("name", "")


class _Styles(_PartReader):
    """The number format of each cell format."""

    def __init__(self, total: _Total) -> None:
        super().__init__(total)
        self._formats: dict[str, str] = {}
        self._in_cell_formats = False
        self._ids: list[str] = []

    def begin(self, name: str, attributes: dict[str, str], /) -> None:
        if name == "numFmt":
            self._formats[attributes["numFmtId"]] = attributes["formatCode"][:LONGEST_FORMAT]
        elif name == "cellXfs":
            self._in_cell_formats = True
        elif name == "xf" and self._in_cell_formats:
            self._ids.append(attributes.get("numFmtId", "0"))
        if len(self._ids) + len(self._formats) > MOST_STYLES:
            raise TooMuch(
                "it has more than {most_styles:,} forms of cells", most_styles=MOST_STYLES
            )

    def end(self, name: str) -> None:
        if name == "cellXfs":
            self._in_cell_formats = False

    def formats(self) -> list[str]:
        """Number formats by the index that a cell gives."""
        return [self._formats.get(one) or BUILT_IN.get(one, "General") for one in self._ids]


class _Shared(_PartReader):
    """The texts that cells share, without phonetic guides."""

    def __init__(self, total: _Total) -> None:
        super().__init__(total)
        self.texts: list[str] = []
        self._pieces: list[str] = []
        self._phonetic = False
        self._kept = 0

    def begin(self, name: str, _: dict[str, str], /) -> None:
        if name == "si":
            self._pieces = []
        elif name == "rPh":
            self._phonetic = True
        elif name == "t" and not self._phonetic:
            self.collect()

    def end(self, name: str) -> None:
        if name == "rPh":
            self._phonetic = False
        elif name == "t" and not self._phonetic:
            self._pieces.append(self.collected())
        elif name == "si":
            self._keep("".join(self._pieces))

    def _keep(self, text: str) -> None:
        self._kept += len(text)
        if len(self.texts) >= MOST_SHARED or self._kept > MOST_SHARED_CHARACTERS:
            raise TooMuch(
                "its cells share more than {most_shared:,} texts, or {most_shared_characters:,}"
                " characters",
                most_shared=MOST_SHARED,
                most_shared_characters=MOST_SHARED_CHARACTERS,
            )
        self.texts.append(text)


@dataclass
class _NumberFormat:
    """How numbers of one format are shown."""

    code: str
    date: bool = field(init=False)
    duration: bool = field(init=False)

    def __post_init__(self) -> None:
        first, _, _ = self.code.partition(";")  # of positive numbers
        self.date = bool(SHOWS_TIME.search(NO_FORMAT.sub("", first)))
        self.duration = bool(ELAPSED.search(first))


def _coordinate(text: str) -> tuple[int, int]:
    """Row and column of a cell, from 1. Raises ValueError."""
    match = COORDINATE.fullmatch(text)
    if match is None:
        raise ValueError(text)
    column = 0
    for letter in match[1]:
        column = column * 26 + ord(letter) - 64
    return int(match[2]), column


class _Merged(_PartReader):
    """The merged cells of a sheet that span several rows, by the row in which they begin."""

    def __init__(self, total: _Total) -> None:
        super().__init__(total)
        self.begin_in: dict[int, list[tuple[int, int]]] = {}
        """column and last row"""
        self._count = 0

    def begin(self, name: str, attributes: dict[str, str], /) -> None:
        if name != "mergeCell":
            return
        first, _, last = attributes["ref"][:LONGEST_NUMBER].partition(":")
        row, column = _coordinate(first)
        until, _ = _coordinate(last or first)
        if until > row:
            self._count += 1
            self.begin_in.setdefault(row, []).append((column, until))
        if self._count > MOST_ROWS:
            raise TooMuch("more than {most:,} of its cells are merged", most=MOST_ROWS)


@dataclass(frozen=True)
class _Common:
    """What all sheets of a workbook share."""

    texts: list[str]
    formats: list[str]
    epoch: dt.datetime


class _Sheet(_PartReader):
    """The rows of a sheet as texts; each row is passed on when it ends. A cell that is merged over
    several rows has its value in each of them.
    """

    def __init__(
        self,
        total: _Total,
        common: _Common,
        emit: Callable[[list[str]], object],
        merged: dict[int, list[tuple[int, int]]],
    ) -> None:
        super().__init__(total)
        self._merged = merged
        self._spans: dict[int, tuple[int, str]] = {}
        """by column: the last row and the value of the merged cell that is open there"""
        self._shared, self._epoch, self._emit = common.texts, common.epoch, emit
        self._codes, self._formats_by_style = common.formats, dict[str, _NumberFormat]()
        self._rows = self._cells = self._kept = 0
        self._row = self._column = 0
        self._type = self._style = self._value = ""
        self._inline: list[str] = []
        self._phonetic = False
        self._values: dict[int, str] = {}

    def begin(self, name: str, attributes: dict[str, str], /) -> None:
        if name == "c":
            at = attributes.get("r")
            self._column = _coordinate(at[:LONGEST_NUMBER])[1] if at else self._column + 1
            self._type, self._style = attributes.get("t", "n"), attributes.get("s", "0")
            self._value, self._inline = "", []
        elif name == "v" or (name == "t" and not self._phonetic):
            self.collect()
        elif name == "row":
            self._row = (
                int(attributes["r"][:LONGEST_NUMBER]) if "r" in attributes else self._row + 1
            )
            self._column, self._values = 0, {}
        elif name == "rPh":
            self._phonetic = True

    def end(self, name: str) -> None:
        if name == "v":
            self._value = self.collected()
        elif name == "t" and not self._phonetic:
            self._inline.append(self.collected())
        elif name == "c":
            self._cell_ends()
        elif name == "row":
            self._row_ends()
        elif name == "rPh":
            self._phonetic = False

    def _cell_ends(self) -> None:
        text = "".join(self._inline) if self._type == "inlineStr" else self._shown(self._value)
        if not text:
            return
        self._cells += 1
        self._kept += len(text)
        if self._column > MOST_COLUMNS:
            raise TooMuch(
                "a cell with a value stands beyond column {most_columns}", most_columns=MOST_COLUMNS
            )
        if self._cells > MOST_CELLS:
            raise TooMuch("more than {most_cells:,} cells have a value", most_cells=MOST_CELLS)
        if self._kept > MOST_CHARACTERS:
            raise TooMuch(
                "its cells hold more than {most_characters:,} characters",
                most_characters=MOST_CHARACTERS,
            )
        self._values[self._column] = text

    def _row_ends(self) -> None:
        """Pass on the row; rows that were left out become empty ones, so that line numbers
        match.
        """
        if not self._values:
            return
        self._fill()
        if self._row > MOST_ROWS or self._rows >= MOST_ROWS:
            raise TooMuch("a row with a value stands beyond row {most_rows:,}", most_rows=MOST_ROWS)
        # Excel leaves out empty rows
        for _ in range(self._rows, self._row - 1):
            self._emit([])
        self._emit([self._values.get(at, "") for at in range(1, max(self._values) + 1)])
        self._rows = max(self._rows + 1, self._row)

    def _fill(self) -> None:
        """Give the row the values of the merged cells that begin above it."""
        for column, (until, text) in list(self._spans.items()):
            if self._row > until:
                del self._spans[column]
            elif column not in self._values:
                self._cells, self._kept = self._cells + 1, self._kept + len(text)
                self._values[column] = text
        for column, until in self._merged.get(self._row, ()):
            if text := self._values.get(column, ""):
                self._spans[column] = until, text

    def _shown(self, value: str) -> str:
        if not value or self._type in {"str", "e", "d"}:
            return value
        if self._type == "s":
            return self._shared[int(value[:LONGEST_NUMBER])]
        if len(value) > LONGEST_NUMBER:
            raise TooMuch(
                "a number in it has more than {longest_number} characters",
                longest_number=LONGEST_NUMBER,
            )
        if self._type == "b":
            return str(bool(int(value)))
        return _number(value, self._number_format(), self._epoch)

    def _number_format(self) -> _NumberFormat:
        if self._style not in self._formats_by_style:
            number = int(self._style[:LONGEST_NUMBER])
            code = self._codes[number] if number < len(self._codes) else "General"
            self._formats_by_style[self._style] = _NumberFormat(code)
        return self._formats_by_style[self._style]


def _number(text: str, number_format: _NumberFormat, epoch: dt.datetime) -> str:
    """A number as people see it: as a date, without Excel's spurious decimals, or with the leading
    zeros of its format.
    """
    value = float(text) if set(text) & set(".eE") else int(text)
    if number_format.date:
        return _date(value, number_format, epoch)
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT:
        value = int(value)
    if (
        isinstance(value, int)
        and len(number_format.code) in ZEROS
        and not number_format.code.strip("0")
    ):
        return str(value).zfill(len(number_format.code))
    return str(value)


EXACT = 2**53
"""below this a floating-point number represents every whole number exactly"""
ZEROS = range(2, 21)
"""lengths of a number format that shows leading zeros: 00000000"""


def _date(value: float, number_format: _NumberFormat, epoch: dt.datetime) -> str:
    try:
        days, part = divmod(value, 1)
        time = dt.timedelta(milliseconds=round(part * 86_400_000))
        if number_format.duration:
            return str(dt.timedelta(days=days) + time)
        if 0 <= value < 1 and not time.days:
            return str((epoch + time).time())
        if 0 < value < BEFORE_LEAP and epoch == CALENDAR_1900:
            days += 1
        moment = epoch + dt.timedelta(days=days) + time
    except (OverflowError, ValueError):
        return "#VALUE!"  # as Excel shows it; sheet.py refuses the cell
    # midnight: the cell has a date only
    return (moment if moment.time() != dt.time() else moment.date()).isoformat()


BEFORE_LEAP = 60
"""Excel counts a 29 February 1900, as day 60"""


class _Enough(Exception):
    """The first rows of a sheet were read."""


def read(
    content: bytes,
    emit: Callable[[list[str]], object],
    score: Callable[[list[list[str]]], int] | None = None,
    named: str = "",
) -> tuple[str, list[str]]:
    """Pass each row of one visible sheet to `emit`, without empty rows at the end; return the name
    of the sheet, and those of the others.

    `named`: this sheet. Otherwise the one whose first rows have the best `score`, or the first.
    Raises TooMuch, which names the limit; Ambiguous, if several sheets are equally good; if the
    workbook is damaged, whatever the parsers of its parts raise.
    """
    # count the entries before zipfile makes an object for each of them
    if content.count(b"PK\x01\x02") > MOST_PARTS:
        raise TooMuch("it has more than {most_parts:,} parts", most_parts=MOST_PARTS)
    with zipfile.ZipFile(io.BytesIO(content)) as parts:
        return _read(parts, emit, score, named)


def _read(
    parts: zipfile.ZipFile,
    emit: Callable[[list[str]], object],
    score: Callable[[list[list[str]]], int] | None,
    named: str,
) -> tuple[str, list[str]]:
    total = _Total()

    def follow(name: str, reader: _PartReader) -> None:
        part = parts.getinfo(name)
        if part.compress_type not in UNPACKED:
            raise TooMuch("it is packed in a way that no spreadsheet program uses")
        with parts.open(part) as stream:
            reader.follow(stream)

    def relations(name: str) -> _Relations:
        folder, file = posixpath.split(name)
        parsed = _Relations(total)
        follow(posixpath.join(folder, "_rels", f"{file}.rels"), parsed)
        return parsed

    def resolve(name: str, target: str) -> str:
        return posixpath.normpath(posixpath.join("/", posixpath.dirname(name), target))[1:]

    at = resolve("", relations("").first("officeDocument"))
    book, belongs = _Book(total), relations(at)
    follow(at, book)
    related = {name: belongs.by_id[one] for one, name in book.shown.items() if one in belongs.by_id}
    sheets = {
        name: resolve(at, one.target) for name, one in related.items() if one.kind == "worksheet"
    }
    styles, shared = _Styles(total), _Shared(total)
    for kind, reader in (("styles", styles), ("sharedStrings", shared)):
        if target := belongs.first(kind):
            follow(resolve(at, target), reader)
    common = _Common(shared.texts, styles.formats(), book.epoch)
    chosen = named
    if not named:
        firsts = {
            name: _first_rows(part, follow, total, common)
            for name, part in sheets.items()
            if score is not None and len(sheets) > 1
        }
        chosen = _best({name: score(rows) for name, rows in firsts.items()}) if score else ""
    chosen = chosen or next(iter(sheets))
    if chosen not in sheets:
        raise Ambiguous(list(sheets))
    # merged cells are listed below the rows; elements are limited in each of the two passes
    merged = _Merged(_Total())
    # what is wrong with the sheet is found again below, and told as a whole
    with suppress(expat.ExpatError):
        follow(sheets[chosen], merged)
    follow(sheets[chosen], _Sheet(total, common, emit, merged.begin_in))
    return chosen, [name for name in sheets if name != chosen]


def _first_rows(
    part: str, follow: Callable[[str, _PartReader], None], total: _Total, common: _Common
) -> list[list[str]]:
    """The rows of a sheet in which its headings may be."""
    rows: list[list[str]] = []

    def keep(row: list[str]) -> None:
        rows.append(row)
        if len(rows) == ABOVE:
            raise _Enough

    with suppress(_Enough):
        follow(part, _Sheet(total, common, keep, {}))
    return rows


def _best(scores: dict[str, int]) -> str:
    """The sheet with the best score; empty if none has headings. Raises Ambiguous."""
    most = max(scores.values(), default=0)
    best = [name for name, value in scores.items() if value == most]
    if most < SURE:
        return ""
    if len(best) > 1:
        raise Ambiguous(best)
    return best[0]

"""A file as people keep it, as the text of a table: UTF-8, Windows-1252, or a workbook (.xlsx)."""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
import struct
import zipfile
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from agent.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

ZIP, OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"
ODS = b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet"
"""its first part is not compressed (OpenDocument 1.2, part 3, 3.3)"""
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
MOST_ROWS = 60_000
LARGEST = 100_000_000
"""bytes of all parts of a workbook, opened"""
EXACT = 2**53
"""up to here a floating-point number is the whole number it looks like"""
DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    SyntaxError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    EOFError,
    OSError,
    RuntimeError,
)
"""what openpyxl is known to raise on a workbook whose bytes were turned"""
ALL_ZEROS = re.compile(r"0{2,20}")
"""a number format that shows leading zeros: 00000000"""


def text_of(content: bytes, name: str) -> str:
    """The table in a file's bytes. Raises Refused, for people, where there is none.

    A text that is not UTF-8 is taken for Windows-1252, which is what Excel writes in France; of a
    workbook the first sheet that is shown is read, its numbers without the decimals that Excel puts
    behind them.
    """
    if content.startswith(ZIP):
        return _workbook(content, name)
    if content.startswith(OLE):
        raise Refused(
            f"{name}: an .xls of before 2007, or a workbook under a password: save it as .xlsx"
            " without one"
        )
    if content.startswith(UTF_16):  # what Excel calls a Unicode text
        with suppress(UnicodeDecodeError):
            return content.decode("utf-16")
    if b"\0" in content:
        raise Refused(f"{name}: this is no table; save it as .xlsx or as CSV")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        try:
            return content.decode("cp1252")
        except UnicodeDecodeError:
            line = content.count(b"\n", 0, error.start) + 1
            raise Refused(
                f'{name}:{line}: neither UTF-8 nor Windows-1252; save it as "CSV UTF-8"'
            ) from error


def _workbook(content: bytes, name: str) -> str:
    try:
        from openpyxl import load_workbook  # noqa: PLC0415 -- only where a workbook is read
    except ImportError as error:
        raise Refused(
            f"{name}: to read .xlsx install python3-openpyxl, or save it as CSV UTF-8"
        ) from error
    try:
        _not_too_large(content)
        book = load_workbook(io.BytesIO(content), read_only=True, data_only=True)
        shown = [one for one in book.worksheets if one.sheet_state == "visible"]
        rows = list(_rows(shown[0]))
    except DAMAGED as error:
        if ODS in content[:100]:
            raise Refused(f"{name}: LibreOffice's own .ods: save it as .xlsx or as CSV") from error
        raise Refused(f"{name}: this workbook cannot be read ({error}); save it as CSV") from error
    table = io.StringIO()
    csv.writer(table, delimiter=";", lineterminator="\n").writerows(rows)
    return table.getvalue()


def _not_too_large(content: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(content)) as parts:
        if sum(part.file_size for part in parts.infolist()) > LARGEST:
            raise ValueError(f"it opens to more than {LARGEST:,} bytes")


def _rows(sheet: Any) -> Iterator[list[str]]:
    for number, row in enumerate(sheet.iter_rows()):
        if number > MOST_ROWS:
            raise ValueError(f"more than {MOST_ROWS:,} rows")
        yield [_cell(cell) for cell in row]


def _cell(cell: Any) -> str:
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, dt.datetime) and value.time() == dt.time():
        value = value.date()
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT:
        value = int(value)
    text = str(value)
    if isinstance(value, int) and ALL_ZEROS.fullmatch(str(cell.number_format)):
        return text.zfill(len(cell.number_format))
    return text

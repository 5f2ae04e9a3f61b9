"""A file from a spreadsheet program as CSV text: UTF-8, Windows-1252, or a workbook (.xlsx)."""

from __future__ import annotations

import csv
import io
import struct
import zipfile
import zlib
from contextlib import suppress
from xml.parsers.expat import ExpatError

from agent.core.errors import Refused

ZIP, OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"
ODS = b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet"
"""its first part is not compressed (OpenDocument 1.2, part 3, 3.3)"""
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
LARGEST = 10_000_000
"""bytes of a file: 50,000 dwellings with a dozen columns need half of this"""
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
    StopIteration,
    ExpatError,
)
"""exceptions that a damaged workbook can cause"""


def text_of(content: bytes, name: str) -> str:
    """The table in a file's bytes, as CSV. Raises Refused with a message for people.

    A text that is not UTF-8 is read as Windows-1252, which Excel writes in France. Of a workbook
    the first visible sheet is read, its numbers without Excel's spurious decimals.
    """
    if len(content) > LARGEST:
        raise Refused(
            "{name}: larger than {largest:,} bytes; keep the columns that are needed, or"
            " import it in parts",
            name=name,
            largest=LARGEST,
        )
    if content.startswith(ZIP):
        return _workbook(content, name)
    if content.startswith(OLE):
        raise Refused(
            "{name}: an .xls file of before 2007, or a workbook with a password: save it as"
            " .xlsx without a password",
            name=name,
        )
    if content.startswith(UTF_16):  # Excel's "Unicode text"
        with suppress(UnicodeDecodeError):
            return content.decode("utf-16")
    # Windows-1252 would decode almost any bytes, so binary files must be recognized before
    if b"\0" in content:
        raise Refused("{name}: this is not a table; save it as .xlsx or as CSV", name=name)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        try:
            return content.decode("cp1252")
        except UnicodeDecodeError:
            line = content.count(b"\n", 0, error.start) + 1
            raise Refused(
                '{name}:{line}: neither UTF-8 nor Windows-1252; save it as "CSV UTF-8"',
                name=name,
                line=line,
            ) from error


def _workbook(content: bytes, name: str) -> str:
    try:
        from agent.registry import xlsx  # noqa: PLC0415 -- only where a workbook is read
    except ImportError as error:
        raise Refused(
            "{name}: to read .xlsx install python3-openpyxl, or save it as CSV UTF-8", name=name
        ) from error
    table = io.StringIO()
    try:
        xlsx.read(content, csv.writer(table, delimiter=";", lineterminator="\n").writerow)
    except xlsx.TooMuch as error:
        raise Refused(
            "{name}: this workbook is not read: {error}. Copy the columns that are needed"
            " into a new workbook, or save it as CSV UTF-8",
            name=name,
            error=error,
        ) from error
    except DAMAGED as error:
        if ODS in content[:100]:
            raise Refused(
                "{name}: LibreOffice's own .ods: save it as .xlsx or as CSV", name=name
            ) from error
        raise Refused(
            "{name}: this workbook cannot be read ({error}); save it as CSV", name=name, error=error
        ) from error
    return table.getvalue()

"""A file from a spreadsheet program as CSV text: UTF-8, Windows-1252, or a workbook (.xlsx)."""

from __future__ import annotations

import csv
import io
import shlex
import struct
import zipfile
import zlib
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING
from xml.parsers.expat import ExpatError

from agent.core.errors import Refused
from agent.core.i18n import N_
from agent.registry.sheet import best_headings
from agent.registry.words import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

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


def text_of(
    content: bytes,
    name: str,
    columns: Collection[str] = (),
    sheet: str = "",
    tell: Callable[[str, list[str]], object] = lambda *_: None,
) -> str:
    """The table in a file's bytes, as CSV. Raises Refused with a message for people.

    A text that is not UTF-8 is read as Windows-1252, which Excel writes in France. Of a workbook
    one visible sheet is read, its numbers without Excel's spurious decimals: the one named
    `sheet`, else the one with most of the headings `columns`, else the first. If it has several,
    `tell` gets the name of this one and those of the others.
    """
    if len(content) > LARGEST:
        raise Refused(
            "{name}: larger than {largest:,} bytes; keep the columns that are needed, or"
            " import it in parts",
            name=name,
            largest=LARGEST,
        )
    if content.startswith(ZIP):
        return _workbook(content, name, columns, sheet, tell)
    if content.lstrip()[:1] == b"<":
        raise Refused(
            N_(
                "{name}: a web page or XML, although its name is that of a workbook: open it, and"
                " save it as .xlsx"
            ),
            name=name,
        )
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


def _workbook(
    content: bytes,
    name: str,
    columns: Collection[str],
    sheet: str,
    tell: Callable[[str, list[str]], object],
) -> str:
    from agent.registry import xlsx  # noqa: PLC0415 -- only where a workbook is read

    table = io.StringIO()
    writer = csv.writer(table, delimiter=";", lineterminator="\n")

    def write(row: list[str]) -> None:
        # a line break in a cell would make the numbers of lines differ from those of rows
        writer.writerow(" ".join(cell.splitlines()) for cell in row)

    score = partial(best_headings, columns) if columns else None
    try:
        chosen, others = xlsx.read(content, write, score, sheet)
        if others:
            tell(chosen, others)
    except xlsx.Ambiguous as error:
        raise Refused(
            N_("{name}: which of these sheets is meant? {sheets}. Name it: --sheet {first}"),
            name=name,
            sheets=quoted(error.names),
            first=shlex.quote(error.names[0]),
        ) from error
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

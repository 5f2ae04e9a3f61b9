"""Files as they come out of Excel in France."""

import datetime as dt
import io
import os
import zipfile
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from openpyxl import Workbook, load_workbook

from agent.core.errors import Refused
from agent.registry.workbook import text_of


def workbook(*rows, formats=()):
    book = Workbook()
    for row in rows:
        book.active.append(row)
    for cell, form in formats:
        book.active[cell].number_format = form
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def test_a_workbook_is_read_as_it_is_seen():
    content = workbook(
        ["N° de série", "logement", "depuis"],
        [45123456, "A-1", dt.date(2026, 5, 12)],
        ["01234567", "A-2", None],
        [1234567.0, "A; 3", None],
        formats=[("A4", "00000000")],
    )
    assert text_of(content, "m.xlsx").splitlines() == [
        "N° de série;logement;depuis",
        "45123456;A-1;2026-05-12",
        "01234567;A-2",
        '01234567;"A; 3"',
    ]


def test_a_text_of_windows_is_read():
    assert text_of("libellé;type\nÉtage;D\n".encode("cp1252"), "p.csv") == "libellé;type\nÉtage;D\n"
    assert text_of("\ufefflibellé".encode(), "p.csv") == "libellé"


@pytest.mark.parametrize(
    "content", [b"a;b\n\x81;c", b"PK\x03\x04nothing", b"a\0", b"\xff\xfe\0", b"\xd0\xcf\x11\xe0\0"]
)
def test_what_is_no_table_is_refused_with_a_remedy(content):
    with pytest.raises(Refused, match=r"p\.csv.*save it as"):
        text_of(content, "p.csv")


def test_a_unicode_text_of_excel_is_read():
    assert text_of("libellé\ttype\n".encode("utf-16"), "p.txt") == "libellé\ttype\n"


def test_a_workbook_under_a_password_is_told_from_what_is_no_table():
    with pytest.raises(Refused, match="with a password"):
        text_of(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "p.xlsx")


def test_a_table_of_libreoffice_in_its_own_form_is_told_from_a_damaged_workbook():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as parts:
        parts.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        parts.writestr("content.xml", "<office:document-content/>")
    with pytest.raises(Refused, match=r"l\.ods: LibreOffice's own \.ods: save it as \.xlsx"):
        text_of(content.getvalue(), "l.ods")


def test_the_first_sheet_is_the_first_that_is_shown():
    book = Workbook()
    book.active.append(["of", "nobody"])
    book.active.sheet_state = "hidden"
    book.create_sheet("Logements").append(["label", "type"])
    book.active = 1
    content = io.BytesIO()
    book.save(content)
    assert text_of(content.getvalue(), "p.xlsx") == "label;type\n"


@given(st.binary(), st.sampled_from([b"", b"PK\x03\x04"]))
def test_no_bytes_make_it_raise_anything_but_refused(content, head):
    with suppress(Refused):
        text_of(head + content, "p.csv")


def test_a_damaged_workbook_is_refused():
    whole = workbook(["label", "type"], ["A", "D"])
    for _ in range(40):
        at = int.from_bytes(os.urandom(4)) % len(whole)
        with suppress(Refused):
            text_of(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :], "p.xlsx")
        with suppress(Refused):
            text_of(whole[:at], "p.xlsx")


FORMATS = (
    "dd/mm/yyyy", "mm-dd-yy", "h:mm", "[h]:mm:ss", "mm:ss", "m/d/yy h:mm", "[$-40C]d mmmm yyyy",
    "[Red]0.00", "yyyy-mm-dd hh:mm:ss",
    '"dwelling" 0', "[hh]:mm", "General", r"0\d", "_d0", "0.00;yyyy", "[<=9999]0;0", 'd" jours"',
)  # fmt: skip


@example(59, "dd/mm/yyyy", False)
@example(59.75, "m/d/yy h:mm", True)
@example(36.5, "[h]:mm:ss", False)
@given(
    st.one_of(st.integers(0, 80_000), st.floats(0, 80_000).map(lambda value: round(value, 5))),
    st.sampled_from(FORMATS), st.booleans(),
)  # fmt: skip
def test_dates_and_times_are_those_that_openpyxl_reads(value, form, mac):
    book = Workbook()
    book.active["A1"] = value
    book.active["A1"].number_format = form
    if mac:
        book.epoch = dt.datetime(1904, 1, 1)  # noqa: DTZ001
    content = io.BytesIO()
    book.save(content)
    peer = load_workbook(io.BytesIO(content.getvalue())).active["A1"].value
    if isinstance(peer, dt.datetime) and peer.time() == dt.time():
        peer = peer.date()
    read = text_of(content.getvalue(), "p.xlsx").strip()
    if isinstance(peer, (int, float)):
        assert float(read) == peer
    else:
        assert read == (peer.isoformat() if isinstance(peer, dt.date) else str(peer))

"""Tables and workbooks that are small as files and large as soon as they are opened."""

import csv
import datetime as dt
import io
import subprocess
import sys
import warnings
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import Workbook, load_workbook

from agent.core.errors import Refused
from agent.registry.sheet import read
from agent.registry.workbook import text_of
from tests.depth import examples

HERE = "http://schemas.openxmlformats.org/"
SHEET, SHARED, STYLES = "xl/worksheets/sheet1.xml", "xl/sharedStrings.xml", "xl/styles.xml"
MAIN = f'xmlns="{HERE}spreadsheetml/2006/main"'
PARTS = {
    "_rels/.rels": f'<Relationships xmlns="{HERE}package/2006/relationships"><Relationship Id="a"'
    f' Type="{HERE}officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/>'
    "</Relationships>",
    "xl/workbook.xml": f'<workbook {MAIN} xmlns:r="{HERE}officeDocument/2006/relationships">'
    '<sheets><sheet name="a" sheetId="1" r:id="s"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{HERE}package/2006/relationships">'
    + "".join(
        f'<Relationship Id="{id_}" Type="{HERE}officeDocument/2006/relationships/{kind}"'
        f' Target="{target}"/>'
        for id_, kind, target in (
            ("s", "worksheet", "worksheets/sheet1.xml"),
            ("t", "sharedStrings", "/xl/sharedStrings.xml"),
            ("u", "styles", "styles.xml"),
        )
    )
    + "</Relationships>",
    SHEET: f"<worksheet {MAIN}><sheetData></sheetData></worksheet>",
    SHARED: f"<sst {MAIN}></sst>",
    STYLES: f"<styleSheet {MAIN}><cellXfs><xf/></cellXfs></styleSheet>",
}
BEFORE = {SHEET: "</sheetData>", SHARED: "</sst>", STYLES: "</cellXfs>"}
CELL = '<row r="{0}"><c r="{1}{0}"><v>1</v></c></row>'
TEXT = '<row r="1"><c r="A1" t="inlineStr"><is><t>'
DTD = '<!DOCTYPE a [<!ENTITY a "' + "x" * 1000 + '">'
LAUGHS = "".join(
    f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in ("ab", "bc", "cd", "de", "ef", "fg", "gh")
)

HOSTILE = {
    "wide": (SHEET, ["".join(CELL.format(n, "XFD") for n in range(1, 9000))], "column 256"),
    "far": (SHEET, [CELL.format(1_048_576, "A")], "row 60,000"),
    "deep": (SHEET, ["<a>" * 100_000] * 10, "nested more than 40 deep"),
    "elements": (SHEET, ["<a/>" * 100_000] * 17, "1,600,000 elements"),
    "cell": (SHEET, [TEXT, *["x" * 1_000_000] * 9], "32,767 characters"),
    "digits": (SHEET, [f"<row><c><v>{'1' * 5000}</v></c></row>"], "64 characters"),
    "tag": (SHEET, ['<a b="', *["1" * 1_000_000] * 9, '"/>'], "longer than 1,000,000 bytes"),
    "comment": (SHEET, ["<!--", *["1" * 1_000_000] * 9, "-->"], "longer than 1,000,000 bytes"),
    "names": (SHEET, ["".join(f"<a{n}/>" for n in range(200_000))], "different names"),
    "blanks": (SHEET, [" " * 1_000_000] * 101, "unpacks to more than 100,000,000 bytes"),
    "shared": (SHARED, ["<si><t>a</t></si>" * 10_000] * 30, "share more than 250,000 texts"),
    "long": (SHARED, [f"<si><t>{'x' * 9999}</t></si>" * 10] * 60, "share more than"),
    "styles": (STYLES, ["<xf/>" * 100_000] * 20, "70,000 forms"),
}  # fmt: skip


def workbook(path, part=SHEET, pieces=(), packed=zipfile.ZIP_DEFLATED, before=""):
    with zipfile.ZipFile(path, "w", packed, compresslevel=1) as parts:
        for name, text in PARTS.items():
            if name != part:
                parts.writestr(name, text)
        head, end, tail = PARTS[part].partition(BEFORE[part])
        with parts.open(part, "w") as stream:
            for piece in (before, head, *pieces, end, tail):
                stream.write(piece.encode())
    return path


COST = """
import re, resource, sys
from pathlib import Path
from agent.core.errors import Refused
from agent.registry.workbook import text_of
for path in sys.argv[1:]:
    try:
        text_of(Path(path).read_bytes(), path)
        print("read")
    except Refused as error:
        print(error)
print(int(re.search(r"VmHWM:\\s+([0-9]+)", Path("/proc/self/status").read_text())[1]) // 1024)
print(resource.getrusage(resource.RUSAGE_SELF).ru_utime)
"""


def test_what_a_small_workbook_opens_to_is_never_held(tmp_path):
    paths = [
        workbook(tmp_path / f"{name}.xlsx", part, pieces)
        for name, (part, pieces, _) in HOSTILE.items()
    ]
    assert sum(path.stat().st_size for path in paths) < 2_000_000
    run = subprocess.run(
        [sys.executable, "-c", COST, *paths], capture_output=True, text=True, timeout=280
    )
    assert not run.stderr
    *lines, megabytes, seconds = run.stdout.splitlines()
    for (name, (_, _, bound)), line in zip(HOSTILE.items(), lines, strict=True):
        assert line.startswith(str(tmp_path / f"{name}.xlsx")), line
        assert "is not read" in line, line
        assert bound in line
    assert int(megabytes) < 100
    assert float(seconds) < 20  # all of them; some 5 on an idle machine


def test_entities_are_not_unfolded(tmp_path):
    path = workbook(tmp_path / "e.xlsx", pieces=["&h;"], before=f"{DTD}{LAUGHS}]>")
    with pytest.raises(Refused, match="declares a document type"):
        text_of(path.read_bytes(), "e.xlsx")


def test_what_is_packed_otherwise_or_in_too_many_parts_is_not_unpacked(tmp_path):
    path = workbook(tmp_path / "b.xlsx", packed=zipfile.ZIP_BZIP2)
    with pytest.raises(Refused, match="packed in a way"):
        text_of(path.read_bytes(), "b.xlsx")
    with zipfile.ZipFile(path, "w") as parts:
        for number in range(1001):
            parts.writestr(str(number), b"")
    with pytest.raises(Refused, match="more than 1,000 parts"):
        text_of(path.read_bytes(), "b.xlsx")
    with pytest.raises(Refused, match="larger than 10,000,000 bytes"):
        text_of(b"a" * 10_000_001, "b.csv")


def test_the_list_of_fifty_thousand_dwellings_is_read(tmp_path):
    cell = '<c t="inlineStr"><is><t>{}</t></is></c>'
    row = f"<row>{cell}{cell}<c><v>{{}}</v></c></row>"
    rows = [row.format("label", "type", 1), *(row.format(f"A-{n}", "D", n) for n in range(50_000))]
    content = workbook(tmp_path / "l.xlsx", pieces=["".join(rows)]).read_bytes()
    columns = {"label": "label", "type": "type"}
    lines = read(text_of(content, "l.xlsx"), "l.xlsx", columns, ("label",))
    assert len(lines) == 50_000
    assert lines[-1].cells == {"label": "A-49999", "type": "D"}
    assert lines[-1].where == "l.xlsx:50001"


def test_texts_that_cells_share_are_read_without_their_sound(tmp_path):
    path = workbook(
        tmp_path / "s.xlsx", SHARED,
        ["<si><t>a</t></si><si><r><t>b</t></r><r><t>c</t></r><rPh><t>d</t></rPh></si>"],
    )  # fmt: skip
    cells = '<row><c t="s"><v>1</v></c><c t="s"><v>0</v></c></row>'
    with zipfile.ZipFile(path, "a") as parts, warnings.catch_warnings(action="ignore"):
        parts.writestr(SHEET, PARTS[SHEET].replace("</sheetData>", f"{cells}</sheetData>"))
    assert text_of(path.read_bytes(), "s.xlsx") == "bc;a\n"


def test_rows_that_a_workbook_leaves_out_are_empty_lines(tmp_path):
    path = workbook(
        tmp_path / "g.xlsx", pieces=[CELL.format(2, "A"), CELL.format(4, "C"), '<row r="9"/>']
    )
    assert text_of(path.read_bytes(), "g.xlsx") == "\n1\n\n;;1\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("label;type\n" + "\n" * 60_001, "more than 60,000 rows"),
        ("label;type\n" + ";" * 256 + "x\n", "more than 256 columns"),
        ("label;type\n" + (";" * 250 + "x\n") * 6000, "more than 1,500,000 cells"),
        ("label;type\n" + "a;" * 600_000, "a line of more than 1,000,000 characters"),
        ("label;type\n" + "a" * 200_000, "field limit"),
    ],
)
def test_a_table_beyond_a_bound_is_refused_with_its_line(text, why):
    with pytest.raises(Refused, match=rf"^p\.csv:[0-9]+: .*{why}"):
        read(text, "p.csv", {"label": "label", "type": "type"}, ("label",))


def as_openpyxl_has_it(content):
    sheet = load_workbook(io.BytesIO(content), data_only=True).active
    return [["" if value is None else str(value) for value in row] for row in sheet.values]


CELLS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**40), 2**40), st.sampled_from([0.5, 1e300, -2.25]),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=5),
    st.dates(min_value=dt.date(1901, 1, 1)),
)  # fmt: skip


@given(st.lists(st.lists(CELLS, min_size=1, max_size=3), min_size=1, max_size=3))
@examples(10, 400)
def test_cells_are_read_as_openpyxl_reads_them(rows):
    book, content = Workbook(), io.BytesIO()
    for row in rows:
        book.active.append([f"'{cell}" if isinstance(cell, str) else cell for cell in row])
    book.save(content)
    expected = as_openpyxl_has_it(content.getvalue())
    table = text_of(content.getvalue(), "p.xlsx")
    read_here = list(csv.reader(io.StringIO(table, newline=""), delimiter=";"))
    for here, cells in zip(read_here, expected, strict=False):
        theirs = [cell.removesuffix(" 00:00:00") for cell in cells]
        assert here + [""] * (len(theirs) - len(here)) == theirs
    assert not any(any(row) for row in expected[len(read_here) :])

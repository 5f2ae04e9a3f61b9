from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.errors import Refused
from agent.registry import sheet
from agent.registry.parsers import dated

COLUMNS = {name: name for name in ("label", "type", "since")}


def read(text):
    return sheet.read(text, "places.csv", COLUMNS, ("label", "type"))


@pytest.mark.parametrize("separator", [";", ",", "\t"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_table_is_read_as_spreadsheets_write_it(separator, start, end):
    text = start + f"LABEL;Type{end}A-3-12; dwelling {end}{end}".replace(";", separator)
    (line,) = read(text)
    assert (line.where, line.fault) == ("places.csv:2", "")
    assert line.cells == {"label": "A-3-12", "type": "dwelling"}


def test_a_row_bears_the_line_on_which_it_begins():
    lines = read('label;type\n"two\nlines";D\n\nA;D\n')
    assert [line.where for line in lines] == ["places.csv:2", "places.csv:5"]


def test_an_empty_cell_is_absent():
    assert read("label;type;since\nA;D;\n")[0].cells == {"label": "A", "type": "D"}


def test_a_cell_under_no_heading_is_the_rows_fault():
    first, second = read("label,type\nCave, lot 3,D\nA,D\n")
    assert '"D" stands under no heading' in first.fault
    assert second.fault == ""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "places.csv:1: the first line must be the headings"),
        ("label;type\n", "no line below"),
        ("label;tpye\nA;D", 'places.csv:1: there is no column "tpye"; did you mean "type"'),
        ("label\nA", 'places.csv:1: the column "type" is missing; there are: label\\. Write'),
        ("A-1;D\nA-2;D", 'places.csv:1: the column "label" is missing; there are: A-1, D\\. Write'),
        (
            "label;" + "a;" * 9 + "\nA",
            'the column "type" is missing; there are: label(, a){5}, …\\. Write',
        ),
        ("label;type;Type\nA;D;D", 'two columns mean "type"'),
        ('label;type\nA;D\n"B;D', 'places.csv:3: a " that opens in this row is never closed'),
    ],
)
def test_a_file_that_is_no_such_table_is_refused(text, why):
    with pytest.raises(Refused, match=why):
        read(text)


@pytest.mark.parametrize(
    ("row", "named"),
    [("A,D,2026", "commas"), ("A\tD", "tabs"), ("Cave 3, bât. B", ""), ("A,", "")],
)
def test_a_row_with_another_separator_is_named_as_such(row, named):
    headings = {1: "label;type", 2: "label;type;since"}[max(1, row.count(",") + row.count("\t"))]
    rows = sheet.read(f"{headings}\nB;D\n{row}\n", "p.csv", COLUMNS, ["label"])
    assert (f"are separated by {named}, those of the headings by semicolons" in rows[1].fault) == (
        named != ""
    )


@pytest.mark.parametrize(
    ("above", "line"),
    [("\n\n", 4), ("Les Alpins;;\n;;\n", 4), ("sep=;\n", 3), ("Les Alpins, 12 rue X\n\n\n", 5)],
)
def test_a_title_above_the_headings_is_passed_over_and_lines_keep_their_numbers(above, line):
    text = f"{above}label;type;nom\nA;D;Dupont\n"
    (found,) = read(text)
    assert (found.where, found.cells) == (f"places.csv:{line}", {"label": "A", "type": "D"})
    assert sheet.unread(text, "places.csv", COLUMNS) == ["nom"]
    with pytest.raises(Refused, match=rf'places\.csv:{line - 1}: there is no column "tipe"'):
        read(text.replace("label;type", "label;since;tipe"))


def test_a_misspelt_heading_is_one_problem():
    with pytest.raises(Refused) as refused:
        read("labl;type\nA;D\n")
    assert str(refused.value) == ('places.csv:1: there is no column "labl"; did you mean "label"?')


@pytest.mark.parametrize("cell", ["#REF!", "#N/A", "#NOM?", "Err:508"])
def test_what_a_formula_says_that_went_wrong_is_no_name(cell):
    first, second = read(f"label;type;note\n{cell};D;\nA;D;{cell}\n")
    assert first.fault == f'"{cell}" is what a formula says that went wrong: correct it'
    assert second.fault == ""


def test_a_no_break_space_is_a_space():
    assert read("label;type\n\u00a0A\u00a01\u202f;D\n")[0].cells["label"] == "A 1"


def test_columns_that_are_none_of_ours_are_not_read_and_said_so():
    """Rule I15."""
    text = "Libellé;type;Nom;Téléphone\nA;D;Dupont;06 12 34 56 78\n"
    columns = COLUMNS | {"libelle": "label"}
    (line,) = sheet.read(text, "places.csv", columns, ("label", "type"))
    assert line.cells == {"label": "A", "type": "D"}
    assert sheet.unread(text, "places.csv", columns) == ["Nom", "Téléphone"]


@pytest.mark.parametrize("heading", ["N° de série", "n de serie", "N° DE SÉRIE ", "n°_de_serie"])
def test_a_heading_is_known_however_it_is_accented(heading):
    columns = {"n° de série": "serial"}
    (line,) = sheet.read(f"{heading}\n0123\n", "m.csv", columns, ("serial",))
    assert line.cells == {"serial": "0123"}


@given(st.text())
def test_no_text_makes_it_raise_anything_but_refused(text):
    for head in ("", "label;type\n"):
        with suppress(Refused):
            read(head + text)


def test_a_fault_names_the_column_as_the_list_does():
    columns = {"label": "label", "type": "type", "since": "since", "depuis": "since"}
    (line,) = sheet.read("label;type;depuis\nA;D;31/02/2024\n", "p.csv", columns, ["label"])
    _moments, fault = dated(line, "Europe/Paris", "since")
    assert fault.startswith("depuis: ")

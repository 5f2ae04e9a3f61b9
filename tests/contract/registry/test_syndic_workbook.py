"""Lists of lots as the software of syndics exports them, imported without edits."""

import datetime as dt
import io

import pytest
from openpyxl import Workbook

from agent.api import facts
from agent.core.errors import Refused
from agent.registry.facts.declaration import columns
from agent.registry.facts.place import LOTS, SHEET
from agent.registry.registry import Registry
from agent.registry.syndic_export import parse
from agent.registry.workbook import text_of
from tests.command import gardien

BY = {"who": "marie", "now": 1_795_000_000.0, "zone": "Europe/Paris"}  # 18 November 2026
HEADINGS = columns((*SHEET, *LOTS))
FIRST_SHEET = (
    ["Résidence Les Alpins"],
    ["12 rue des Écoles, 38000 Grenoble"],
    ["État des lots", None, None, "Édité le", dt.date(2026, 11, 2)],
    [],
    ["Bât.", "Escalier", "Étage", "Porte", "N°\nlot", "Type", "Nature", "Occupant",
     "Date d'entrée", "Date de sortie", "Surface Carrez", "Tantièmes", "Téléphone"],
    ["A", "1", "RDC", "1", "0001", None, "Local commercial", "BOULANGERIE TOTAL",
     dt.date(2012, 4, 1), None, 82.5, 210, "04 76 00 00 00"],
    [None, None, "RDC", "2", "0002", "T2", "Appartement", "Mme DURAND", dt.date(2019, 3, 1), None,
     "45,30", 120, "06 12 34 56 78"],
    [None, None, "1er", "3", "0003", "T3", "Appartement", "M. et Mme PETIT", "12/05/2021", None,
     "67,50", "180", None],
    [None, None, "1er", "4", "0004", "Studio", "Appartement", "VACANT", dt.date(2015, 9, 1),
     dt.date(2026, 8, 31), "24,10", "70", None],
    [None, "2", 2, 5, "0005", "F4", "Appartement", "M. NGUYEN", "1er mars 2019", "31/12/2999",
     "88,00", "230", None],
    [None, None, 2, 6, "0006 et 0007", "T2 bis", "Appartement", "M. LIBRE Jean",
     dt.date(1987, 6, 15), None, "52,00", "140", None],
    [],
    [None, None, "-1", "C1", "0101", None, "Cave", "Mme DURAND", dt.date(2019, 3, 1), None, None,
     "4", None],
    [None, None, "S/Sol", None, 102, None, "Emplacement parking", "M. NGUYEN", None, None, None, 8],
    [None, None, "S/Sol", None, 103, None, "Garage fermé", None, None, None, None, 10],
    ["Total bâtiment A", None, None, None, None, None, None, None, None, None, None, 972],
    ["TOTAL GÉNÉRAL", None, None, None, None, None, None, None, None, None, None, 972],
    [],
    ["Édité par Crypto — page 1/1"],
)  # fmt: skip


@pytest.fixture
def registry(tmp_path):
    return Registry.open(tmp_path / "registry.json")


def book(*sheets, merged=()):
    made = Workbook()
    made.remove(made.active)
    for title, rows in sheets:
        sheet = made.create_sheet(title)
        for row in rows:
            sheet.append(row)
    for title, cells in merged:
        made[title].merge_cells(cells)
    content = io.BytesIO()
    made.save(content)
    return content.getvalue()


def export():
    """A workbook with a cover, the list of lots, and the list of owners."""
    return book(
        ("Page de garde", [["Cabinet Martin & Fils"], ["Export du 02/11/2026"]]),
        ("Lots", FIRST_SHEET),
        ("Copropriétaires", [["Compte", "Copropriétaire", "Lot"], ["450001", "SCI ALPES", "1"]]),
        merged=[("Lots", cells) for cells in ("A1:M1", "A2:M2", "A6:A15", "B6:B9", "B10:B15")],
    )


def imported(registry, content, name="lots.xlsx", **more):
    return facts.place_import(
        registry, **BY, text=text_of(content, name, HEADINGS), name=name, **more
    )


def states(registry):
    listed = facts.place_list(registry, **{k: BY[k] for k in ("who", "now")})["places"]
    return {p["label"]: (p["occupancy_state"], p["occupancy_state_since"]) for p in listed}


def test_a_workbook_is_imported_as_the_software_writes_it(registry):
    answer = imported(registry, export(), reviewed=True)
    assert states(registry) == {
        "A-1-RDC-2": ("occupied", "2019-02-28T23:00:00Z"),
        "A-1-1-3": ("occupied", "2021-05-11T22:00:00Z"),
        "A-1-1-4": ("unknown", None),
        "A-2-2-5": ("occupied", "2019-02-28T23:00:00Z"),
        "A-2-2-6": ("occupied", "2000-01-01T23:00:00Z"),
    }
    assert {place["type"] for place in answer["places"]} == {"dwelling"}
    assert answer["headings_line"] == 5
    assert answer["labels_made_of"] == ["Bât.", "Escalier", "Étage", "Porte"]
    assert answer["remarks"] == [
        {"label": "A-1-1-4", "why": "vacant"},
        {"label": "A-2-2-6", "why": "early"},
    ]
    # of a lot, its number becomes another name of the dwelling
    assert [registry.place(f"lot {lot}").label for lot in ("2", "5", "6", "7")] == [
        "A-1-RDC-2", "A-2-2-5", "A-2-2-6", "A-2-2-6",
    ]  # fmt: skip


def test_what_is_left_out_is_shown_with_its_line_and_reason(registry):
    answer = imported(registry, export(), preview=True)
    assert [
        (row["where"].rpartition(":")[2], row["what"], row["why"]) for row in answer["left_out"]
    ] == [
        ("6", "Local commercial, lot 0001", "other"),
        ("13", "Cave, lot 0101", "no_dwelling"),
        ("14", "Emplacement parking, lot 102", "no_dwelling"),
        ("15", "Garage fermé, lot 103", "no_dwelling"),
        ("16", "Total bâtiment A 972", "note"),
        ("17", "TOTAL GÉNÉRAL 972", "note"),
        ("19", "Édité par Crypto — page 1/1", "note"),
    ]
    assert {"Occupant", "Téléphone", "Tantièmes"} <= set(answer["not_read"])
    assert registry.places() == []


def test_nothing_is_imported_before_a_person_has_confirmed_it(registry):
    with pytest.raises(Refused, match=r"nothing was recorded, .* left out: 7; .* add --yes"):
        imported(registry, export())
    assert registry.places() == []
    imported(registry, export(), reviewed=True)
    again = imported(registry, export(), reviewed=True)
    assert (again["places"], again["unchanged"], again["lots"]) == ([], 11, 0)


def test_no_name_of_a_person_is_recorded(registry, tmp_path):
    imported(registry, export(), reviewed=True)
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for name in ("DURAND", "PETIT", "NGUYEN", "LIBRE"):
        assert name.encode() not in kept


CSV = """\
"COPROPRIÉTÉ LE PARC - LISTE DES LOTS AU 02/11/2026";;;;;;
;;;;;;
Lot;Désignation;Bâtiment;Étage;Porte;Locataire;Entrée
12;Appartement T3;Bâtiment B;2ème étage;Gauche;MARTIN;01/03/2019
13;Appartement T2;Bâtiment B;2ème étage;Droite;;
112;Cave n° 4;Bâtiment B;Sous-sol;4;MARTIN;01/03/2019
14;Loge;Bâtiment B;Rez-de-chaussée;;;
Nombre de lots : 4;;;;;;
"""


def test_a_csv_of_windows_whose_designation_says_what_a_lot_is(registry):
    answer = imported(registry, CSV.encode("cp1252"), "lots.csv", reviewed=True)
    assert states(registry) == {
        "B-2-GAUCHE": ("occupied", "2019-02-28T23:00:00Z"),
        "B-2-DROITE": ("unknown", None),
    }
    assert [row["why"] for row in answer["left_out"]] == ["no_dwelling", "other", "note"]


SECTIONS = """\
Immeuble : 14 quai de la Saône
Lot;Étage;Porte;Type de lot;Occupant;Entré le
Bâtiment A;;;;;
1;1;11;T2;DUPONT;12 mai 2021
2;1;12;T3;;12 mai 2021
Sous-total;;;;;
Lot;Étage;Porte;Type de lot;Occupant;Entré le
Bâtiment B;;;;;
3;1;11;2 pièces;DURAND;3 févr. 2024
4;1;12;Appart. 4P;LEROY;01/01/1900
"""


def test_a_row_above_the_lots_of_a_building_is_part_of_their_labels(registry):
    answer = imported(registry, SECTIONS.encode(), "lots.csv", reviewed=True)
    assert states(registry) == {
        "A-1-11": ("occupied", "2021-05-11T22:00:00Z"),
        "A-1-12": ("unknown", None),
        "B-1-11": ("occupied", "2024-02-02T23:00:00Z"),
        "B-1-12": ("unknown", None),
    }
    assert [(one["label"], one["why"]) for one in answer["remarks"]] == [
        ("A-1-12", "nobody"),
        ("B-1-12", "no_date"),
    ]
    assert [row["why"] for row in answer["left_out"]] == ["note"] * 4


@pytest.mark.parametrize(
    ("text", "why"),
    [
        # the date on which an owner bought is not that on which somebody moved in
        ("Lot;Type;Copropriétaire;Date d'entrée\n1;T2;SCI ALPES;01/03/2019\n", "owner"),
        ("Lot;Type;Occupant;Entrée;Sortie\n1;T2;PETIT;01/03/2019;30/09/2026\n", "left"),
        ("Lot;Type;Statut;Entrée\n1;T2;Inoccupé;01/03/2019\n", "vacant"),
    ],
)
def test_a_date_that_may_not_be_of_the_present_occupants_records_nobody(registry, text, why):
    answer = imported(registry, text.encode(), "l.csv", reviewed=True)
    assert states(registry) == {"lot 1": ("unknown", None)}
    assert answer["remarks"] == [{"label": "lot 1", "why": why}]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Bât.;Porte;Type\nA;1;T2\nA;1;T3\n", r'l\.csv:3: "A-1" exists already: "A-1" of l\.csv:2'),
        ("Lot;Type;Nature\n1;T2;Cave\n", r'l\.csv:2: type: the row says "Cave", "T2"'),
        (
            "Lot;Type\n1;Apartement\n",
            r'l\.csv:2: type: "Apartement" is not known; did you mean "app',
        ),
        ("Bât.;Porte;Type\nA;03-janv;T2\n", r'l\.csv:2: door: .*made the date "03-janv"'),
        ("Bât.;Porte\nA;1\n", 'column "type" is missing'),
        ("Lot;Type\n1;T2\n12-14;T3\n", r'l\.csv:3: .*"12-14"'),
    ],
)
def test_what_is_contradictory_or_unreadable_is_refused_with_its_line(registry, text, why):
    with pytest.raises(Refused, match=why):
        imported(registry, text.encode(), "l.csv", reviewed=True)
    assert registry.places() == []


OTHERS = (
    "Code immeuble;Nom immeuble;Position;Compte copropriétaire;Date acte;Date de vente;Notaire;"
    "Dépôt de garantie;Gestionnaire;Badge;Section;Parcelle;Chauffage;Cave;Libre le;Date bail;"
    "Index entrée;UUID;Libellé lot;Ligne;Local;Dénomination;Date de naissance;Nb occupants;"
    "Date d'effet;Mutation;Mode de paiement;Propriétaire bailleur;Civilité;Loyer;DPE"
)


def test_further_columns_of_an_export_are_not_taken_for_misspelt_ones(registry):
    first = f"Lot;Type;Bât;Étage;Porte;Niveau;{OTHERS}"
    answer = imported(registry, f"{first}\n1;T2;A;3;12;4\n".encode(), "l.csv", reviewed=True)
    assert list(states(registry)) == ["A-3-12"]
    # a second column with the same meaning is not read either, and named
    assert answer["not_read"] == ["Niveau", *OTHERS.split(";")]
    # but a letter that is wrong is told
    with pytest.raises(Refused, match='no column "depuiss"; did you mean "depuis"'):
        imported(registry, b"Lot;Type;depuiss\n2;T2;01/03/2019\n", "l.csv", reviewed=True)


def test_a_list_on_several_sheets_is_not_guessed():
    rows = [["Lot", "Type"], [1, "T2"]]
    content = book(("Bât A", rows), ("Bât B", rows))
    with pytest.raises(Refused, match=r"Bât A., .Bât B.\. Name it: --sheet 'Bât A'"):
        text_of(content, "l.xlsx", HEADINGS)
    assert text_of(content, "l.xlsx", HEADINGS, "Bât B") == "Lot;Type\n1;T2\n"
    with pytest.raises(Refused, match="--sheet"):
        text_of(content, "l.xlsx", HEADINGS, "Bât C")


LEASES = """\
Bât.;Escalier;Étage;Porte;Type;N° de bail;Date d'entrée;Date de sortie
A;1;RDC;2;T2;B-2019-1;01/03/2019;
A;1;1;3;T3;B-2021-2;12/05/2021;30/06/2027
A;1;1;4;Studio;;;
;;;102;Parking;P-7;01/03/2019;
Total;;;;;3;;
"""


def test_leases_and_meters_of_the_same_software_name_dwellings_by_floor_and_door(registry):
    imported(registry, export(), reviewed=True)
    done = facts.occupancy_import(registry, **BY, text=LEASES, name="baux.csv")
    assert [(one["label"], one["reference"]) for one in done["occupancies"]] == [
        ("A-1-RDC-2", "B-2019-1"),
        ("A-1-1-3", "B-2021-2"),
    ]
    assert [(row["where"], row["what"], row["why"]) for row in done["left_out"]] == [
        ("baux.csv:4", "A-1-1-4", "no_lease"),
        ("baux.csv:5", "Parking", "no_lease"),
        ("baux.csv:6", "Total 3", "note"),
    ]
    meters = "N° de série;Bât;Esc.;Niveau;N° appt\n45123456;A;1;rez-de-chaussée;02\n"
    (meter,) = facts.meter_import(registry, **BY, text=meters, name="m.csv")["meters"]
    assert meter["label"] == "A-1-RDC-2"


def test_a_nightly_export_has_a_cover_titles_and_totals():
    rows = [
        ["Baux au 02/11/2026"],
        ["Appartement", "Bail", "Du", "Au"],
        ["A-1", "B-1", dt.date(2019, 3, 1), "31/12/2999"],
        ["Total : 1"],
        ["Page 1/1"],
    ]
    headings = {"dwelling": "Appartement", "reference": "Bail", "since": "Du", "until": "Au"}
    content = book(("Garde", [["Cabinet Martin"]]), ("Baux", rows))
    text = text_of(content, "baux.xlsx", tuple(headings.values()))
    export = parse(text, "baux.xlsx", headings, "Europe/Paris", move_words={})
    assert [(row.dwelling, row.reference, row.fault) for row in export.rows] == [("A-1", "B-1", "")]
    assert export.left == 2


def test_a_web_page_with_the_name_of_a_workbook_is_told():
    with pytest.raises(Refused, match="a web page or XML"):
        text_of(b"<html><table><tr><td>Lot</td></tr></table></html>", "lots.xls")


def test_the_command_says_in_french_what_it_read_and_left_out(tmp_path):
    (tmp_path / "state").mkdir()
    config = tmp_path / "config.yaml"
    config.write_text(f"building: {{name: Les Alpins}}\nstate: {tmp_path / 'state'}\n")
    (tmp_path / "lots.xlsx").write_bytes(export())

    def run(*more, code=0):
        words = (
            "place",
            "import",
            str(tmp_path / "lots.xlsx"),
            "-c",
            config,
            "--as",
            "marie",
            *more,
        )
        done = gardien(*words, env={"LANG": "fr_FR.UTF-8", "COLUMNS": "200"})
        if code:
            raise done.exception
        assert done.exit_code == 0, done.output
        return " ".join(done.output.split())

    assert gardien("key", "new", "-c", config).exit_code == 0
    preview = run("--preview")
    assert "lecture de la feuille « Lots » ; non lues : Page de garde, Copropriétaires" in preview
    assert "les désignations sont formées des colonnes : Bât., Escalier, Étage, Porte" in preview
    assert "6: Local commercial, lot 0001" in preview
    assert "A-1-1-4 : vacant d'après la liste" in preview
    with pytest.raises(Refused, match="nothing was recorded, because a person must confirm"):
        run(code=1)
    assert "Enregistré : 5 lieux et 6 lots" in run("--yes")

"""What people state of a place, such as its living area: recorded, changed, and sent to nobody."""

import json

import pytest

from agent.acquisition.directory import directory
from agent.api import facts
from agent.cli import place
from agent.core.errors import Refused
from agent.registry.consent_policy import policy
from agent.registry.registry import Registry
from agent.registry.storage import to_row

BY = {"who": "alice", "now": 1_790_000_000.0}


@pytest.fixture
def registry(tmp_path):
    return Registry.open(tmp_path / "registry.json")


def imported(registry, text, **more):
    return facts.place_import(registry, **BY, text=text, name="places.csv", **more)


def areas(registry):
    places = facts.place_list(registry, **BY)["places"]
    return {place["label"]: place["area_m2"] for place in places}


def test_an_area_is_recorded_by_the_command_and_survives_a_restart(registry, tmp_path):
    facts.place_new(registry, **BY, label="A-1", type="dwelling", area_m2="67,5")
    facts.place_new(registry, **BY, label="A-2", type="dwelling")
    assert areas(Registry.open(tmp_path / "registry.json")) == {"A-1": 67.5, "A-2": None}


@pytest.mark.parametrize(
    "heading", ["area_m2", "area", "Area (m²)", "surface", "Surface (m²)", "SURFACE"]
)
@pytest.mark.parametrize("cell", ["67,5", "67.50", "67.5 m²", "67,5m2"])
def test_an_area_comes_from_a_column_in_both_languages(registry, heading, cell):
    answer = imported(registry, f"label;type;{heading}\nA-1;logement;{cell}\nA-2;logement;\n")
    assert answer["not_read"] == []
    assert areas(registry) == {"A-1": 67.5, "A-2": None}


@pytest.mark.parametrize("cell", ["0", "-3", "1e3", "large", "67.555", "1000000", "NaN"])
def test_a_cell_that_is_no_area_is_refused_with_its_line(registry, cell):
    with pytest.raises(Refused, match=r"places\.csv:2: area_m2: .* such as 67\.5"):
        imported(registry, f"label;type;surface\nA-1;logement;{cell}\n")
    assert areas(registry) == {}


@pytest.mark.parametrize("heading", ["Surface Carrez", "Surfaces", "aera", "Surface utile (m²)"])
def test_a_column_that_only_resembles_an_area_is_ignored_as_before(registry, heading):
    answer = imported(registry, f"label;type;{heading}\nA-1;logement;abc\n")
    assert answer["not_read"] == [heading]


def test_a_list_that_is_imported_again_changes_areas_and_an_empty_cell_changes_none(registry):
    since = "2026-09-01T00:00:00Z"
    imported(registry, f"label;type;since\nA-1;logement;{since}\nA-2;logement;\n")
    first = {place.label: place.id for place in registry.places()}
    preview = imported(registry, "label;type;area\nA-1;logement;50\n", preview=True)
    (known,) = preview["places"]
    assert (known["label"], known["area_m2"], known["id"]) == ("A-1", 50, first["A-1"])
    assert known["occupancy_state"] == "occupied"
    assert areas(registry) == {"A-1": None, "A-2": None}
    for cells, changed in (("50;61", 2), ("50;61", 0), (";62", 1), (";", 0)):
        one, two = cells.split(";")
        answer = imported(registry, f"label;type;area\nA-1;logement;{one}\nA-2;logement;{two}\n")
        assert (len(answer["places"]), answer["unchanged"]) == (changed, 2 - changed)
    assert areas(registry) == {"A-1": 50, "A-2": 62}
    assert {place.label: place.id for place in registry.places()} == first
    # a changed place takes the place of its earlier version: the label names one place
    assert registry.place("a 1").id == first["A-1"]


def test_two_rows_with_different_areas_of_one_dwelling_are_refused(registry):
    imported(registry, "label;type\nA-1;logement\n")
    with pytest.raises(Refused, match=r"places\.csv:3: area_m2: .* another one in places\.csv:2"):
        imported(registry, "label;type;area\nA-1;logement;50\nA-1;logement;51\n")
    imported(registry, "label;type;area\nA-1;logement;50\nA-1;logement;50\nA-1;logement;\n")
    assert areas(registry) == {"A-1": 50}


def test_an_area_is_in_no_directory_and_retracts_nothing(registry):
    here = BY | {"zone": "Europe/Paris"}
    facts.place_new(registry, **here, label="A-1", type="dwelling", since="2026-09-01")
    duty = {"recipient": "syndic.example", "reference": "décret 2020-886", "channels": ["heat"]}
    facts.duty_add(registry, **here, **duty, since="2026-09-01")
    rules = policy("FR-1")
    before = directory(registry, rules, "syndic.example", {}, {}, "Europe/Paris")
    revision = registry.revision
    imported(registry, "label;type;area\nA-1;logement;50.25\n")
    after = directory(registry, rules, "syndic.example", {}, {}, "Europe/Paris")
    assert any(key.startswith("places/") for key in after)
    assert after == before
    assert "50.25" not in json.dumps(after)
    assert [retractions for _, retractions in registry.effects(revision)] in ([], [()])


def test_a_registry_without_areas_is_written_as_the_version_before_reads_it(registry):
    facts.place_new(registry, **BY, label="A-1", type="dwelling")
    (place,) = registry.places()
    assert sorted(to_row(place)) == ["id", "kind", "label", "word"]


def test_while_an_upgrade_is_on_trial_no_area_is_recorded(registry):
    registry.marked = False
    with pytest.raises(Refused, match="an upgrade is on trial, so `area_m2` cannot be recorded"):
        facts.place_new(registry, **BY, label="A-1", type="dwelling", area_m2="50")
    facts.place_new(registry, **BY, label="A-1", type="dwelling")
    assert areas(registry) == {"A-1": None}


def test_the_list_has_a_column_for_areas_only_if_there_are_any(registry, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("LANGUAGE", "en")
    facts.place_new(registry, **BY, label="A-1", type="dwelling")
    place._show(facts.place_list(registry, **BY))
    assert "area" not in capsys.readouterr().out
    facts.place_new(registry, **BY, label="A-2", type="dwelling", area_m2="67,5")
    place._show(facts.place_list(registry, **BY))
    head, *rows = capsys.readouterr().out.strip().splitlines()
    assert head.rstrip().endswith("living area (m²)")
    assert [row.split()[-1] for row in rows[1:]] == ["unknown", "67.5"]

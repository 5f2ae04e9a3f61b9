"""What the commands get, through the same door as everybody."""

import asyncio
import errno
import json
from functools import partial

import pytest

from agent import app
from agent.api import facts
from agent.api.calls import CALLS
from agent.api.registry import Caller
from agent.config import load
from agent.core.errors import Refused
from agent.registry.registry import Registry

BY = {"who": "alice", "now": 1_790_000_000.0}
PLACES = (
    "Label;Type;id;since\nA-3-12;dwelling;D84G7-ZWYRD-6ZLGQ;2026-09-21T14:13:20Z\n"
    "A-3-13;logement;;2026-09-21T14:13:20Z\nHall;commun;;\n"
)


@pytest.fixture
def registry(tmp_path):
    registry = Registry.open(tmp_path / "registry.json")
    facts.place_import(registry, **BY, text=PLACES, name="places.csv")
    return registry


def test_places_come_from_a_table_and_are_listed(registry):
    listed = facts.place_list(registry, **BY)
    json.dumps(listed)
    assert [(place["label"], place["type"]) for place in listed["places"]] == [
        ("A-3-12", "dwelling"),
        ("A-3-13", "dwelling"),
        ("Hall", "common"),
    ]
    assert listed["places"][0]["shown"] == "D84G7-ZWYRD-6Z1GQ"
    assert listed["places"][0]["occupied_since"] == "2026-09-21T14:13:20Z"
    assert listed["places"][0]["source"] == "places.csv:2"
    assert listed["places"][2]["occupancy"] is None


def test_a_wrong_line_17_is_told_and_nothing_is_recorded(registry):
    rows = [f"B-{n};dwelling" for n in range(2, 40)]
    rows[15] = "B-17;dweling"
    text = "\n".join(["label;type", *rows])
    with pytest.raises(Refused) as refused:
        facts.place_import(registry, **BY, text=text, name="places.csv")
    said = str(refused.value)
    assert said == 'places.csv:17: type: "dweling" is not known; did you mean "dwelling"?'
    assert said.count("\n") == 0
    assert len(facts.place_list(registry, **BY)["places"]) == 3


@pytest.mark.parametrize("label", ["03-janv", "1-Dec", "15-août.", "2026-01-03", "03/01/2026"])
def test_a_name_that_excel_made_a_date_of_is_no_name(registry, label):
    with pytest.raises(Refused, match=rf'p\.csv:2: label: .*made the date "{label}" of what was'):
        facts.place_import(registry, **BY, text=f"label;type\n{label};D\n", name="p.csv")


def test_an_empty_type_speaks_of_merged_cells(registry):
    with pytest.raises(Refused, match="type: it is empty; of merged cells"):
        facts.place_import(registry, **BY, text="label;type\nA-9;\n", name="p.csv")


def test_all_wrong_lines_are_told_in_order_whatever_is_wrong_with_them(registry):
    text = "label;type;since\nC-1;dwelling;12/07/2026\nC-2;flet;\nC-3;D;;x\n;D;\n"
    with pytest.raises(Refused) as refused:
        facts.place_import(registry, **BY, text=text, name="p.csv")
    lines = str(refused.value).splitlines()
    assert [line.split()[0] for line in lines] == [
        "p.csv:2:",
        "p.csv:3:",
        "p.csv:4:",
        "p.csv:5:",
    ]


def test_a_new_place_gets_an_id_and_a_date_at_the_buildings_midnight(registry):
    added = facts.place_new(
        registry, **BY, label="B-1", type="D", since="2026-07-12", zone="Europe/Paris"
    )
    (place,) = added["places"]
    assert place["occupied_since"] == "2026-07-11T22:00:00Z"
    assert facts.place_check(registry, **BY, text=place["id"])["label"] == "B-1"


def test_check_tells_an_id_of_another_building_from_a_wrong_one(registry):
    foreign = facts.place_check(registry, **BY, text="drdvi-ewzep-eexy9")
    assert (foreign["shown"], foreign["label"]) == ("DRDV1-EWZEP-EEXY9", None)
    assert facts.place_check(registry, **BY, text="a-3-12")["id"] == "D84G7ZWYRD6Z1GQ"
    with pytest.raises(Refused, match="check characters do not match"):
        facts.place_check(registry, **BY, text="DRDV1-EWZEP-EEXY8")


@pytest.mark.parametrize(
    "table",
    [
        "serial;dwelling\n45;A-3-12\n46;A-3-13\n",
        "device,dwelling\nsdm-1,A-3-12\nsdm-2,A-3-13\n",
        "device;serial;dwelling;channel;since\nsdm-1;45;a-3-12;heat;2026-07-12T00:00Z\n;46;A-3-13;;\n",
    ],
)
def test_meters_come_from_a_table(registry, table):
    done = facts.meter_import(registry, **BY, text=table, name="meters.csv")
    json.dumps(done)
    assert [meter["label"] for meter in done["meters"]] == ["A-3-12", "A-3-13"]
    assert (done.pop("not_read"), done.pop("unchanged")) == ([], 0)
    assert facts.meter_list(registry, **BY) | {"left_out": []} == done


def test_an_assigned_device_says_what_it_waits_for(registry):
    (waits,) = facts.meter_assign(registry, **BY, device="sdm", dwelling="A-3-12")["meters"]
    assert waits["state"] == "not yet said by the device"
    assigned = {"device": "sdm2", "dwelling": "A-3-13", "serial": "45"}
    (known,) = facts.meter_assign(registry, **BY, **assigned)["meters"]
    assert known["state"] == "as people recorded"


def give(registry, **more):
    asked = {"recipient": "A.example", "channels": ["heat"], "step": "30min", "purpose": "advice"}
    return facts.consent_give(registry, **BY, **{**asked, **more})


def test_several_places_and_a_file_consent_in_one_go(registry):
    done = give(registry, places=["A-3-12"], text="label\nA-3-13\n", name="homes.csv")
    json.dumps(done)
    assert [(each["label"], each["recipient"], each["step"]) for each in done["consents"]] == [
        ("A-3-12", "a.example", 1800),
        ("A-3-13", "a.example", 1800),
    ]
    assert [each["source"] for each in done["consents"]] == ["gardien consent give", "homes.csv:2"]
    listed = facts.consent_list(registry, **BY)["consents"]
    assert sorted(each["label"] for each in listed) == ["A-3-12", "A-3-13"]
    assert all(each["in_force"] for each in listed)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({}, "no place is named"),
        ({"places": ["A-3-12"], "step": "30"}, "step: "),
        ({"places": ["A-3-12"], "step": "1.5s"}, "whole number of seconds"),
        ({"places": ["A-3-12"], "step": "1s"}, "policy FR-1"),
        ({"places": ["A-3-12"], "policy": "none"}, "not a privacy policy"),
        ({"places": ["A-3-12"], "until": "2026-12-01"}, "no time zone"),
        ({"text": "place\nA-9\n", "name": "h.csv"}, 'h.csv:2: there is no place "A-9"'),
    ],
)
def test_a_wrong_consent_is_refused_and_nothing_is_recorded(registry, more, why):
    with pytest.raises(Refused, match=why):
        give(registry, **more)
    assert registry.consents() == []


def test_a_preview_records_nothing_and_finds_what_an_import_would(registry):
    before = registry.revision
    lots = "lot;label;type\n12;A-9-1;appartement\n112;A-9-1;cave\n"
    (home,) = facts.place_import(registry, **BY, text=lots, name="l.csv", preview=True)["places"]
    assert (home["id"], home["shown"], home["aliases"]) == (None, "new", ["lot 12", "lot 112"])
    cellar = "lot;label;type\n112;Cave 9;cave\n"
    with pytest.raises(Refused, match=r"l\.csv: nothing was recorded, because .* left out: 1;"):
        facts.place_import(registry, **BY, text=cellar, name="l.csv")
    text = "Libellé;type;Nom\nA-9-1;appartement;Dupont\nCave 9;parties communes;\n"
    would = facts.place_import(registry, **BY, text=text, name="p.csv", preview=True)
    assert [place["label"] for place in would["places"]] == ["A-9-1", "Cave 9"]
    assert would["not_read"] == ["Nom"]
    assert registry.revision == before
    done = facts.place_import(registry, **BY, text=text, name="p.csv")
    assert registry.revision == before + 1
    assert [place["type"] for place in done["places"]] == ["dwelling", "common"]
    with pytest.raises(Refused, match="exists already"):
        facts.place_import(registry, **BY, text="label;type\nA-9-1;C\n", name="p.csv", preview=True)
    meters = "N° de série;Logement;Pose\n4,51E+07;A-9-1;\n"
    with pytest.raises(Refused, match=r'm\.csv:2: N° de série: .*"4,51E\+07"'):
        facts.meter_import(registry, **BY, text=meters, name="m.csv", preview=True)
    meters = "N° de série;Logement;Pose\n01234567;A-9-1;12/05/2026\n"
    (meter,) = facts.meter_import(registry, **BY, text=meters, name="m.csv", zone="Europe/Paris")[
        "meters"
    ]
    assert meter["since"] == "2026-05-11T22:00:00Z"
    place = meter["place"]
    # the meter itself says it without the zero that people wrote
    assert registry.whose("any", "1234567", "elec.imp", 1_795_000_000).place == place


def test_a_place_with_another_date_is_refused_with_what_to_do(registry):
    list_ = "label;type;since\nA-9;logement;2026-01-01\n"
    facts.place_import(registry, **BY, text=list_, name="p.csv", zone="Europe/Paris")
    other = list_.replace("2026", "2025")
    with pytest.raises(Refused, match=r"gardien occupancy correct A-9 --id H.* --since DATE"):
        facts.place_import(registry, **BY, text=other, name="p.csv", zone="Europe/Paris")


def test_a_place_that_begins_to_be_lived_in_later_is_foreseen_and_listed_so(registry):
    list_ = "label;type;since\nA-8;logement;2020-01-01\nA-9;logement;2036-01-01\n"
    words = {"text": list_, "name": "p.csv", "zone": "UTC", "confirm": ["2036-01-01"]}
    would = facts.place_import(registry, **BY, **words, preview=True)["places"]
    done = facts.place_import(registry, **BY, **words)["places"]
    names = ("occupancy_state", "occupancy_state_since", "lived_in_from")
    stated = [[place[name] for name in names] for place in done]
    assert stated == [
        ["occupied", "2020-01-01T00:00:00Z", None],
        ["unknown", None, "2036-01-01T00:00:00Z"],
    ]
    assert [[place[name] for name in names] for place in would] == stated


def test_a_list_that_the_disk_refuses_says_which_ends_are_in_force_and_may_be_sent_again(tmp_path):
    """Rules A7, A10."""
    state, config = tmp_path / "state", tmp_path / "config.yaml"
    state.mkdir(mode=0o700)
    config.write_text(f"building: {{name: Les Alpins}}\nstate: {state}\n", encoding="utf-8")

    def record(gateway, text):
        call = partial(CALLS["occupancy.import"], gateway, Caller("alice", None))
        return asyncio.run(call(text=text, name="l.csv"))["occupancies"]

    def fails(_handle):
        raise OSError(errno.EIO, "the card")

    with app.opened(load(config)) as gateway:
        facts.place_new(gateway.registry, **BY, label="A-1", type="dwelling")
        (home,) = record(gateway, "label;since;reference\nA-1;2026-01-01;B1\n")
        both = "label;since;until;reference\nA-1;2026-01-01;2026-09-01;B1\nA-1;2026-09-01;;B2\n"
        works, gateway.registry._storage._fsync = gateway.registry._storage._fsync, fails
        with pytest.raises(Refused, match=f"In force.*the end of {home['shown']}") as refused:
            record(gateway, both)
        assert "nothing was recorded" not in str(refused.value)
        assert [one.reference for one in gateway.registry.occupancies()] == ["B1"]
        gateway.registry._storage._fsync = works
        record(gateway, both)
        assert [one.reference for one in gateway.registry.occupancies()] == ["B1", "B2"]

"""How places and meters fit: what a place map is answered with (rule I24)."""

from agent.api import facts
from agent.registry.matching import MOST, Met, mapping
from agent.registry.registry import Registry

BY = {"who": "alice", "now": 1_790_000_000}


def opened(folder, *labels):
    registry = Registry.open(folder / "registry.json")
    for label in labels:
        facts.place_new(registry, **BY, label=label, type="dwelling")
    return registry


def test_places_without_a_meter_and_meters_without_a_place_are_named(tmp_path):
    known = opened(tmp_path, "A-1", "A-2")
    facts.place_new(known, **BY, label="Hall", type="common")
    facts.meter_import(known, **BY, text="serial;dwelling\n45;A-1\n", name="m.csv")
    line = [Met("m-1", "0045", {"heat"}), Met("m-2", "46", {"heat"}), Met("m-3", None, {"cw"})]
    empty = known.place("A-2").id
    assert mapping(known, line, BY["now"]) == {
        "mapped": 1,
        "places_without_meter": [empty],
        "meters_without_place": ["46", "m-3"],
        "more": 0,
    }
    assert mapping(known, line, BY["now"] - 1)["mapped"] == 0, "it was not there yet"


def test_of_a_map_of_a_whole_district_the_rest_is_a_number(tmp_path):
    known = opened(tmp_path)
    rows = "".join(f"A-{number};dwelling\n" for number in range(MOST + 5))
    facts.place_import(known, **BY, text=f"label;type\n{rows}", name="p.csv")
    found = mapping(known, [], BY["now"])
    assert (len(found["places_without_meter"]), found["more"]) == (MOST, 5)

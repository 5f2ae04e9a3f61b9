"""Guards invariant 3: a recipient is told of nobody without a basis that names him."""

from agent.pipeline.directory import directory
from agent.pipeline.ledger import Owed
from tests.unit.pipeline.house import LONG_AGO, NOW, RECIPIENT, Town


def listed(items, name):
    return [item for key, item in items.items() if key.startswith(f"{name}/")]


def told(town, recipient=RECIPIENT, owed=None, before=None):
    return directory(
        town.registry, town.policy, recipient, owed or {}, before or {}, "Europe/Paris"
    )


def test_only_dwellings_that_consented_are_told_of(tmp_path):
    town = Town(tmp_path, dwellings=3, consents=["D2"])
    items = told(town)
    assert [place["label"] for place in listed(items, "places")] == ["D2"]
    assert [one["place"] for one in listed(items, "installations")] == [town.place("D2")]
    assert [one["place"] for one in listed(items, "occupancies")] == [town.place("D2")]
    assert [one["purpose"] for one in listed(items, "bases")] == ["advice"]


def test_another_recipient_is_told_nothing_of_anybody(tmp_path):
    assert list(told(Town(tmp_path), "other.example")) == ["zone/"]


def test_a_series_is_owed_since_its_first_slot_ever(tmp_path):
    town = Town(tmp_path)
    series = Owed(town.place("D1"), "elec.imp", "REG", "kWh", 900)
    first = told(town, owed={series: LONG_AGO})
    (known,) = listed(first, "series")
    assert known["since"] == "2025-10-09T08:53:20Z"
    for owed in ({}, {series: NOW}):  # the agent has started anew
        assert listed(told(town, owed=owed, before=first), "series") == [known]

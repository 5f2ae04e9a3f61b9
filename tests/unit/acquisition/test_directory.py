"""Guards rule G3: a recipient is told of nobody without a basis that names him. Rule P21."""

from agent.acquisition.directory import directory
from agent.acquisition.slots import ExpectedSeries
from agent.registry.inputs import NewAlias, NewDuty, NewWithdrawal
from tests.unit.acquisition.house import LONG_AGO, NOW, RECIPIENT, Town


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
    series = ExpectedSeries(town.place("D1"), "elec.imp", "REG", "kWh", 900)
    first = told(town, owed={series: LONG_AGO})
    (known,) = listed(first, "series")
    assert known["since"] == "2025-10-09T08:53:20Z"
    for owed in ({}, {series: NOW}):  # the agent has started anew
        assert listed(told(town, owed=owed, before=first), "series") == [known]


def test_names_proofs_and_duties_are_told(tmp_path):
    town = Town(tmp_path, dwellings=2, consents=[])
    duty = NewDuty("manager.example", "décret 2020-886", ("elec.imp",), LONG_AGO, None, ("06-30",))
    town.registry.oblige([duty], "test", "test", NOW)
    town.registry.name([NewAlias("D1", "PRM", "19123456789012")], "test", "test", NOW)
    manager = ("manager.example", {}, {}, "Europe/Paris", {"1001"})
    items = directory(town.registry, town.policy, *manager)
    (one, two) = listed(items, "places")
    assert [(name["scheme"], name["value"]) for name in one["aliases"]] == [
        ("fr.prm", "19123456789012")
    ]
    assert "aliases" not in two
    assert [one["proof"] for one in listed(items, "installations")] == ["serial", "none"]
    assert len(listed(items, "occupancies")) == 2
    assert [one["duty"] for one in listed(items, "bases")] == ["décret 2020-886"]
    assert list(told(town)) == ["zone/"]


def test_a_withdrawn_consent_and_its_people_are_told_no_more(tmp_path):
    town = Town(tmp_path, dwellings=1)
    town.registry.withdraw([NewWithdrawal(place="D1")], "test", "test", NOW)
    assert list(told(town)) == ["zone/"]

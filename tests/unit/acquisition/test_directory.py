"""Guards rule G3: a recipient is told of nobody without a basis that names him. Rule P21."""

from decimal import Decimal

import pytest

from agent.acquisition.directory import directory
from agent.acquisition.row_assignment import ExpectedSeries
from agent.acquisition.slots import SlotLedger
from agent.core.clock import stamp
from agent.core.model import SlotMark
from agent.registry.inputs import (
    NewAlias,
    NewDuty,
    NewExchange,
    NewOccupancy,
    NewPlace,
    NewWithdrawal,
)
from tests.unit.acquisition.house import LONG_AGO, NOW, RECIPIENT, Town, point


def listed(items, name):
    return [item for key, item in items.items() if key.startswith(f"{name}/")]


def told(town, recipient=RECIPIENT, owed=None, before=None, **more):
    facts = (town.registry, town.policy, recipient, owed or {}, before or {}, "Europe/Paris")
    return directory(*facts, **more)


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


def test_the_place_of_a_series_is_told_with_it_and_that_of_a_dwelling_only_on_a_basis(tmp_path):
    """Rules T21 and P21: after a restart and in a new epoch, too."""
    town = Town(tmp_path, dwellings=1)
    (plant,) = town.registry.add_places([NewPlace("Cellar", "common")], "test", "test", NOW)
    common = ExpectedSeries(plant.id, "heat", "REG", "kWh", 900)
    home = ExpectedSeries(town.place("D1"), "elec.imp", "REG", "kWh", 900)
    first = told(town, owed={common: NOW, home: NOW})
    assert told(town, before=first) == first
    town.registry.withdraw([NewWithdrawal(place="D1")], "test", "test", NOW)
    for owed in ({}, {common: NOW, home: NOW}):  # as in the life that made the rows
        items = told(town, owed=owed, before=first)
        assert [one["id"] for one in listed(items, "places")] == [plant.id]
        assert [one["place"] for one in listed(items, "series")] == [plant.id]
        assert listed(items, "installations") == []


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


@pytest.mark.parametrize("after", [86_400, -50])
def test_of_a_withdrawn_consent_and_its_people_nothing_but_the_end_is_told(tmp_path, after):
    """Rule T34: no item is made by its end, and what is recorded later of a move adds nothing."""
    town = Town(tmp_path, dwellings=1)
    (given,) = town.registry.consents()
    town.registry.withdraw([NewWithdrawal(place="D1")], "test", "test", NOW)
    items = told(town)
    end = stamp(NOW)
    assert items == {
        "zone/": {"timezone": "Europe/Paris"},
        f"ends/occupancies/{given.occupancy}": {"until": end},
        f"ends/bases/{given.id}": {"until": end, "withdrawn": end},
    }
    moved = NewOccupancy("move_out", "D1", until=NOW + after)
    town.registry.occupy([moved], "test", "test", NOW + 90_000)
    assert told(town, now=NOW + 90_000) == items


def test_a_move_that_was_recorded_before_the_withdrawal_is_told_with_it(tmp_path):
    """Rule T34."""
    town = Town(tmp_path, dwellings=1)
    (given,) = town.registry.consents()
    moved = NewOccupancy("move_out", "D1", until=NOW - 50)
    town.registry.occupy([moved], "test", "test", NOW - 10)
    town.registry.withdraw([NewWithdrawal(given.id)], "test", "test", NOW)
    assert told(town)[f"ends/occupancies/{given.occupancy}"] == {"until": stamp(NOW - 50)}


def test_an_occupancy_ends_for_a_recipient_with_its_last_basis(tmp_path):
    """Rule T34: neither who stays nor when they leave is told after that."""
    town = Town(tmp_path, dwellings=1, consents=[])
    town.consent("D1", until=NOW - 50)
    duty = NewDuty("manager.example", "a law", ("elec.imp",), LONG_AGO, None)
    town.registry.oblige([duty], "test", "test", NOW)
    (home,) = town.registry.occupancies()
    before = told(town, now=NOW - 51)[f"occupancies/{home.id}"]
    assert "until" not in before
    ended = told(town, now=NOW)[f"occupancies/{home.id}"]
    assert ended == before | {"until": stamp(NOW - 50)}
    moved = NewOccupancy("move_out", "D1", until=NOW - 10)
    town.registry.occupy([moved], "test", "test", NOW)
    assert told(town, now=NOW)[f"occupancies/{home.id}"] == ended
    to_the_manager = told(town, "manager.example", now=NOW)[f"occupancies/{home.id}"]
    assert to_the_manager["until"] == stamp(NOW - 10)
    town.registry.end_duty("a law", NOW - 20, "test", "test", NOW)
    to_the_manager = told(town, "manager.example", now=NOW)[f"occupancies/{home.id}"]
    assert to_the_manager["until"] == stamp(NOW - 20)


def test_each_item_comes_after_what_it_refers_to(tmp_path):
    """Rule T33, with the sums of a building, whose place nothing else refers to."""
    town = Town(tmp_path, dwellings=3)
    town.registry.withdraw([NewWithdrawal(place="D1")], "test", "test", NOW)
    sum_ = ExpectedSeries("B6ASQZ1Y2KSAA3Y", "elec.imp", "INT", "kWh", 1800)
    series = ExpectedSeries(town.place("D2"), "elec.imp", "REG", "kWh", 900)
    items = directory(
        town.registry,
        town.policy,
        RECIPIENT,
        {sum_: NOW, series: NOW},
        {},
        "UTC",
        sums=["elec.imp"],
    )
    lists = [key.removeprefix("ends/").partition("/")[0] for key in items]
    assert "rest" in {item.get("id") for item in items.values()}
    assert list(dict.fromkeys(lists)) == [
        "zone", "places", "installations", "occupancies", "bases", "series",
    ]  # fmt: skip
    assert lists == sorted(lists, key=list(dict.fromkeys(lists)).index)


def test_the_modulus_of_a_counter_is_told_with_its_meter_and_stays_when_it_is_gone(tmp_path):
    """Rule R15."""
    town = Town(tmp_path, dwellings=1)
    common = ExpectedSeries("CZS2YFSTBQQ5WDC", "heat", "REG", "kWh", 900)
    moduli = {"1001": {"elec.imp": Decimal(100000)}, common.place: {"heat": Decimal("1E+6")}}
    first = told(town, owed={common: NOW}, moduli=moduli)
    (meter,) = listed(first, "installations")
    assert meter["modulus"] == {"elec.imp": "100000"}
    assert [one["modulus"] for one in listed(first, "series")] == ["1000000"]
    exchanged = NewExchange("D1", "1001", serial="2001", at=NOW - 5, multiplier=Decimal(2))
    town.registry.exchange([exchanged], "test", "test", NOW)
    moduli = {"2001": {"elec.imp": Decimal("99.50")}}  # after a restart, only that of the new one
    known = {one["meter"]: one.get("modulus") for one in listed(
        told(town, before=first, moduli=moduli), "installations")}  # fmt: skip
    assert known == {"1001": {"elec.imp": "100000"}, "2001": {"elec.imp": "199"}}


def test_the_modulus_is_that_of_the_point_and_of_the_number_that_its_device_gave(tmp_path):
    """Rule R15."""
    town = Town(tmp_path)
    near, plant = (
        point("m1", rolls_at=Decimal(100_000)),
        point("m2", rolls_at=Decimal(50), place="C"),
    )
    silent, other = point("m3", rolls_at=Decimal(7)), point("m1", "power", channel="elec.power")
    marks = {("m1", 10): SlotMark(0, True, "00-1001"), ("m2", 10): SlotMark(0, True, "9")}
    points = {("m1", 10): [near, other], ("m2", 10): [plant], ("m3", 10): [silent]}
    ledger = SlotLedger(town.gate(), points, marks)
    expected = {"1001": {"elec.imp": Decimal(100_000)}, "C": {"elec.imp": Decimal(50)}}
    assert ledger.moduli() == expected
    ledger.marks["m1", 10] = SlotMark(0, True, "2001")
    assert ledger.moduli() == expected | {"2001": {"elec.imp": Decimal(100_000)}}

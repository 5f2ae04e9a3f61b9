"""Rule G4, and exact: an index means what its installation says it means. Rule I20."""

from decimal import Decimal

from agent.acquisition.slots import SlotLedger
from agent.core.model import Why
from agent.registry.inputs import NewExchange, NewInstallation
from tests.unit.acquisition.house import LONG_AGO, NOW, Town, point, sample

INDEX, FLOW = point("m9"), point("m9", "used", derived=True)
KEY = ("m9", 10)


def town_of(tmp_path, since=LONG_AGO):
    town = Town(tmp_path, dwellings=1)
    town.registry.exchange([NewExchange("D1", never=True, followed=False)], "test", "test", NOW)
    row = NewInstallation(
        "D1", "m9", "9", "elec.imp", since, Decimal("0.3"), Decimal("-1.000000001")
    )
    town.registry.install([row], "test", "test", NOW)
    return town


def rows(town, slot, *samples):
    ledger = SlotLedger(town.gate(), {KEY: [INDEX, FLOW]}, {})
    return ledger.close(KEY, slot, samples, "9", Why.BUSY)


def test_an_index_is_multiplied_and_moved_with_all_its_digits(tmp_path):
    value = "12345678901234567890.123456789"
    (row,) = rows(town_of(tmp_path), NOW, sample(INDEX, value))
    assert str(row.value) == "3703703670370370366.0370370357"


def test_what_flowed_is_multiplied_and_not_moved(tmp_path):
    _, row = rows(town_of(tmp_path), NOW, sample(INDEX, "50"), sample(FLOW, "10"))
    assert row.value == Decimal(3)


def test_the_quantity_of_the_step_up_to_an_exchange_is_the_old_meters(tmp_path):
    town = town_of(tmp_path)
    new = NewExchange("D1", serial="10", at=NOW, multiplier=Decimal(1))
    town.registry.exchange([new], "test", "test", NOW + 60)
    found = rows(town, NOW, sample(INDEX, "50"), sample(FLOW, "10"))
    # the index at that instant is the new meter's, whose number is not known yet
    assert [(row.series.kind, row.value) for row in found] == [("REG", None), ("INT", Decimal(3))]

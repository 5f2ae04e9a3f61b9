"""The indexes at an exchange of meters are rows, on a basis, and can be erased. Rules R14, P29."""

from decimal import Decimal

import pytest

from agent.acquisition.row_assignment import RegistryBases, RowAssignment
from agent.registry.inputs import NewConsent, NewDuty, NewExchange, NewOccupancy, NewWithdrawal
from agent.registry.registry import Registry
from tests.unit.acquisition.house import LONG_AGO, NOW, RECIPIENT, Town

DAY = 86_400
AT = NOW - DAY
BY = ("test", "test", NOW)


def exchange(town, closing="8412.50", opening="0", *, label="D1", at=AT):
    old, new = f"100{label[1]}", f"200{label[1]}"
    given = [{} if value is None else {"elec.imp": Decimal(value)} for value in (closing, opening)]
    row = NewExchange(label, old, serial=new, at=at, closing=given[0], opening=given[1])
    return town.registry.exchange([row], *BY)


def rows(town, after=0, recipient=RECIPIENT, now=NOW):
    return bases(town, recipient).exchange_rows(after, now)


def bases(town, recipient=RECIPIENT):
    assignment = RowAssignment(town.registry, town.policy, recipient)
    return RegistryBases(lambda: assignment)


def facts(made):
    return [(row.t, row.series.meter, str(row.value)) for row in made]


BOTH = [(AT - 1, "1001", "8412.50"), (AT, "2001", "0")]


def test_the_last_index_of_the_old_meter_and_the_first_of_the_new_one(tmp_path):
    town = Town(tmp_path, step=3600)
    before = town.registry.revision
    exchange(town)
    made = rows(town, before)
    assert facts(made) == BOTH
    for row in made:
        of = row.series
        assert (of.place, of.channel, of.kind, of.step) == (town.place("D1"), "elec.imp", "REG", 0)
        assert (row.quality, row.flags, row.ver) == ("R", "EXCH+MAN", NOW + 1)
        (consent,) = (one for one in town.registry.consents() if one.place == of.place)
        assert (of.basis, of.occupancy) == (consent.id, consent.occupancy)
        assert bases(town).stands(of, row.t)
    assert rows(town, town.registry.revision) == []
    assert rows(town, before, "other.example") == []


def test_of_a_dwelling_without_a_basis_then_nothing(tmp_path):
    town = Town(tmp_path, consents=[])
    exchange(town)
    assert rows(town) == []
    late = NewConsent("D1", RECIPIENT, ("heat",), 10, "advice", since=LONG_AGO)  # another channel
    town.registry.consent([late], *BY, town.policy)
    assert rows(town) == []
    town.consent("D1", since=AT)  # for those who consented since the exchange, only the new meter
    assert facts(rows(town)) == BOTH[1:]


def test_each_index_is_of_the_people_who_lived_there_then(tmp_path):
    """They moved at the moment of the exchange: nobody is sent an index of the others."""
    town = Town(tmp_path)
    (old,) = {one.occupancy for one in town.registry.consents() if one.place == town.place("D1")}
    moved = [NewOccupancy("move_out", "D1", until=AT), NewOccupancy("move_in", "D1", since=AT)]
    town.registry.occupy(moved, *BY)
    exchange(town)
    (last,) = rows(town)
    assert (last.t, last.series.occupancy) == (AT - 1, old)
    town.consent("D1", since=AT)
    last, first = rows(town)
    assert first.series.occupancy not in {old, None}
    assert (first.t, first.series.meter) == (AT, "2001")


def test_the_duty_comes_before_a_consent_that_can_be_withdrawn(tmp_path):
    town = Town(tmp_path)
    duty = NewDuty(RECIPIENT, "a law", ("elec.imp",), since=LONG_AGO)
    town.registry.oblige([duty], *BY)
    exchange(town)
    (of,) = town.registry.duties()
    assert {row.series.basis for row in rows(town)} == {of.id}
    assert all(bases(town).stands(row.series, row.t) for row in rows(town))


def test_a_withdrawal_and_a_move_that_is_recorded_late_erase_them(tmp_path):
    town = Town(tmp_path)
    exchange(town)
    made, applied = rows(town), town.registry.revision
    town.registry.occupy([NewOccupancy("move_out", "D1", until=AT - 10)], *BY)
    town.registry.withdraw([NewWithdrawal(place="D2")], *BY)
    exchange(town, label="D2")
    _, taken = bases(town).taken_back(applied)
    covered = [row for row in made if any(of.covers(RECIPIENT, row.series, row.t) for of in taken)]
    assert covered == made
    assert rows(town, applied) == []  # of D2 none is made any more
    assert not any(bases(town).stands(row.series, row.t) for row in made)


def test_an_index_recorded_afterwards_or_otherwise_is_a_higher_version(tmp_path):
    town = Town(tmp_path)
    exchange(town, closing=None, opening=None)
    assert rows(town) == []
    before = town.registry.revision
    exchange(town, opening=None)
    assert facts(rows(town, before)) == BOTH[:1]
    before = town.registry.revision
    corrected = exchange(town, closing="8413")
    assert [(one.serial, len(one.closed), len(one.opened)) for one in corrected] == [
        ("1001", 1, 0), ("2001", 0, 1),
    ]  # fmt: skip
    late, first = rows(town, before, now=NOW + 60)
    assert (str(late.value), late.ver, first.ver) == ("8413", NOW + 61, NOW + 61)
    before = town.registry.revision
    assert len(exchange(town, closing="8413")) == 2
    assert rows(town, before) == []
    town = Registry.open(tmp_path / "registry.json")  # what is recorded is the same after a restart
    assert [dict(one.closed) for one in town.meters_of(late.series.place) if one.closed] == [
        {"elec.imp": Decimal(8413)}
    ]


def test_an_exchange_that_never_was_erases_its_indexes(tmp_path):
    town = Town(tmp_path)
    exchange(town)
    made, applied = rows(town), town.registry.revision
    for serial in ("2001", "1001"):
        town.registry.exchange([NewExchange("D1", serial, at=AT + 5, never=True, followed=False)],
                               *BY)  # fmt: skip
    _, taken = bases(town).taken_back(applied)
    assert all(any(of.covers(RECIPIENT, row.series, row.t) for of in taken) for row in made)
    assert rows(town, applied) == []


def test_the_value_is_that_of_the_place_and_a_meter_without_number_waits_for_it(tmp_path):
    town = Town(tmp_path)
    row = NewExchange(
        "D1", "1001", device="m1", at=AT, closing={"elec.imp": Decimal(5)},
        opening={"elec.imp": Decimal("0.10")}, multiplier=Decimal(40),
    )  # fmt: skip
    town.registry.exchange([row], *BY)
    assert facts(rows(town)) == [(AT - 1, "1001", "5")]
    before = town.registry.revision
    town.registry.pin("m1", "2001", *BY)
    assert facts(rows(town, before)) == [(AT, "2001", "4.00")]


@pytest.mark.parametrize("days", [59, 61])
def test_no_index_is_sent_later_than_any_row_of_a_dwelling(tmp_path, days):
    town = Town(tmp_path)
    exchange(town, at=NOW - days * DAY)
    assert len(rows(town)) == (2 if days < 60 else 0)

"""Rows without value, where a recipient wants to know that something is held back. Rule P20."""

from datetime import UTC, datetime

import pytest

from agent.acquisition.row_assignment import RegistryBases, RowAssignment
from agent.acquisition.slots import SlotLedger
from agent.core.model import Why
from agent.registry.dates import MONTH
from agent.registry.inputs import NewConsent, NewDuty, NewOccupancy, NewWithdrawal
from tests.unit.acquisition.house import LONG_AGO, NOW, RECIPIENT, Town, point, sample

DAY = 86_400
HOUR = 3600
MIDNIGHT = NOW - NOW % DAY
FIRST = int(datetime(2027, 2, 1, tzinfo=UTC).timestamp())
ME = ("a test", "a test")


def ledger(town, every=HOUR, *, withholds=True, marks=None):
    gate = RowAssignment(town.registry, town.policy, RECIPIENT, withholds=withholds)
    return SlotLedger(gate, {("m1", every): [point(every=every)]}, marks or {})


def read(of, t, every=HOUR, value="5"):
    return of.close(("m1", every), t, [sample(point(every=every), value, t)], "1001", Why.BUSY)


def told(rows):
    return [(row.t, row.quality, row.why, row.value, row.span) for row in rows]


def test_what_nobody_agreed_to_is_withheld_once_a_day(tmp_path):
    of = ledger(Town(tmp_path, 1, consents=()))
    (row,) = read(of, MIDNIGHT)
    assert told([row]) == [(MIDNIGHT, "W", "consent", None, 1)]
    assert (row.series.step, row.series.basis) == (DAY, "")
    assert (row.series.meter, row.series.occupancy) == (None, None)
    assert read(of, MIDNIGHT + HOUR) == []
    assert of.owed == {}


def test_who_does_not_want_to_know_is_sent_nothing(tmp_path):
    assert read(ledger(Town(tmp_path, 1, consents=()), withholds=False), MIDNIGHT) == []


def test_after_a_withdrawal_each_slot_of_the_series_is_withheld(tmp_path):
    town = Town(tmp_path, 1, step=HOUR)
    of = ledger(town)
    assert told(read(of, MIDNIGHT + HOUR))[0][1] == "R"
    town.registry.withdraw([NewWithdrawal(place="D1")], *ME, float(MIDNIGHT + HOUR + 60))
    rows = read(of, MIDNIGHT + 2 * HOUR)
    assert told(rows) == [(MIDNIGHT + 2 * HOUR, "W", "consent", None, 1)]
    assert rows[0].series.step == HOUR


def test_it_says_so_whether_or_not_the_meter_answered_and_of_a_gap_too(tmp_path):
    """Rules P20, R8: a gap is one row."""
    town = Town(tmp_path, 1, step=HOUR)
    of = ledger(town)
    read(of, MIDNIGHT + HOUR)
    town.registry.withdraw([NewWithdrawal(place="D1")], *ME, float(MIDNIGHT + HOUR + 60))
    rows = read(of, MIDNIGHT + 4 * HOUR, value=None)
    assert told(rows) == [
        (MIDNIGHT + 2 * HOUR, "W", "consent", None, 2),
        (MIDNIGHT + 4 * HOUR, "W", "consent", None, 1),
    ]


def test_a_finer_step_that_ended_is_withheld_beside_the_coarser_that_stands(tmp_path):
    town = Town(tmp_path, 1, step=HOUR)
    daily = NewConsent("D1", RECIPIENT, ("elec.imp",), DAY, "research", since=LONG_AGO)
    town.registry.consent([daily], *ME, float(NOW), town.policy)
    of = ledger(town)
    fine = next(one for one in town.registry.consents() if one.step == HOUR)
    town.registry.withdraw(
        [NewWithdrawal(place="D1", purpose=fine.purpose)], *ME, float(MIDNIGHT - 60)
    )
    rows = read(of, MIDNIGHT)
    assert {(row.series.step, row.quality) for row in rows} == {(HOUR, "W"), (DAY, "R")}


@pytest.mark.parametrize(("agreed", "why"), [(["D1"], "vacant"), ([], "consent")])
def test_that_a_dwelling_is_vacant_is_said_to_those_alone_who_had_rows_of_it(tmp_path, agreed, why):
    town = Town(tmp_path, 1, consents=agreed, step=HOUR)
    out = NewOccupancy("move_out", "D1", until=MIDNIGHT - HOUR)
    town.registry.occupy([out], *ME, float(MIDNIGHT - 60))
    assert [row.why for row in read(ledger(town), MIDNIGHT)] == [why]


def left_empty(tmp_path):
    """A dwelling of which only a duty gives something, and from which somebody moves out."""
    town = Town(tmp_path, 1, consents=())
    duty = NewDuty(RECIPIENT, "décret 2020-886", ("elec.imp",), since=LONG_AGO)
    town.registry.oblige([duty], *ME, float(NOW))
    out = NewOccupancy("move_out", "D1", until=MIDNIGHT)
    town.registry.occupy([out], *ME, float(MIDNIGHT - 60))
    return town


def test_the_index_of_a_change_of_occupant_stands_alone_in_its_slot(tmp_path):
    town = left_empty(tmp_path)
    (row,) = read(ledger(town), MIDNIGHT)
    assert (row.series.step, row.value) == (DAY, 5)
    assert read(ledger(town), MIDNIGHT + DAY) == []


def test_the_manager_hears_at_a_month_s_end_that_the_dwelling_is_vacant(tmp_path):
    """The step of the index that a duty gives: what was owed stays accounted for."""
    town = left_empty(tmp_path)
    (row,) = read(ledger(town), FIRST)
    assert (row.series.step, row.quality, row.why) == (MONTH, "W", "vacant")


def test_of_a_meter_that_nobody_knows_nothing_is_said(tmp_path):
    of = ledger(Town(tmp_path, 1, consents=()))
    rows = of.close(("m1", HOUR), MIDNIGHT, [sample(point(every=HOUR))], "9999", Why.BUSY)
    assert rows == []


def test_such_a_row_may_leave_only_while_it_is_wanted(tmp_path):
    town = Town(tmp_path, 1, consents=())
    of = ledger(town)
    rows = read(of, MIDNIGHT)
    assert RegistryBases(lambda: of.assignment).kept(rows) == rows
    of.renew({("m1", HOUR): [point(every=HOUR)]}, of.marks, town.policy, None, withholds=False)
    assert RegistryBases(lambda: of.assignment).kept(rows) == []

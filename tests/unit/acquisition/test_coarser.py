"""Guards rules G2, G3: of a meter read every quarter of an hour only the rows are made that
somebody may have, at the steps agreed to, and each of those slots is stated once.
"""

import datetime as dt
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from agent.acquisition.row_assignment import RegistryBases, RowAssignment
from agent.acquisition.slots import SlotLedger
from agent.core.model import SlotMark, Why
from agent.registry.consent_policy import policy
from agent.registry.dates import DAY, MONTH
from agent.registry.inputs import NewConsent, NewDuty, NewExchange, NewOccupancy, NewWithdrawal
from tests.unit.acquisition.house import RECIPIENT, Town, point, sample

PARIS = ZoneInfo("Europe/Paris")
QUARTER = 900
METER = point("m1", every=QUARTER)
KEY = ("m1", QUARTER)


def at(day, hour=0, month=3, minute=0):
    return int(dt.datetime(2027, month, day, hour, minute, tzinfo=PARIS).timestamp())


class Paris(Town):
    """One dwelling in a building that lives by the time of Paris, nothing agreed to yet."""

    def __init__(self, folder):
        super().__init__(folder, dwellings=1, consents=())
        self.policy = policy("FR-1", zone=PARIS)

    def agree(self, step, **more):
        new = NewConsent("D1", RECIPIENT, ("elec.imp",), step, f"step {step}", **more)
        (made,) = self.registry.consent([new], "test", "test", at(1, month=1), self.policy)
        return made

    def gate(self):
        return RowAssignment(self.registry, self.policy, RECIPIENT)

    def ledger(self, mark=None):
        marks = {} if mark is None else {KEY: SlotMark(mark, heard=True, serial="1001")}
        return SlotLedger(self.gate(), {KEY: [METER]}, marks, PARIS)


@pytest.fixture
def town(tmp_path):
    return Paris(tmp_path)


def day_of(ledger, first, slots):
    """Close so many quarters of an hour; (step, t) of every row."""
    rows = []
    for n in range(slots):
        slot = first + n * QUARTER
        rows += ledger.close(KEY, slot, [sample(METER, f"{n}", slot + 1.0)], "1001", Why.BUSY)
    return [(row.series.step, row.t) for row in rows]


def test_a_daily_consent_yields_the_index_of_each_midnight_and_nothing_else(town):
    """Rule P8."""
    town.agree(DAY)
    made = day_of(town.ledger(), at(2, 12), 3 * 96)
    assert made == [(DAY, at(3)), (DAY, at(4)), (DAY, at(5))]


def test_a_monthly_consent_yields_the_index_of_each_first(town):
    town.agree(MONTH)
    made = day_of(town.ledger(), at(28, month=2), 5 * 96)
    assert made == [(MONTH, at(1))]


def test_two_consents_yield_rows_at_both_steps_each_with_its_own_basis(town):
    daily, curve = town.agree(DAY), town.agree(1800)
    ledger = town.ledger()
    rows = ledger.close(KEY, at(3), [sample(METER)], "1001", Why.BUSY)
    assert {(row.series.step, row.series.basis) for row in rows} == {
        (DAY, daily.id),
        (1800, curve.id),
    }
    rows = ledger.close(KEY, at(3, 0, minute=15), [sample(METER)], "1001", Why.BUSY)
    assert rows == []
    assert {one.step for one in ledger.owed} == {DAY, 1800}


def test_without_any_consent_nothing_is_made_and_it_is_said(town):
    """Rule P8."""
    ledger = town.ledger()
    assert day_of(ledger, at(2, 12), 96) == []
    assert "no consent" in str(ledger.held["m1"])


def test_slots_that_went_by_are_missing_at_the_steps_agreed_to_only(town):
    town.agree(DAY)
    rows = town.ledger(mark=at(2, 12)).resume(at(5, 12))
    assert [(row.t, row.span, row.why, row.series.step) for row in rows] == [
        (at(day), 1, "agent", DAY) for day in (3, 4, 5)
    ]


def test_a_silent_midnight_is_missing_and_what_comes_late_is_a_new_version(town):
    town.agree(DAY)
    ledger = town.ledger()
    silent = sample(METER, None, why=Why.SILENT)
    ledger.close(KEY, at(2, 23, minute=45), [sample(METER)], "1001", Why.BUSY)
    (missing,) = ledger.close(KEY, at(3), [silent], "1001", Why.BUSY)
    assert (missing.why, missing.t, missing.series.step) == ("silent", at(3), DAY)
    late = sample(METER, "7.5", at(3) + 400.0)
    (row,) = ledger.late(KEY, at(3), [late], "1001", at(3) + 401)
    assert (row.value, row.ver, row.series.step) == (Decimal("7.5"), at(3) + 401, DAY)
    assert "LATE" in row.flags


def test_the_day_on_which_the_clock_changes_has_one_index_too(town):
    town.agree(DAY)
    assert day_of(town.ledger(), at(27, 12), 2 * 96) == [(DAY, at(28)), (DAY, at(29))]


def test_the_manager_gets_the_month_end_index_and_the_one_of_a_billing_date(town):
    duty = NewDuty(RECIPIENT, "décret 2020-886", ("elec.imp",), since=at(1, month=1))
    billing = NewDuty(RECIPIENT, "bail", ("elec.imp",), since=at(1, month=1), billing=("03-03",))
    town.registry.oblige([duty, billing], "test", "test", at(1, month=1))
    ledger = town.ledger()
    made = day_of(ledger, at(28, month=2), 5 * 96)
    assert sorted(made) == sorted([(MONTH, at(1)), (DAY, at(3))])
    assert {one.step for one in ledger.owed} == {MONTH}  # no plan announces a billing date


def at_another_period(town, every, marks):
    """What the first read of the meter at another period leaves: its ledger, its key and point."""
    meter = point("m1", every=every)
    return SlotLedger(town.gate(), {("m1", every): [meter]}, marks, PARIS), ("m1", every), meter


def closed(ledger, key, meter, slot):
    rows = ledger.close(key, slot, [sample(meter, "5", slot + 1.0)], "1001", Why.BUSY)
    return [(row.series.step, row.t, row.why) for row in rows]


def test_a_midnight_that_was_closed_at_one_period_is_not_closed_again_at_another(town):
    """Rules M3, M10: T6 was broken, two values of one midnight and neither `again`."""
    town.agree(DAY)
    marks = {KEY: SlotMark(at(3, minute=15), heard=True, serial="1001")}
    ledger, key, meter = at_another_period(town, 3600, marks)
    assert ledger.marks == {key: SlotMark(at(3), heard=True, serial="1001")}
    assert ledger.moved(marks) == ledger.marks, "the disk gets it before a clock period begins"
    assert ledger.resume(at(3, minute=20)) == []
    assert closed(ledger, key, meter, at(3)) == []
    assert closed(ledger, key, meter, at(4)) == [(DAY, at(4), None)]
    renewed = town.ledger()
    renewed.renew({key: [meter]}, marks, town.policy, PARIS)
    assert renewed.marks == {key: SlotMark(at(3), heard=True, serial="1001")}


def test_a_midnight_that_passed_while_the_period_was_changed_is_stated(town):
    """Rules G2, M3."""
    town.agree(DAY)
    ledger, key, _ = at_another_period(town, 3600, {KEY: SlotMark(at(2, 23), True, "1001")})
    (row,) = ledger.resume(at(3, 1, minute=5))
    assert (row.series.step, row.t, row.why) == (DAY, at(3), "agent")
    assert ledger.marks[key].slot == at(3)


def test_no_slot_of_a_finer_period_is_owed_before_the_earlier_one_had_its_next(town):
    town.agree(QUARTER)
    hourly = {("m1", 3600): SlotMark(at(3, 9), heard=True, serial="1001")}
    assert town.ledger().resume(at(3, 9, minute=50)) == []
    ledger = SlotLedger(town.gate(), {KEY: [METER]}, hourly, PARIS)
    assert ledger.resume(at(3, 9, minute=50)) == []
    assert closed(ledger, KEY, METER, at(3, 9, minute=45)) == [(QUARTER, at(3, 9, minute=45), None)]
    ledger = SlotLedger(town.gate(), {KEY: [METER]}, hourly, PARIS)
    (row,) = ledger.resume(at(3, 10, minute=50))
    assert (row.t, row.span, row.why) == (at(3, 10), 3, "agent")


def test_an_earlier_period_that_comes_back_does_not_go_on_from_its_old_mark(town):
    town.agree(DAY)
    marks = {
        KEY: SlotMark(at(1), heard=True, serial="1001"),
        ("m1", 3600): SlotMark(at(8), heard=True, serial="1001"),
    }
    ledger = SlotLedger(town.gate(), {KEY: [METER]}, marks, PARIS)
    assert ledger.resume(at(8, minute=10)) == []
    assert closed(ledger, KEY, METER, at(8)) == []


def test_a_new_point_does_not_go_on_from_a_period_of_long_ago(town):
    """Months of M would be stated of a point that was not configured then."""
    town.agree(DAY)
    marks = {
        ("m1", 600): SlotMark(at(1), heard=True, serial="1001"),
        ("m1", 3600): SlotMark(at(8), heard=True, serial="1001"),
    }
    hourly = point("m1", every=3600)
    points = {KEY: [METER], ("m1", 3600): [hourly]}
    ledger = SlotLedger(town.gate(), points, marks, PARIS)
    assert set(ledger.marks) == {("m1", 3600)}


def test_every_row_made_stands_when_it_is_asked_for_at_sealing(town):
    daily, curve = town.agree(DAY), town.agree(1800)
    gate = town.gate()
    bases = RegistryBases(lambda: gate)
    ledger = SlotLedger(gate, {KEY: [METER]}, {}, PARIS)
    rows = []
    for n in range(96):
        slot = at(2, 12) + n * QUARTER
        rows += ledger.close(KEY, slot, [sample(METER, "1", slot + 1.0)], "1001", Why.BUSY)
    assert len(rows) == 49
    assert bases.kept(rows) == rows
    assert bases.taken_back(0)[1] == []
    before = bases.revision()
    town.registry.withdraw(
        [NewWithdrawal(place="D1", purpose="step 1800")], "test", "test", float(at(4))
    )
    assert {row.series.basis for row in bases.kept(rows)} == {daily.id}
    revision, (one,) = bases.taken_back(before)
    assert (revision, one.reason, one.basis) == (bases.revision(), "withdrawn", curve.id)
    gone = [row for row in rows if one.covers(RECIPIENT, row.series, row.t)]
    assert gone == [row for row in rows if row.series.basis == curve.id]


@pytest.mark.parametrize(
    ("followed", "never", "left"), [(True, False, 2), (False, False, 2), (False, True, 0)]
)
def test_a_row_that_is_not_stored_yet_falls_under_a_change_of_meters_too(
    town, followed, never, left
):
    """Rule I22: the retraction takes back only what is stored before it."""
    town.agree(1800)
    gate = town.gate()
    bases = RegistryBases(lambda: gate)
    ledger = SlotLedger(gate, {KEY: [METER]}, {}, PARIS)
    rows = []
    for n in range(8):
        slot = at(2, 12) + n * QUARTER
        rows += ledger.close(KEY, slot, [sample(METER, str(n), slot + 1.0)], "1001", Why.BUSY)
    assert bases.kept(rows) == rows
    before = bases.revision()
    changed = NewExchange("D1", "1001", at=at(2, 13), serial="1009" if followed else None,
                          followed=followed, never=never)  # fmt: skip
    town.registry.exchange([changed], "test", "test", float(at(3)))
    _, taken = bases.taken_back(before)
    assert len(rows) == 4
    assert bases.kept(rows) == rows[:left]
    assert all(one.covers(RECIPIENT, row.series, row.t) for one in taken for row in rows[left:])


def test_a_recipient_without_any_basis_in_a_dwelling_is_not_told_what_happens_there(town):
    """Rule P21."""
    town.agree(DAY)
    stranger = RowAssignment(town.registry, town.policy, "other.example")
    out = NewOccupancy("move_out", "D1", until=at(1))
    town.registry.occupy([out], "test", "test", at(20))
    mine = town.gate()
    assert [one.reason for one in RegistryBases(lambda: mine).taken_back(0)[1]] == ["moved"]
    assert RegistryBases(lambda: stranger).taken_back(0)[1] == []

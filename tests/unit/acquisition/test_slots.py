"""Guards rules G2, G3, G4: every slot once, only with a basis, only of the right dwelling."""

import math
from decimal import Decimal

import pytest

from agent.acquisition.slots import SlotLedger
from agent.buffer.schema import Wrong
from agent.core.model import SlotMark, Why
from tests.unit.acquisition.house import LONG_AGO, NOW, Town, point, sample

A, B = point("m1"), point("m2")
KEY_A, KEY_B = ("m1", 10), ("m2", 10)
POINTS = {KEY_A: [A], KEY_B: [B]}


def ledger_of(town, marks=None, points=POINTS):
    return SlotLedger(town.gate(), points, marks or {})


def slots(rows, label, town):
    place = town.place(label)
    return [
        (row.t + n * row.series.step, row.why)
        for row in rows
        if row.series.place == place
        for n in range(row.span)
    ]


def test_a_slot_closes_with_the_value_and_the_delay_to_its_reading(town):
    """Rule R13."""
    ledger = ledger_of(town)
    (row,) = ledger.close(KEY_A, NOW, [sample(A, "12.5", at=NOW + 3.7)], "1001", Why.BUSY)
    assert (row.t, row.value, row.delay, row.why) == (NOW, Decimal("12.5"), 3, None)
    assert row.series.place == town.place("D1")
    assert row.series.meter == "1001"
    assert row.series.basis in {one.id for one in town.registry.consents()}


def test_a_value_that_was_read_later_than_its_step_is_of_another_slot(town):
    """Rule M20."""
    ledger = ledger_of(town)
    (row,) = ledger.close(KEY_A, NOW, [sample(A, at=NOW + 10.9)], "1001", Why.BUSY)
    assert (row.value is not None, row.delay) == (True, 10)
    (row,) = ledger.close(KEY_A, NOW + 10, [sample(A, at=NOW + 21)], "1001", Why.BUSY)
    assert (row.t, row.value, row.delay, row.why) == (NOW + 10, None, 0, "busy")
    assert ledger.late(KEY_A, NOW, [sample(A, at=NOW + 11)], "1001", NOW + 30) == []


def test_a_value_is_scaled_exactly_into_the_unit_of_its_channel(town):
    """Rule R2."""
    wh = point("m1", unit="Wh", scale=Decimal("0.1"))
    ledger = ledger_of(town, points={KEY_A: [wh]})
    (row,) = ledger.close(KEY_A, NOW, [sample(wh, "123456789")], "1001", Why.BUSY)
    assert str(row.value) == "12345.6789"


def test_skipped_slots_close_in_order_with_their_reason(town):
    ledger = ledger_of(town, {KEY_A: SlotMark(NOW - 40, heard=True)})
    rows = ledger.close(KEY_A, NOW, [sample(A)], "1001", Why.CLOCK)
    assert slots(rows, "D1", town) == [
        (NOW - 30, "clock"), (NOW - 20, "clock"), (NOW - 10, "clock"), (NOW, None)
    ]  # fmt: skip


def test_a_slot_at_or_before_the_mark_is_never_closed_again(town):
    """Rules M3, M10."""
    ledger = ledger_of(town, {KEY_A: SlotMark(NOW, heard=True)})
    assert ledger.close(KEY_A, NOW, [sample(A)], "1001", Why.BUSY) == []
    assert ledger.close(KEY_A, NOW - 10, [sample(A)], "1001", Why.BUSY) == []


def test_the_slot_that_the_disk_may_have_closed_is_left_to_it(town):
    """Rules A17, M10."""
    ledger = ledger_of(town, {KEY_B: SlotMark(NOW - 10, heard=True, serial="1002")})
    ledger.marks_unknown = True
    assert ledger.close(KEY_A, NOW, [sample(A)], "1001", Why.BUSY) == []
    assert ledger.late(KEY_A, NOW, [sample(A, "13", at=NOW + 5)], "1001", NOW + 5) == []
    assert slots(ledger.close(KEY_A, NOW + 10, [sample(A)], "1001", Why.BUSY), "D1", town) == [
        (NOW + 10, None)
    ]
    assert ledger.late(KEY_A, NOW + 10, [sample(A, "14")], "1001", NOW + 15)
    assert slots(ledger.close(KEY_B, NOW, [sample(B)], "1002", Why.BUSY), "D2", town) == [
        (NOW, None)
    ]


def test_a_slot_that_is_left_to_the_disk_stays_so_over_a_restart(town):
    """Rules A17, M10: a value that came late after it was a second one."""
    first = ledger_of(town)
    first.marks_unknown = True
    assert first.close(KEY_A, NOW, [sample(A)], "1001", Why.BUSY) == []
    ledger = ledger_of(town, first.marks)
    assert ledger.late(KEY_A, NOW, [sample(A, "13", at=NOW + 5)], "1001", NOW + 5) == []
    assert slots(ledger.resume(NOW + 25), "D1", town) == [(NOW + 10, "agent")]
    assert ledger.late(KEY_A, NOW + 10, [sample(A, "14", at=NOW + 16)], "1001", NOW + 26)
    assert ledger.marks[KEY_A].states == ()


@pytest.mark.parametrize("answers", [True, False])
def test_no_slot_is_early_where_the_disk_may_know_an_answer(town, answers):
    """A meter that was taken out just after a start in memory was `early`. Rules A17, M3."""
    ledger, silent = ledger_of(town), sample(A, None, why=Why.SILENT)
    ledger.marks_unknown = True
    first = sample(A) if answers else silent
    assert ledger.close(KEY_A, NOW, [first], "1001", Why.BUSY) == []
    (row,) = ledger.close(KEY_A, NOW + 10, [silent], "1001", Why.BUSY)
    assert row.why == "silent"
    assert slots(ledger.resume(NOW + 30), "D1", town) == [(NOW + 20, "agent")]
    assert ledger.marks[KEY_A].heard is answers, "whoever knows the disk's marks needs it"


def test_a_late_answer_counts_for_a_slot_that_is_left_to_the_disk(town):
    """Rules A17, M3."""
    ledger = ledger_of(town)
    ledger.marks_unknown = True
    assert ledger.close(KEY_A, NOW, [sample(A, None, why=Why.SILENT)], "1001", Why.BUSY) == []
    assert ledger.late(KEY_A, NOW, [sample(A, "13", at=NOW + 5)], "1001", NOW + 5) == []
    assert ledger.marks[KEY_A].heard


def test_what_answered_in_memory_is_not_early_on_the_disk(town):
    """Rule A4: what memory has closed is M `agent`; afterwards the meter is silent."""
    ledger = ledger_of(town, {KEY_A: SlotMark(NOW - 20, heard=False)})
    ledger.closed_in_memory({KEY_A: SlotMark(NOW, True, "1001")}, {})
    rows = ledger.resume(NOW + 5)
    assert slots(rows, "D1", town) == [(NOW - 10, "agent"), (NOW, "agent")]
    (row,) = ledger.close(KEY_A, NOW + 10, [sample(A, None, why=Why.SILENT)], None, Why.BUSY)
    assert row.why == "silent"


def test_each_device_resumes_from_its_own_mark(town):
    """Breaks when one mark is kept for all devices: the slower one's slots would be lost."""
    marks = {KEY_A: SlotMark(NOW - 60, True, "1001"), KEY_B: SlotMark(NOW - 30, True, "1002")}
    rows = ledger_of(town, marks).resume(NOW + 5)
    assert slots(rows, "D1", town) == [(NOW - s, "agent") for s in (50, 40, 30, 20, 10)]
    assert slots(rows, "D2", town) == [(NOW - s, "agent") for s in (20, 10)]


IN_MEMORY = {KEY_A: SlotMark(NOW, True, "1001"), KEY_B: SlotMark(NOW - 20, True, "1002")}
"""the running slot of one device, and a series that only memory has begun"""


def test_the_running_slot_that_memory_has_closed_is_the_agents_at_once(town):
    """It was M `busy` or `clock` at the next close, and not `again`. Rules M3, M10, A3, A4."""
    ledger = ledger_of(town, {KEY_A: SlotMark(NOW - 20, True, "1001")})
    ledger.closed_in_memory(IN_MEMORY, {})
    rows = ledger.resume(NOW + 5)
    assert slots(rows, "D1", town) == [(NOW - 10, "agent"), (NOW, "agent")]
    assert slots(rows, "D2", town) == [(NOW - 10, "agent")], "due since memory has begun it"
    assert all(row.again and row.ver is None for row in rows)
    assert ledger.close(KEY_A, NOW, [sample(A)], "1001", Why.BUSY) == []
    (row,) = ledger.close(KEY_A, NOW + 10, [sample(A)], "1001", Why.BUSY)
    assert row.t == NOW + 10


def test_what_memory_has_closed_is_not_closed_again_once_the_clock_is_known(town):
    """A start without a trusted clock catches up as it begins to date. Rule M10."""
    ledger = ledger_of(town, {KEY_A: SlotMark(NOW - 20, True, "1001")})
    ledger.closed_in_memory(IN_MEMORY, {})
    rows = ledger.catch_up(KEY_A, NOW + 5, Why.AGENT)
    assert [(row.t, row.span, row.again) for row in rows] == [
        (NOW - 10, 1, True), (NOW, 1, True)
    ]  # fmt: skip
    assert not any(row.again for row in ledger.catch_up(KEY_A, NOW + 25, Why.AGENT))


def test_a_device_that_memory_read_at_another_period_has_no_second_value_either(town):
    """Rules M3, M10."""
    slower = point("m1", every=30)
    ledger = ledger_of(town, {("m1", 30): SlotMark(NOW - 60, True, "1001")}, {("m1", 30): [slower]})
    ledger.closed_in_memory({KEY_A: SlotMark(NOW + 10, True, "1001")}, {})
    rows = ledger.resume(NOW + 20)
    assert slots(rows, "D1", town) == [(NOW - 30, "agent"), (NOW, "agent")]
    assert ledger.close(("m1", 30), NOW, [sample(slower)], "1001", Why.BUSY) == []


def test_no_slot_to_come_is_closed_because_memory_had_a_wrong_clock(town):
    """Rules M3, C5."""
    ledger = ledger_of(town, {KEY_A: SlotMark(NOW - 20, True, "1001")})
    ledger.closed_in_memory({KEY_A: SlotMark(NOW + 600, True, "1001")}, {})
    assert slots(ledger.resume(NOW + 5), "D1", town) == [(NOW - 10, "agent"), (NOW, "agent")]
    ledger.set_back({KEY_A: SlotMark(NOW + 5, True, "1001")})
    assert ledger.catch_up(KEY_A, NOW + 15, Why.AGENT) == []


def test_slots_of_a_recipient_whose_uplink_was_removed_have_a_reason_of_their_own(town):
    """Also where the agent was down before the removal, and after the uplink was put back."""
    ledger = ledger_of(town, {KEY_A: SlotMark(NOW - 60, True, "1001")})
    ledger.removed = (NOW - 35, NOW - 15)
    rows = ledger.resume(NOW + 1)
    assert slots(rows, "D1", town) == [
        (NOW - 50, "agent"), (NOW - 40, "uplink"), (NOW - 30, "uplink"),
        (NOW - 20, "agent"), (NOW - 10, "agent"),
    ]  # fmt: skip
    assert ledger.gaps[KEY_A] == (NOW - 59, NOW - 35), "nothing of meanwhile is fetched"


def test_of_a_recipient_without_an_uplink_until_the_time_is_known_no_slot_is_the_agents(town):
    ledger = ledger_of(town, {KEY_A: SlotMark(NOW - 40, True, "1001")})
    ledger.removed = (NOW - 500, math.inf)
    rows = ledger.catch_up(KEY_A, NOW + 1, Why.AGENT)
    assert slots(rows, "D1", town) == [(NOW - s, "uplink") for s in (30, 20, 10)]
    assert ledger.gaps == {}


def test_what_never_answered_was_early_while_the_agent_was_down_too(town):
    rows = ledger_of(town, {KEY_A: SlotMark(NOW - 30, heard=False, serial="1001")}).resume(NOW + 1)
    assert slots(rows, "D1", town) == [(NOW - 20, "early"), (NOW - 10, "early")]


def test_a_gap_is_one_row_however_long(town):
    """Rule R8."""
    marks = {KEY_A: SlotMark(NOW - 10_000_000, True, "1001")}
    rows = ledger_of(town, marks).resume(NOW)
    assert [(row.t, row.span) for row in rows] == [(NOW - 9_999_990, 999_999)]


def test_a_gap_is_cut_where_the_basis_changes(tmp_path):
    """Rule R8."""
    town = Town(tmp_path, consents=[])
    town.consent("D1", until=NOW - 35)
    town.consent("D1", since=NOW - 15)
    rows = ledger_of(town, {KEY_A: SlotMark(NOW - 60, True, "1001")}).resume(NOW + 1)
    assert slots(rows, "D1", town) == [
        (NOW - 50, "agent"),
        (NOW - 40, "agent"),
        (NOW - 10, "agent"),
    ]
    assert len({row.series.basis for row in rows}) == 2


def test_what_never_answered_is_early_not_silent(town):
    """Rule M3."""
    ledger = ledger_of(town)
    silent = sample(A, None, why=Why.SILENT)
    (row,) = ledger.close(KEY_A, NOW, [silent], "1001", Why.BUSY)
    assert row.why == "early"
    ledger.close(KEY_A, NOW + 10, [sample(A)], "1001", Why.BUSY)
    (row,) = ledger.close(KEY_A, NOW + 20, [silent], "1001", Why.BUSY)
    assert row.why == "silent"


def test_without_consent_nothing_comes_out(tmp_path):
    """Breaks when consent is always true. Rule P1."""
    town = Town(tmp_path, consents=["D2"])
    ledger = ledger_of(town)
    assert ledger.close(KEY_A, NOW, [sample(A)], "1001", Why.BUSY) == []
    assert list(ledger.held["m1"].values()) == ["no consent covers it"]
    assert "m2" not in ledger.held
    assert ledger.close(KEY_B, NOW, [sample(B)], "1002", Why.BUSY)


def test_a_consent_given_now_counts_from_the_next_reading_on(tmp_path):
    town = Town(tmp_path, consents=[])
    ledger = ledger_of(town)
    assert ledger.close(KEY_A, NOW, [sample(A)], "1001", Why.BUSY) == []
    town.consent("D1", since=NOW + 5)
    rows = ledger.close(KEY_A, NOW + 10, [sample(A)], "1001", Why.BUSY)
    assert slots(rows, "D1", town) == [(NOW + 10, None)]
    assert ledger.held == {}


def test_a_meter_that_is_not_the_installed_one_is_held(town):
    ledger = ledger_of(town)
    assert ledger.close(KEY_A, NOW, [sample(A)], "9999", Why.BUSY) == []
    assert "no place is recorded" in str(ledger.held["m1"])


def test_a_device_before_it_said_its_serial_number_is_held(town):
    """Rule I16."""
    ledger = ledger_of(town)
    assert ledger.close(KEY_A, NOW, [sample(A)], None, Why.BUSY) == []


def test_two_meters_cannot_speak_for_one_quantity_of_a_dwelling(town):
    """The platform's key knows no meter: a second one's rows would be taken for duplicates.
    Rule I19.
    """
    ledger = ledger_of(town)
    assert ledger.close(KEY_A, NOW, [sample(A)], "1001", Why.BUSY)
    assert ledger.close(KEY_B, NOW, [sample(B)], "1001", Why.BUSY) == []
    assert "m1 measures elec.imp" in str(ledger.held["m2"])


def test_a_basis_is_asked_for_the_time_of_the_slot_not_of_its_arrival(tmp_path):
    """Rule P12."""
    town = Town(tmp_path, consents=[])
    town.consent("D1", since=LONG_AGO, until=NOW)
    ledger = ledger_of(town)
    assert ledger.close(KEY_A, NOW - 10, [sample(A)], "1001", Why.BUSY)
    assert ledger.close(KEY_A, NOW, [sample(A)], "1001", Why.BUSY) == []


def test_the_recipient_is_part_of_the_question(town):
    gate = town.gate()
    gate.recipient = "other.example"
    rows = SlotLedger(gate, POINTS, {}).close(KEY_A, NOW, [sample(A)], "1001", Why.BUSY)
    assert rows == []


def test_what_a_wrong_clock_began_is_taken_back_from_where_the_wrong_time_began(town):
    marks = {KEY_A: SlotMark(NOW + 500, heard=True, serial="1001")}
    ledger = ledger_of(town, marks)
    found = Wrong({}, {KEY_A: NOW + 500}, began=NOW + 33)
    ranges, rows, _ = ledger.taken_back(found, NOW + 40)
    assert {(one.since, one.until) for one in ranges} == {(NOW + 30, NOW + 501)}
    assert rows == []
    assert ledger.owed == {}, "what a wrong clock began is not owed"

"""Rules M7, M22: an exchange of meters is told, and what flowed is neither lost nor doubled."""

from dataclasses import replace
from decimal import Decimal

import pytest

from agent.acquisition.row_assignment import RowAssignment
from agent.acquisition.slots import SlotLedger
from agent.core.model import Why
from agent.registry.consent_policy import CommonBasis
from agent.registry.index import Unknown
from agent.registry.inputs import NewExchange
from tests.unit.acquisition.house import NOW, RECIPIENT, Town, point, sample

INDEX, USED = point("m1"), point("m1", "used", derived=True)
KEY = ("m1", 10)


@pytest.fixture
def town(tmp_path):
    return Town(tmp_path, dwellings=1)


def exchange(town, at, closing=None, opening=None, **more):
    def index(value):
        return None if value is None else {"elec.imp": Decimal(value)}

    row = NewExchange("D1", serial="9", at=at, closing=index(closing), opening=index(opening))
    town.registry.exchange([replace(row, **more)], "test", "test", at + 1)


def read(ledger, slot, value, serial, used=None):
    """One slot; what flowed is not known where meters were exchanged."""
    flowed = sample(USED, used) if used else sample(USED, None, why=Why.BAD)
    return ledger.close(KEY, slot, [sample(INDEX, value), flowed], serial, Why.BUSY)


def a_ledger(town):
    ledger = SlotLedger(town.gate(), {KEY: [INDEX, USED]}, {})
    read(ledger, NOW, "100", "1001")
    return ledger


def nobodys(rows):
    """Whether a read is stated as missing for the meter that is recorded, and nothing else is."""
    return {(row.series.meter, row.value, row.why) for row in rows} == {("1001", None, "bad")}


def said(rows):
    return [(row.series.kind, row.value, row.quality, row.flags) for row in rows]


def test_the_first_index_is_flagged_and_what_flowed_is_of_both_meters(town):
    ledger = a_ledger(town)
    exchange(town, NOW + 4, "103.5", "7")
    rows = read(ledger, NOW + 10, "9", "9")
    assert said(rows) == [
        ("REG", Decimal(9), "R", "EXCH"),
        ("INT", Decimal("5.5"), "K", "EXCH"),
    ]
    index, flowed = read(ledger, NOW + 20, "10", "9", used="1")
    assert (index.flags, flowed.flags) == ("", "")


def test_without_a_closing_index_what_flowed_is_an_estimate(town):
    ledger = a_ledger(town)
    exchange(town, NOW + 4, None, "7")
    _, flowed = read(ledger, NOW + 10, "9", "9")
    assert (flowed.value, flowed.quality, flowed.flags) == (Decimal(2), "E", "EXCH")


def test_what_flowed_is_told_of_the_slots_in_which_nobody_knew_the_meter(town):
    ledger = a_ledger(town)
    slots = {NOW + 10: "9", NOW + 20: "10", NOW + 30: "12.5"}
    for slot, shown in slots.items():
        assert nobodys(read(ledger, slot, shown, "9"))
    exchange(town, NOW + 4, "103.5", "7")
    told = []
    for slot, shown in slots.items():
        kept = replace(sample(INDEX, shown, slot), flags=("EXCH",))
        told += ledger.late(KEY, slot, [kept], "9", NOW + 40)
    flows = [row for row in told if row.series.kind == "INT"]
    assert [row.value for row in flows] == [Decimal("5.5"), Decimal(1), Decimal("2.5")]
    assert {(row.quality, row.flags, row.ver) for row in flows} == {("K", "EXCH+LATE", NOW + 40)}


def told_after_a_restart(town, closing):
    """What is made of the slots in which nobody knew the meter, after a restart among them."""
    ledger = a_ledger(town)
    slots = {NOW + 10: "9", NOW + 20: "10", NOW + 30: "12.5"}
    assert nobodys(read(ledger, NOW + 10, "9", "9"))
    ledger = SlotLedger(town.gate(), {KEY: [INDEX, USED]}, ledger.marks)
    assert all(nobodys(read(ledger, slot, "1", "9")) for slot in (NOW + 20, NOW + 30))
    exchange(town, NOW + 4, closing, "7")
    told = []
    for slot, shown in slots.items():
        kept = replace(sample(INDEX, shown, slot), flags=("EXCH",))
        told += ledger.late(KEY, slot, [kept], "9", NOW + 40)
    assert {row.ver for row in told} == {NOW + 40}
    return told


def test_a_restart_before_the_notice_leaves_no_slot_without_a_row(town):
    """Only what the old meter showed before is forgotten, and nothing else is lost."""
    told = told_after_a_restart(town, "103.5")
    flows = [(row.t, row.value, row.quality, row.why) for row in told if row.series.kind == "INT"]
    assert flows == [
        (NOW + 10, None, "M", "agent"),
        (NOW + 20, Decimal(1), "K", None),
        (NOW + 30, Decimal("2.5"), "K", None),
    ]
    assert [row.t for row in told if row.series.kind == "REG"] == [NOW + 10, NOW + 20, NOW + 30]


@pytest.mark.parametrize("read_before", [False, True])
def test_slots_missed_since_an_exchange_are_missed_for_the_new_meter(town, read_before):
    """The agent was down from the exchange on, or was killed before it knew the new meter."""
    ledger = a_ledger(town)
    exchange(town, NOW + 4, "103.5", "7")
    if read_before:  # the meter's number is old: of whom the value is, nobody knows
        index, *_ = read(ledger, NOW + 10, "9", "1001")
        assert (index.series.meter, index.value, index.why) == ("9", None, "bad")
    ledger = SlotLedger(town.gate(), {KEY: [INDEX, USED]}, ledger.marks)
    rows = [row for row in ledger.resume(NOW + 35) if row.series.kind == "REG"]
    first = NOW + 20 if read_before else NOW + 10
    stated = [(row.t + n * 10, row.series.meter, row.why) for row in rows for n in range(row.span)]
    assert stated == [(slot, "9", "agent") for slot in range(first, NOW + 30, 10)]


def test_a_meter_that_is_silent_since_a_recorded_exchange_is_the_new_one(town):
    """Its number is not known yet, as the device has not answered since."""
    ledger = a_ledger(town)
    exchange(town, NOW + 4, "103.5", "7")
    silent = [sample(INDEX, None, why=Why.SILENT)]
    (row,) = ledger.close(KEY, NOW + 10, silent, "1001", Why.BUSY)
    assert (row.series.meter, row.why) == ("9", "silent")
    index, _ = read(ledger, NOW + 20, "9", "1001")  # nobody's until its meter is known
    assert (index.series.meter, index.value, index.why) == ("9", None, "bad")


def test_the_slot_of_the_exchange_itself_is_the_new_meters(town):
    """Rule I10: only a meter without a successor still counts when its installation ends."""
    exchange(town, NOW + 20, "103.5", "7")
    down = SlotLedger(town.gate(), {KEY: [INDEX, USED]}, a_ledger(town).marks)
    down_rows = down.resume(NOW + 45)
    running = a_ledger(town)
    read(running, NOW + 10, "101", "1001")
    read_rows = read(running, NOW + 20, "102", "1001")  # by its number it is still the old meter
    for rows, why in (down_rows, "agent"), (read_rows, "bad"):
        index = {
            row.t + n * 10: (row.series.meter, row.value, row.why)
            for row in rows if row.series.kind == "REG" for n in range(row.span)
        }  # fmt: skip
        assert index[NOW + 20] == ("9", None, why)
        assert index.get(NOW + 10) in {None, ("1001", None, why)}


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("step", [1, 900])
def test_slots_missed_between_an_exchange_and_its_recording_are_stated(tmp_path, step, restarted):
    """The meter was silent, the agent down, and the new meter's number not recorded yet."""
    town = Town(tmp_path, dwellings=1, step=step)
    index, key = point("m1", every=step), ("m1", step)
    first = NOW // step * step
    slots = [first + n * step for n in range(9)]
    at = slots[2] - step // 2
    ledger, rows = SlotLedger(town.gate(), {key: [index]}, {}), []
    for slot in slots[:2]:
        rows += ledger.close(key, slot, [sample(index, "100", slot)], "1001", Why.BUSY)
    for slot in slots[2:4]:  # the old meter, as far as anybody knows
        rows += ledger.close(key, slot, [sample(index, None, why=Why.SILENT)], "1001", Why.BUSY)
    if restarted:
        ledger = SlotLedger(town.gate(), {key: [index]}, ledger.marks)
        rows += ledger.resume(slots[6] + 0.5)
    rows += ledger.close(key, slots[6], [sample(index, "9", slots[6])], "9", Why.BUSY)
    assert (rows[-1].t, nobodys(rows[-1:])) == (slots[6], True)
    before, recorded = town.registry.revision, slots[6] + step // 2
    new = NewExchange("D1", serial="9", at=at)
    town.registry.exchange([new], "test", "test", recorded)
    rows += ledger.close(key, slots[7], [sample(index, "10", slots[7])], "9", Why.BUSY)
    ((_, taken),) = town.registry.effects(before)
    (lost,) = taken
    rows = [
        row
        for row in rows
        for n in range(row.span)
        if not (row.series.meter == lost.meter and lost.since <= row.t + n * step < lost.until)
        for row in [replace(row, t=row.t + n * step, span=1)]
    ]
    made = ledger.exchanged(before, recorded)
    for row in made:
        assert (row.series.meter, row.value, row.why, row.ver) == ("9", None, "agent", recorded)
        rows += [replace(row, t=row.t + n * step, span=1) for n in range(row.span)]
    assert sorted(row.t for row in rows) == slots[:8]  # each slot once
    assert ledger.exchanged(town.registry.revision, recorded) == []


def test_without_a_closing_index_nothing_of_the_old_meter_counts_and_none_is_forgotten(town):
    first, *_ = [row for row in told_after_a_restart(town, None) if row.series.kind == "INT"]
    assert (first.value, first.quality, first.flags) == (Decimal(2), "E", "EXCH+LATE")


def test_what_flowed_comes_with_an_index_that_came_late(town):
    ledger = a_ledger(town)
    read(ledger, NOW + 10, None, "1001")
    late = ledger.late(KEY, NOW + 10, [sample(INDEX, "103", NOW + 12)], "1001", NOW + 12)
    assert said(late) == [("REG", Decimal(103), "R", "LATE"), ("INT", Decimal(3), "K", "LATE")]


def test_in_a_dwelling_what_flowed_is_reckoned_once_from_its_meters(town):
    ledger = a_ledger(town)
    read(ledger, NOW + 10, None, "1001")
    flow = replace(sample(USED, "9", NOW + 12), quality="K")
    late = [sample(INDEX, "103", NOW + 12), flow]
    _, flowed = ledger.late(KEY, NOW + 10, late, "1001", NOW + 12)
    assert (flowed.series.kind, flowed.value) == ("INT", Decimal(3))


def test_in_a_common_area_what_flowed_until_a_late_index_is_told_too(town):
    place = "CZS2YFSTBQQ5WDC"
    index, used = replace(INDEX, place=place), replace(USED, place=place)
    gate = RowAssignment(
        town.registry, replace(town.policy, common=CommonBasis("a vote", 0)), RECIPIENT
    )
    ledger = SlotLedger(gate, {KEY: [index, used]}, {})
    for slot, shown in ((NOW, "100"), (NOW + 10, None)):
        ledger.close(
            KEY, slot, [sample(index, shown), sample(used, None, why=Why.BAD)], None, Why.BUSY
        )
    late = [sample(index, "103", NOW + 12), replace(sample(used, "3", NOW + 12), quality="K")]
    told = ledger.late(KEY, NOW + 10, late, None, NOW + 12)
    assert said(told) == [("REG", Decimal(103), "R", "LATE"), ("INT", Decimal(3), "K", "LATE")]


def test_nothing_is_reckoned_from_a_suspect_index(town):
    ledger = a_ledger(town)
    for slot, quality in ((NOW + 10, "S"), (NOW + 20, "R")):
        read(ledger, slot, None, "1001")
        late = replace(sample(INDEX, "103", slot + 2), quality=quality)
        (row,) = ledger.late(KEY, slot, [late], "1001", slot + 2)
        assert (row.series.kind, row.quality) == ("REG", quality)


def test_the_multiplier_of_each_meter_counts_for_its_own_part(town):
    ledger = a_ledger(town)
    exchange(town, NOW + 4, "103.5", "7", channel="elec.imp")
    _, flowed = read(ledger, NOW + 10, "9", "9")
    assert flowed.value == Decimal("5.5")


def test_a_new_meter_behind_the_same_input_is_an_exchange_too(town):
    ledger = a_ledger(town)
    exchange(town, NOW + 4, "103.5", "103.5", serial="1001", offset=Decimal(0))
    rows = read(ledger, NOW + 10, "105", "1001")
    assert said(rows)[1] == ("INT", Decimal(5), "K", "EXCH")


def test_over_a_gap_nothing_is_split_but_the_index_is_flagged(town):
    ledger = a_ledger(town)
    exchange(town, NOW + 14, "103.5", "7")
    rows = read(ledger, NOW + 30, "9", "9")
    index, flowed = rows[-2:]
    assert (index.value, index.flags) == (Decimal(9), "EXCH")
    assert flowed.value is None


def test_an_exchange_before_a_restart_is_told_once(town):
    exchange(town, NOW + 4, "103.5", "7")
    ledger = SlotLedger(town.gate(), {KEY: [INDEX, USED]}, {})
    index, flowed = read(ledger, NOW + 10, "9", "9")
    assert (index.flags, flowed.value) == ("EXCH", None)
    index, _ = read(ledger, NOW + 20, "10", "9", used="1")
    assert index.flags == ""


@pytest.mark.parametrize("at", [NOW + 25, NOW + 20])
def test_an_exchange_recorded_late_for_its_recording_leaves_no_slot_unstated(town, at):
    """Rule M24: until then each slot is M `bad` of the meter that was recorded."""
    ledger = a_ledger(town)
    rows = read(ledger, NOW + 10, "9", "9")
    assert ledger.held == {"m1": dict.fromkeys(("energy", "used"), str(Unknown.NO_INSTALLATION))}
    ledger = SlotLedger(town.gate(), {KEY: [INDEX, USED]}, ledger.marks)
    rows += ledger.resume(NOW + 20)
    rows += read(ledger, NOW + 20, "9", "9") if at > NOW + 20 else []
    assert nobodys(rows)
    exchange(town, at)
    index, _ = read(ledger, NOW + 30, "10", "9") if at > NOW + 20 else read(ledger, at, "9", "9")
    assert index.series.meter == "9"
    assert index.value is not None
    assert "energy" not in ledger.held.get("m1", {})
    stated = [row.t for row in rows if row.series.kind == "REG"]
    assert stated == list(range(NOW + 10, index.t, 10))


def test_a_recorded_meter_that_another_device_reads_now_is_stated_by_that_one(town):
    """It was moved to another address, and the new meter at its old one is not recorded yet."""
    moved = point("m2")
    ledger = SlotLedger(town.gate(), {KEY: [INDEX], ("m2", 10): [moved]}, {})
    ledger.close(KEY, NOW, [sample(INDEX, "100")], "1001", Why.BUSY)
    ledger.close(("m2", 10), NOW + 10, [sample(moved, "101")], "1001", Why.BUSY)
    assert ledger.close(KEY, NOW + 20, [sample(INDEX, "9")], "9", Why.BUSY)[1:] == []
    (row,) = ledger.close(("m2", 10), NOW + 20, [sample(moved, "102")], "1001", Why.BUSY)
    assert row.value == Decimal(102)


def test_without_an_exchange_nothing_is_made_of_a_bad_difference(town):
    ledger = a_ledger(town)
    index, flowed = read(ledger, NOW + 10, "101", "1001")
    assert (index.flags, flowed.value) == ("", None)

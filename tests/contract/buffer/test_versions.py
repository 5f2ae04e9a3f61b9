# ruff: noqa: N802 -- the letters are those of docs/rules/clock.md
"""Guards rules C1, C2, C5: versions, clock periods and marks that are set back, in one spool.
Rule R7.
"""

from dataclasses import replace

import pytest

from agent.acquisition.directory import series_items
from agent.acquisition.row_assignment import ExpectedSeries
from agent.buffer.batch import read, read_retractions
from agent.core.clock import Period
from agent.core.errors import SpoolFull
from agent.core.model import Range, Retraction, SlotMark
from tests.contract.buffer.far import receipt_for, seal_all
from tests.unit.buffer.rows import NOON, reading, series

DAY = 86_400
KEY = ("m", 60)


def rows_of(spool):
    return [row for batch in seal_all(spool) for row in read(batch.payload)]


def versions(spool):
    return [row.ver for row in rows_of(spool)]


def test_C_c_a_value_made_while_the_clock_was_wrong_does_not_outrank_the_true_one(opened):
    """Rule C1."""
    with opened() as spool:
        spool.append([reading(0, 0, ver=NOON + DAY)], {}, NOON + DAY)
    with opened() as spool:  # the last version survives
        spool.append([reading(0, 0, ver=NOON + 60)], {}, NOON + 60)
        assert versions(spool) == [NOON + DAY, NOON + DAY + 1]


def test_C_c_no_two_versions_of_a_slot_are_alike(opened):
    """Rule C1."""
    with opened() as spool:
        spool.append([reading(0, 0, ver=NOON + 5), reading(0, 1, ver=NOON + 5)], {}, NOON + 5)
        spool.append([reading(0, 0, ver=NOON + 5), reading(0, 0, ver=NOON + 5)], {}, NOON + 5)
        assert versions(spool) == [NOON + 5, NOON + 5, NOON + 6, NOON + 7]
        gap = reading(0, 3, None, why="clock", span=5, ver=NOON + 9)
        spool.append([gap, reading(0, 7, ver=NOON + 9), reading(1, 7, ver=NOON + 9)], {}, NOON + 9)
        assert versions(spool) == [NOON + 9, NOON + 10, NOON + 10]


def lied(spool):
    """A right period, one that is a day ahead, and the right one again: what is proved."""
    spool.append([reading(0, 0)], {KEY: SlotMark(NOON, heard=True)}, NOON)
    assert spool.enter(Period("b", 0.0, 0.0)) is None
    spool.append([reading(0, 1440)], {KEY: SlotMark(NOON + DAY, heard=True)}, NOON + DAY)
    assert spool.enter(Period("b", float(DAY), 10.0)) is None
    spool.append([reading(0, 1441)], {KEY: SlotMark(NOON + DAY + 60, heard=True)}, NOON + DAY + 60)
    return spool.enter(Period("b", 0.5, 20.0))


def test_what_a_wrong_clock_has_closed_is_known_by_the_marks_of_its_period(opened):
    """Rule C2."""
    with opened() as spool:
        found = lied(spool)
        assert (found.since, found.until) == ({KEY: NOON + DAY}, {KEY: NOON + DAY + 60})
    with opened() as spool:  # after a restart in the same boot, too
        assert spool.enter(Period("b", 0.0, 99.0)) == found


def test_C_b_a_set_back_is_one_commit_and_later_rows_of_its_slots_carry_versions(opened):
    """Rules C5, C6."""
    place, channel = series(0).place, series(0).channel
    with opened() as spool:
        found = lied(spool)
        late = NOON + 5 * DAY  # a version of the wrong clock
        spool.append([reading(1, 0, ver=late)], {}, NOON)
        lost = Range(place, channel, NOON + DAY + 1, NOON + DAY + 61)
        passed = reading(0, 2, None, why="clock")
        mark = SlotMark(NOON + 120, heard=True)
        spool.set_back(found, [lost], [passed], {KEY: mark}, NOON + 180)
        assert spool.marks() == {KEY: mark}
        assert spool.enter(Period("b", 0.0, 30.0)) is None
    with opened() as spool:
        batch = spool.retract(NOON, "trusted")
        (told,) = read_retractions(batch.payload)
        assert (told["reason"], told["ver"], told["place"]) == ("clock", late + 1, place)
        rows = [reading(0, 1441, value="5"), reading(0, 1442, value="6")]
        spool.append(rows, {}, NOON + DAY + 120)
        found = rows_of(spool)
        assert [(row.t, row.ver) for row in found if row.series.place == place] == [
            (NOON, None), (NOON + DAY, None),
            (NOON + 120, late + 2), (NOON + DAY + 60, late + 3), (NOON + DAY + 120, None),
        ]  # fmt: skip


def test_a_series_that_a_set_back_states_first_is_announced_before_its_rows(opened):
    """Rule T21: what a wrong clock had closed of it was destroyed."""
    with opened() as spool:
        found, first = lied(spool), reading(7, 2, None, why="clock")
        owed = series_items({ExpectedSeries.of(first.series): first.t})
        spool.set_back(found, [], [first], {}, NOON + 180, owed)
    with opened() as spool:
        assert owed.items() <= spool.announced().items()
        assert not any(row.series == first.series for row in rows_of(spool))


@pytest.mark.parametrize("how", ["void", "conflict"])
def test_what_a_wrong_clock_closed_is_not_sent_again_under_its_retraction(opened, how):
    """Rules C5, C6, T5: the batch became a void, or is in conflict, while its rows waited."""
    lost = Range(series(0).place, series(0).channel, NOON + DAY + 1, NOON + DAY + 61)
    mark = {KEY: SlotMark(NOON + 120, heard=True)}
    with opened() as spool:
        found = lied(spool)
        (batch,) = seal_all(spool)
        assert [row.t for row in read(batch.payload)] == [NOON, NOON + DAY, NOON + DAY + 60]
        if how == "void":
            assert spool.split(batch, "the platform answers 413", NOON)
            spool.set_back(found, [lost], [], mark, NOON + 180)
            (batch,) = spool.unreceipted()
            spool.settle(receipt_for(batch), NOON + 200)
        else:
            spool.set_back(found, [lost], [], mark, NOON + 180)
            other = replace(receipt_for(batch), stored=((batch.id.seq, "f" * 64),))
            spool.settle(other, NOON + 200)
        assert [row.t for row in rows_of(spool)] == [NOON, NOON + DAY]


def test_a_withdrawal_reaches_rows_whose_versions_the_clock_has_yet_to_reach(opened):
    with opened() as spool:
        spool.append([reading(0, 0, ver=NOON + DAY)], {}, NOON + DAY)
        seal_all(spool)
        one = series(0)
        taken = Retraction(
            "r", None, one.place, None, one.occupancy, one.basis, None, 0, None, NOON, "withdrawn"
        )
        spool.apply(1, [taken], NOON + 60)
        (told,) = read_retractions(spool.retract(NOON, "trusted").payload)
        assert told["ver"] == NOON + DAY
        spool.append([replace(reading(0, 1), ver=NOON + 60)], {}, NOON + 60)
        assert versions(spool) == [NOON + DAY + 1]


def test_a_spool_of_the_version_before_opens_and_loses_nothing(opened):
    with opened() as spool:
        spool.append([reading(0, 0)], {KEY: SlotMark(NOON, heard=True)}, NOON)
        spool._database.write("DROP TABLE period")
    with opened() as spool:
        assert spool.marks() == {KEY: SlotMark(NOON, heard=True)}
        assert spool.enter(Period("b", 0.0, 0.0)) is None
        assert rows_of(spool) == [reading(0, 0)]


def test_a_version_is_stored_by_the_second_try_of_a_commit(opened, monkeypatch):
    """What the first try left in memory is not on the disk. Rule C1."""
    with opened() as spool:
        spool.append([reading(0, 0)], {}, NOON)
        real, tries = spool._pending.add, []

        def once_full(*words):
            tries.append(words)
            if len(tries) == 1:
                spool._versions.keep(NOON + DAY)
                raise SpoolFull("the log is full")
            real(*words)

        monkeypatch.setattr(spool._pending, "add", once_full)
        monkeypatch.setattr(spool._capacity, "relieve", lambda: True)
        spool.append([reading(0, 1, ver=NOON + DAY)], {}, NOON)
        assert len(tries) == 2
    with opened() as spool:
        assert spool.given[0] == NOON + DAY


def test_a_spool_goes_on_after_the_versions_that_another_has_given(opened):
    with opened() as spool:
        spool.go_on_after(NOON + DAY, NOON + 600)
    with opened() as spool:
        spool.go_on_after(NOON, NOON)
        assert spool.given == (NOON + DAY, NOON + 600)
        spool.append([reading(0, 3)], {}, NOON + 700)
        assert versions(spool) == [NOON + DAY + 1]


def test_of_a_series_that_began_in_a_wrong_period_nothing_older_is_taken_back(opened):
    """A spool that begins anew has no marks: of what others delivered before, nothing is wrong."""
    with opened() as spool:
        assert spool.enter(Period("b", float(NOON + DAY), 10.0)) is None
        spool.append([reading(0, 1440)], {KEY: SlotMark(NOON + DAY, heard=True)}, NOON + DAY)
        found = spool.enter(Period("b", float(NOON), 20.0), agreed=True)
        assert (found.since, found.began) == ({}, NOON + 20)

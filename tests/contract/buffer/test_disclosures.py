"""What was disclosed of dwellings is counted once, with the receipt, and outlives the batches.
Rule P18.
"""

import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from agent.buffer.disclosures import NEW_SERIES
from agent.core.model import Lane, Receipt, Retraction
from tests.contract.buffer.far import receipt_for, seal
from tests.unit.buffer.rows import poll, reading

TODAY = 1_790_000_000.0
YEARS = 5 * 366 * 86_400


def dwellings(*rows):
    """The same rows, of dwellings."""
    return [
        replace(row, series=row.series._replace(place=f"D{number}", basis="c1", occupancy="H1"))
        for number, row in enumerate(rows)
    ]


def counted(spool):
    return [(one.day, one.place, one.values) for one in spool.disclosures()]


def test_values_are_counted_when_they_were_received_and_once(opened):
    with opened() as spool:
        spool.append(dwellings(reading(0, 0), reading(0, 1, None)), {})
        batch = seal(spool)
        assert counted(spool) == []
        for _ in range(2):
            spool.settle(receipt_for(batch), TODAY)
        assert counted(spool) == [("2026-09-21", "D0", 1)]
    with opened() as spool:
        spool.forget(TODAY + 1)
        assert spool.settle(receipt_for(batch), TODAY).settled == ()
        assert counted(spool) == [("2026-09-21", "D0", 1)]
        assert {(one.channel, one.basis) for one in spool.disclosures()} == {
            (dwellings(reading(0, 0))[0].series.channel, "c1")
        }


def test_what_is_of_no_dwelling_is_not_counted(opened):
    with opened() as spool:
        rows = [replace(row, series=row.series._replace(place="C1")) for row in poll(0)]
        spool.append(rows, {})
        spool.settle(receipt_for(seal(spool)), TODAY)
        assert counted(spool) == []


def test_what_was_only_sent_or_rejected_is_not_counted(opened):
    with opened() as spool:
        spool.append(dwellings(reading(0, 0)), {})
        batch = seal(spool)
        no = Receipt(
            batch.id.gateway, batch.id.recipient, batch.id.epoch,
            rejected=((batch.id.seq, batch.sha256, "no"),),
        )  # fmt: skip
        spool.settle(no, TODAY)
        assert counted(spool) == []
        spool.settle(receipt_for(batch), TODAY)
        assert counted(spool) == [("2026-09-21", "D0", 1)]


def test_counts_are_kept_five_years(opened):
    with opened() as spool:
        spool.append(dwellings(reading(0, 0)), {})
        spool.settle(receipt_for(seal(spool)), TODAY)
        spool.forget(TODAY + YEARS)
        assert len(counted(spool)) == 1
        spool.forget(TODAY + YEARS + 86_400)
        assert counted(spool) == []


def contradicted(batch):
    return receipt_for(batch, stored=((batch.id.seq, "0" * 64),))


def withdrawn(place):
    series = dwellings(reading(0, 0))[0].series
    return Retraction(
        "r1", None, place, None, series.occupancy, series.basis, None, 0, None, 2**40, "withdrawn"
    )


def test_a_batch_that_is_sent_again_on_request_is_counted_once(opened):
    with opened() as spool:
        spool.append(dwellings(reading(0, 0)), {})
        batch = seal(spool)
        spool.settle(receipt_for(batch), TODAY)
        for _ in range(2):
            assert spool.resend(batch.id.epoch, batch.id.seq, batch.id.seq, TODAY) == 1
            again = spool.asked(Lane.BACKFILL)
            assert spool.settle(receipt_for(again), TODAY + 86_400).settled == (batch.id,)
        assert counted(spool) == [("2026-09-21", "D0", 1)]


def test_rows_that_are_sent_anew_after_they_were_received_are_counted_once(opened):
    with opened() as spool:
        spool.append(dwellings(reading(0, 0), reading(0, 1)), {})
        batch = seal(spool)
        spool.settle(receipt_for(batch), TODAY)
        assert spool.settle(contradicted(batch), TODAY).conflict
        spool.append(dwellings(reading(60, 0)), {})
        while anew := seal(spool):
            spool.settle(receipt_for(anew), TODAY)
        assert counted(spool) == [("2026-09-21", "D0", 2), ("2026-09-21", "D1", 1)]


@pytest.mark.parametrize("later", [False, True], ids=["the first withdrawal", "a later one"])
def test_values_that_were_received_before_they_were_destroyed_here_are_counted(opened, later):
    """The receipt came after the withdrawal: the recipient had them, and is asked to erase them."""
    with opened() as spool:
        spool.append(dwellings(reading(0, 0), reading(0, 1), reading(0, 2)), {})
        batch = seal(spool)
        spool.apply(1, [withdrawn("D0")], TODAY)
        if later:
            spool.apply(2, [replace(withdrawn("D1"), id="r2")], TODAY)
        assert spool.settle(receipt_for(batch), TODAY).settled == (batch.id,)
        assert [one.place for one in spool.disclosures()] == ["D0", "D1", "D2"]


def test_what_was_sealed_may_have_been_received_until_it_is_known(opened):
    """Rule P28. A withdrawal destroys the batch, not what the recipient may have of it."""

    def places(spool):
        return [(one.place, one.runs[0].slots) for one in spool.unconfirmed_slots()]

    with opened() as spool:
        common = replace(reading(60, 0), series=reading(60, 0).series._replace(place="C1"))
        spool.append([*dwellings(reading(0, 0), reading(0, 1)), common], {})
        assert places(spool) == []
        batch = seal(spool)
        assert places(spool) == [("D0", 1), ("D1", 1)]
        spool.apply(1, [withdrawn("D0")], TODAY)
        assert places(spool) == [("D0", 1), ("D1", 1)]
    with opened() as spool:
        assert places(spool) == [("D0", 1), ("D1", 1)]
        spool.settle(receipt_for(batch), TODAY)
        assert places(spool) == []


@pytest.mark.parametrize("how", ["by the transport", "by the recipient"])
def test_what_was_refused_may_have_been_received_before(opened, how):
    """Rule P28. An answer that was lost may have been that it is stored."""

    def places(spool):
        return [(one.place, one.runs[0].slots) for one in spool.unconfirmed_slots()]

    with opened() as spool:
        spool.append(dwellings(reading(0, 0), reading(0, 1)), {})
        batch = seal(spool)
        if how == "by the transport":
            spool.refuse(batch.id, "422", TODAY)
        else:
            no = ((batch.id.seq, batch.sha256, "no"),)
            spool.settle(receipt_for(batch, stored=(), rejected=no), TODAY)
        assert spool.backlog().quarantined == 1
        assert places(spool) == [("D0", 1), ("D1", 1)]
        spool.apply(1, [withdrawn("D0")], TODAY)
        void = spool.unreceipted()[0]
        spool.refuse(void.id, "422", TODAY)
        assert spool.backlog().quarantined == 1
        assert places(spool) == [("D0", 1), ("D1", 1)]
        spool.settle(receipt_for(void), TODAY)
        assert places(spool) == []


def test_it_is_known_whose_the_values_were(opened):
    with opened() as spool:
        (row,) = dwellings(reading(0, 0))
        after = replace(row, t=row.t + 60, series=row.series._replace(occupancy="H2"))
        spool.append([row, after], {})
        while batch := seal(spool):
            spool.settle(receipt_for(batch), TODAY)
        assert [(one.occupancy, one.values) for one in spool.disclosures()] == [
            ("H1", 1),
            ("H2", 1),
        ]


def test_what_an_earlier_version_counted_is_nobodys_in_particular(opened, tmp_path):
    with opened() as spool:
        spool.append(dwellings(reading(0, 0)), {})
        spool.settle(receipt_for(seal(spool)), TODAY)
    with closing(sqlite3.connect(tmp_path / "spool.db")) as db, db:
        db.execute("UPDATE disclosed SET n=n+5")
    with opened() as spool:
        found = [(one.occupancy, one.values) for one in spool.disclosures()]
        assert found == [("", 5), ("H1", 1)]


def test_an_erasure_is_confirmed_by_the_recipients_word_alone(opened):
    """Rule P23."""
    with opened() as spool:
        spool.append(dwellings(reading(0, 0)), {})
        spool.settle(receipt_for(seal(spool)), TODAY)
        spool.apply(1, [withdrawn("D0")], TODAY)
        assert spool.erasures() == {"r1": None}
        told = spool.retract(TODAY, "trusted")
        assert spool.erasures() == {"r1": None}
        spool.settle(receipt_for(told), TODAY)
        assert spool.erasures() == {"r1": None}, "it holds the request, and has not answered it"
        spool.settle(receipt_for(told, retracted=(("r1", 1),)), TODAY)
        assert spool.erasures() == {"r1": 1}
        spool.settle(contradicted(told), TODAY)
        assert spool.erasures() == {"r1": None}, "it does not hold the request any more"


def test_a_receipt_adds_slots_without_rewriting_those_of_all_series(opened):
    """What a receipt writes is a note of one line; the next day's first one gathers the notes."""

    def received(minute, now, *, series=20):
        spool.append(dwellings(*(reading(n, minute) for n in range(series))), {})
        while batch := seal(spool):
            spool.settle(receipt_for(batch), now)

    def stored():
        sql = "SELECT n, runs FROM received ORDER BY n", "SELECT runs FROM received_since"
        return [spool._database.read(one) for one in sql]

    def slots():
        found = sorted(spool.received_slots(), key=lambda of: int(of.place[1:]))
        return [sum(run.slots for run in of.runs) for of in found]

    with opened() as spool:
        received(0, TODAY)
        empty, _ = stored()
        received(1, TODAY)
        received(2, TODAY, series=15)
        runs, notes = stored()
        assert runs == empty
        assert len(notes) == 3
        assert max(len(text) for (text,) in notes) < 60
        assert slots() == [3] * 15 + [2] * 5
        received(3, TODAY + 86_400)
        runs, notes = stored()
        assert len(notes) == 1
        assert all(runs[n] != empty[n] for n in range(20))
        assert slots() == [4] * 15 + [3] * 5
        spool.forget(TODAY + 86_400 + 1)
        assert slots() == [4] * 15 + [3] * 5
    with opened() as spool:
        assert sum(run.slots for of in spool.received_slots() for run in of.runs) == 75


def test_where_rows_have_no_room_values_are_counted_and_their_slots_are_not(opened):
    """Rule B2: counts are owed to the person, and slots only make them exact."""
    with opened() as spool:
        spool.append(dwellings(reading(0, 0), reading(1, 0)), {})
        spool._disclosures.room = lambda: NEW_SERIES
        spool.settle(receipt_for(seal(spool)), TODAY)
        assert sum(one.values for one in spool.disclosures()) == 2
        assert [sum(run.slots for run in one.runs) for one in spool.received_slots()] == [1]

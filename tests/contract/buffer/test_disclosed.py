"""What was disclosed of dwellings is counted once, with the receipt, and outlives the batches."""

from dataclasses import replace

from agent.model import Receipt
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

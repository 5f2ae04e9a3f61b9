"""A neighbour fills the disk: it costs the backlog, never current readings (docs/decisions/003)."""

import asyncio
import random
import shutil
from collections import Counter
from contextlib import suppress
from dataclasses import replace

import pytest

from agent.acquisition.ingest import Ingest
from agent.buffer.batch import read
from agent.buffer.unassigned_store import UnassignedStore
from agent.core.errors import Refused, SpoolFull
from agent.core.model import SlotMark
from hil.platform.ledger import opened as ledger_at
from hil.platform.listen import Desk
from hil.platform.report import report
from tests.contract.buffer.conftest import KEY
from tests.contract.buffer.far import receipt_for, seal
from tests.contract.buffer.test_unassigned_store import ONE, kept
from tests.unit.buffer.rows import reading

DAY = 86_400


def hog(folder):
    """Take every byte that is left."""
    with (folder / "hog").open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                continue


def rows_of(slot, dice):
    return [reading(n, slot, f"{dice.getrandbits(100)}") for n in range(200)]


def delivered(spool):
    """Everything that waits, sealed and receipted: its rows."""
    seen = []
    while batch := seal(spool):
        seen += read(batch.payload)
        assert spool.settle(receipt_for(batch), 0.0).settled == (batch.id,)
    return seen


def test_while_the_platform_is_connected_a_full_disk_costs_no_current_reading(small_disk, opened):
    """Through a restart, too, with not one byte free. Rule B9."""
    dice = random.Random(1)
    with opened(path=small_disk / "spool.db") as spool:
        for slot in range(10):
            spool.append(rows_of(slot, dice), {})
            assert len(delivered(spool)) == 200
        hog(small_disk)
        for slot in range(10, 60):
            rows = rows_of(slot, dice)
            spool.append(rows, {})
            assert delivered(spool) == rows
    hog(small_disk)
    with opened(path=small_disk / "spool.db") as spool:
        for slot in range(60, 80):
            rows = rows_of(slot, dice)
            spool.append(rows, {})
            assert delivered(spool) == rows
        assert (spool.backlog().refused, spool.backlog().shed, spool.set_aside) == (0, 0, None)


def test_while_the_platform_is_away_a_full_disk_costs_the_oldest_which_is_stated(
    small_disk, opened
):
    """Rule B9."""
    dice = random.Random(1)
    with opened(path=small_disk / "spool.db") as spool:
        hog(small_disk)
        for slot in range(450):
            spool.append(rows_of(slot, dice), {("a", 60): SlotMark(slot, heard=True)})
        backlog = spool.backlog()
        assert (backlog.refused, backlog.slots) == (0, 450 * 200)
        assert backlog.shed > 1_000
        stated, shed, last = Counter(), 0, set()
        for row in delivered(spool):
            stated.update((row.series, row.t + n * 60) for n in range(row.span))
            shed += row.span if row.why == "shed" else 0
            if row.value is not None:
                last.add(row.t)
        assert (len(stated), set(stated.values()), shed) == (90_000, {1}, backlog.shed)
        assert max(last) == reading(0, 449).t
        rows = rows_of(450, dice)
        spool.append(rows, {})
        assert delivered(spool) == rows


def test_a_spool_that_has_grown_to_its_cap_goes_on_on_a_full_disk_and_says_what_it_gave_up(
    small_disk, opened
):
    dice = random.Random(3)
    with opened(path=small_disk / "spool.db", max_bytes=2 * 1024 * 1024) as spool:
        taken = 0
        while spool.backlog().shed < 20_000:  # for a while already: its log has its size, too
            spool.append(rows_of(taken, dice), {})
            taken += 1
        hog(small_disk)
        for _ in range(60):
            spool.append(rows_of(taken, dice), {})
            taken += 1
        backlog = spool.backlog()
        assert (backlog.refused, backlog.slots) == (0, taken * 200)
        assert backlog.shed > 10_000
        seen, shed = Counter(), 0
        while batch := seal(spool):
            for row in read(batch.payload):
                seen.update((row.series, row.t + n * 60) for n in range(row.span))
                shed += row.span if row.why == "shed" else 0
            spool.settle(receipt_for(batch), 0.0)
        assert (len(seen), set(seen.values()), shed) == (taken * 200, {1}, backlog.shed)


def test_readings_leave_the_reserve_of_the_disk_to_consents_orders_and_receipts(small_disk, opened):
    """Rule B10."""
    dice, reserve = random.Random(4), 11_500_000
    with opened(path=small_disk / "spool.db", reserve=reserve) as spool:
        taken = 0
        while not spool.backlog().shed:
            spool.append(rows_of(taken, dice), {})
            taken += 1
        log = 2_000_000
        assert shutil.disk_usage(small_disk).free > reserve - log
        (small_disk / "registry.new").write_bytes(bytes(reserve - log))
        for _ in range(20):  # a neighbour has taken it: the spool goes on inside its file
            spool.append(rows_of(taken, dice), {})
            taken += 1
        assert (spool.backlog().refused, spool.backlog().slots) == (0, taken * 200)
        assert spool.settle(receipt_for(seal(spool)), 0.0).settled


def test_a_spool_on_a_full_disk_opens_and_drains(small_disk, opened):
    dice = random.Random(2)
    with opened(path=small_disk / "spool.db") as spool:
        spool.append(rows_of(0, dice), {})
    hog(small_disk)
    with opened(path=small_disk / "spool.db") as spool:
        batch = seal(spool)
        assert batch.rows == 200
        assert spool.settle(receipt_for(batch), 0.0).settled == (batch.id,)


def test_a_new_spool_on_a_full_disk_is_refused_with_words(small_disk, opened):
    hog(small_disk)
    with pytest.raises(Refused, match="room"), opened(path=small_disk / "spool.db"):
        pass


def test_a_shelf_on_a_full_disk_goes_on_with_what_was_read_last(small_disk, caplog):
    with UnassignedStore.open(small_disk / "shelf.db", KEY) as shelf:
        hog(small_disk)
        for slot in range(60):
            shelf.add_each({ONE: [kept(slot, random.randbytes(20_000).hex())]})
            slots = [one.slot for _, values in shelf.each() for one in values]
            assert slots[-1] == slot
        assert 10 < len(slots) < 60
        assert slots == list(range(60 - len(slots), 60))
    assert not caplog.text


def deliver(spool, ledger):
    while batch := seal(spool):
        topic = f"gardien/{batch.id.gateway}/{batch.id.recipient}/up/backfill"
        assert Desk(ledger).answer(topic, batch.payload)
        spool.settle(receipt_for(batch), 0.0)


def test_what_a_full_disk_sheds_is_stated_once_whether_it_came_in_time_or_late(small_disk, opened):
    """Guards rule G2: a late value that is shed keeps its version."""

    async def scenario(spool):
        async def append(rows, marks):
            spool.append(rows, marks)

        intake = Ingest(append, flush=60)
        for slot in range(20):
            if slot == 5:
                hog(small_disk)
            rows = [reading(n, slot, "1") for n in range(10)]
            if slot in {9, 10, 14}:  # for a slot that was closed without a value
                rows += [replace(reading(n, slot - 1, "2"), ver=7 + slot) for n in range(10)]
            await intake.put(rows, {("a", 60): SlotMark(slot, heard=True)})
            await intake.commit()
        assert intake.shed_rows > 100
        (small_disk / "hog").unlink()
        with ledger_at(small_disk / "platform.db") as ledger:
            deliver(spool, ledger)
        await intake.commit()

    with opened(path=small_disk / "spool.db", max_bytes=2 * 1024 * 1024) as spool:
        before, dice = 0, random.Random(5)
        with suppress(SpoolFull):
            while True:  # indexes of midnights, which are never given up
                rows = [reading(n, before, f"{dice.getrandbits(180)}", DAY) for n in range(50, 550)]
                spool.append(rows, {})
                before += 500
        asyncio.run(scenario(spool))
        with ledger_at(small_disk / "platform.db") as ledger:
            deliver(spool, ledger)
        assert spool.marks() == {("a", 60): SlotMark(19, heard=True)}
    counted = report(small_disk / "platform.db")
    assert (counted["alarms"], counted["overlapping_slots"]) == (0, 0)
    assert counted["slots"] == 20 * 10 + 3 * 10 + before


def test_on_a_full_disk_what_became_of_2_000_orders_leaves_room_for_current_readings(
    small_disk, opened
):
    dice = random.Random(1)

    def outcome(n):
        said = {"jti": f"{dice.getrandbits(122):032x}", "control": "boiler", "state": "RESTORING",
                "at": "2026-11-27T09:00:00Z", "value": 19.0, "before": 21.0, "after": 21.0,
                "pre": 210, "device": f"{dice.getrandbits(60):x}"}  # fmt: skip
        return {f"outcomes/{n}": {"id": f"o{n}-{dice.getrandbits(40)}", **said}}

    with opened(path=small_disk / "spool.db") as spool:
        hog(small_disk)
        directory = {}
        for n in range(2_000):
            directory |= outcome(n)
            if n % 20 == 19:
                while batch := spool.announce(directory, 0.0, "trusted"):
                    assert spool.settle(receipt_for(batch), 0.0).settled == (batch.id,)
        for slot in range(10):
            rows = rows_of(slot, dice)[:3]
            spool.append(rows, {})
            assert delivered(spool) == rows


def test_a_shelf_opens_on_a_full_disk_though_its_key_is_being_rotated(small_disk):
    path, new = small_disk / "shelf.db", b"n" * 32
    dwellings = [f"D{number}" for number in range(40)]
    with UnassignedStore.open(path, KEY) as shelf:
        hog(small_disk)
        for number in range(6000):
            shelf.add([kept(number)], dwellings[number % 40])
        there = list(shelf.each())
    with UnassignedStore.open(path, new, before=KEY) as shelf:
        assert list(shelf.each()) == there
        with pytest.raises(SpoolFull):
            shelf.rekey(new)
        shelf.add([kept(6000)], dwellings[0])
        assert list(shelf.each())[-1][1] == [kept(6000)]
        (small_disk / "hog").unlink()
        shelf.rekey(new)
        there = list(shelf.each())
        while shelf.rekey_step():
            pass
    with UnassignedStore.open(path, new) as shelf:
        assert list(shelf.each()) == there

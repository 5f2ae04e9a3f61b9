"""The counter-examples of a full disk, each by its name (docs/rules/storage.md, B)."""

import random
import shutil
from dataclasses import replace

import pytest

from agent.buffer.batch import read
from agent.buffer.capacity import LEAST_BATCH, UNRECEIPTED
from agent.buffer.database import HEADROOM, LOG_ROOM, PAGE
from agent.buffer.spool import Spool
from agent.core.model import Lane, Void
from tests.contract.buffer.conftest import HEAD, KEY
from tests.contract.buffer.far import FOREVER, receipt_for, seal
from tests.contract.buffer.test_full_disk import hog
from tests.contract.buffer.test_withdrawal import NOW, taken, withdraw
from tests.unit.buffer.rows import reading, series

CAP = 2 * 1024 * 1024
METERS = 100
QUARANTINED = 40
"""batches of 48 kB: more than the log holds"""


def rows_of(slot, dice, meters=METERS):
    return [reading(n, slot, f"{dice.getrandbits(60)}") for n in range(meters)]


def sealed(spool, dice, first=0, most_bytes=48_000):
    """Nine batches of 48 kB without a receipt, of people."""
    batches, slot = [], first
    while len(batches) < UNRECEIPTED:
        for _ in range(60):
            spool.append(rows_of(slot, dice), {})
            slot += 1
        batches.append(seal(spool, most_bytes=most_bytes, most_rows=100_000))
    assert all(len(batch.payload) > most_bytes * 0.9 for batch in batches)
    return batches, slot


def until_it_gives_up(spool, dice, slot):
    """Append until values are given up; the next slot."""
    while not spool.backlog().shed:
        spool.append(rows_of(slot, dice), {})
        slot += 1
    return slot


def log_of(folder):
    return (folder / "spool.db.log").stat().st_size


def test_B_log_truncated(small_disk, opened):  # noqa: N802 -- as the rule is named
    """The log keeps its room through folding, a purge and a restart, so that all commits.
    Rule B1.
    """
    for start in range(2):
        with opened(path=small_disk / "spool.db") as spool:
            hog(small_disk)
            for n in range(150):
                spool.append([reading(n % 10, start * 1000 + n)], {})
            spool.apply(start + 1, [taken(3)], NOW)
            spool._database.fold()
            assert log_of(small_disk) == LOG_ROOM
            assert not any((small_disk / "spool.db-wal").read_bytes())  # and says nothing purged
            assert spool.backlog().refused == 0
    assert log_of(small_disk) == LOG_ROOM


def test_B_retraction_not_sealed(small_disk, opened):  # noqa: N802
    """Rows never fill the places of the retractions: one for each dwelling with a consent.
    Rule B5.
    """
    dice = random.Random(1)
    with opened(path=small_disk / "spool.db", max_bytes=CAP) as spool:
        hog(small_disk)
        until_it_gives_up(spool, dice, 0)
        withdraw(spool, *(taken(n) for n in range(METERS)))
        told = spool.retract(NOW, "trusted")
        assert told is not None
        assert spool.settle(receipt_for(told), NOW).settled == (told.id,)
        assert spool.backlog().rows == 0


def test_B_payload_larger_than_freed(small_disk, opened):  # noqa: N802
    """Nine batches without a receipt stand, however little of the blocks they free. Rule B3."""
    dice = random.Random(2)
    with opened(path=small_disk / "spool.db", max_bytes=CAP) as spool:
        hog(small_disk)
        slot = until_it_gives_up(spool, dice, 0)
        batches = [seal(spool, most_rows=300) for _ in range(UNRECEIPTED)]
        assert all(batches)
        for n in range(20):
            spool.append(rows_of(slot + n, dice), {})
        assert spool.backlog().refused == 0
        assert spool.settle(receipt_for(*batches), NOW).settled == tuple(b.id for b in batches)


def test_B_M_rows_fill(small_disk, opened):  # noqa: N802
    """What was given up is one row a series, extended in place. Rule B4."""
    dice = random.Random(3)
    with opened(path=small_disk / "spool.db", max_bytes=CAP) as spool:
        hog(small_disk)
        slot = until_it_gives_up(spool, dice, 0)
        for n in range(150):
            spool.append(rows_of(slot + n, dice), {})
        assert spool.backlog().refused == 0
        rows = [row for block in spool._pending.of(0)[0] for row in block.rows]
        spans = [row for row in rows if row.why == "shed" and row.series.step == 60]
        spans += [
            row for n in spool._purge._person_keys.numbers() for b in spool._pending.of(n)[0]
            for row in b.rows if row.why == "shed"
        ]  # fmt: skip
        assert sum(row.span for row in spans) == spool.backlog().shed
        assert len(spans) <= 3 * METERS  # one, and what the last steps have not joined yet


def test_B_void_rows_decoded(opened):  # noqa: N802
    """What a void leaves lies where its payload lay, and takes no more room. Rule B6."""
    dice = random.Random(4)
    with opened(max_bytes=CAP) as spool:
        batches, slot = sealed(spool, dice)
        before = spool._database.used()
        withdraw(spool, taken(0))
        assert [one.void for one in spool.unreceipted()] == [Void.WITHDRAWN] * UNRECEIPTED
        assert spool.backlog().rows > 20_000
        assert spool._database.used() <= before + UNRECEIPTED * 4 * PAGE
        spool.append(rows_of(slot, dice), {})
        assert seal(spool) is not None
        assert len(batches) == UNRECEIPTED


def test_B_withdrawal_larger_than_log(small_disk, opened):  # noqa: N802
    """Nine batches of 48 kB and a backlog, in the smallest spool, on a full disk. Rule B2."""
    dice = random.Random(5)
    with opened(path=small_disk / "spool.db", max_bytes=CAP) as spool:
        batches, slot = sealed(spool, dice)
        hog(small_disk)
        until_it_gives_up(spool, dice, slot)
        voided = withdraw(spool, *(taken(n) for n in range(METERS)))
        assert voided == tuple(batch.id for batch in batches)
        assert log_of(small_disk) == LOG_ROOM
        assert spool.backlog().rows == 0
        assert {row.void for row in spool.unreceipted()} == {Void.WITHDRAWN}


def test_B_arithmetic():  # noqa: N802
    """Rule B7: the part that rows may not fill holds all that must always fit; so does the log."""
    batch = -(-LEAST_BATCH // PAGE) + 1
    assert UNRECEIPTED * batch + 1 + batch + 2 + 1 <= HEADROOM // PAGE
    assert 2 * (batch + 1) + 3 <= LOG_ROOM // (PAGE + 24)


@pytest.mark.parametrize("parted", [False, True], ids=["mixed", "parted"])
def test_B_killed_between_two_steps(opened, tmp_path, parted):  # noqa: N802
    """Rule B8: whatever step a purge was killed after, nothing of people leaves until the end."""
    dice, mine = random.Random(6), taken(0)
    copies = []

    def kept(step):
        copies.append(shutil.copytree(tmp_path / "life", tmp_path / f"killed{len(copies)}"))
        return real(step)

    (tmp_path / "life").mkdir()
    with opened(path=tmp_path / "life" / "spool.db", max_bytes=4 * CAP) as spool:
        for slot in range(30):
            spool.append(rows_of(slot, dice), {})
        seal(spool, most_bytes=12_000)
        if parted:
            spool.tend(NOW, 1e12)
            spool.tend(NOW, 1e12)
        rows = [row for batch in spool.unreceipted() for row in read(batch.payload)]
        assert any(row.series.place == series(0).place for row in rows)
        real = spool._capacity.step
        spool._capacity.step = kept
        withdraw(spool, mine)
        wanted = spool.backlog()
    assert len(copies) > 2
    for copy in copies:
        with opened(path=copy / "spool.db", max_bytes=4 * CAP) as spool:
            assert spool.purging
            assert spool.seal(Lane.BACKFILL, NOW, "trusted", FOREVER) is None
            assert all(not batch.rows for batch in spool.unreceipted())
            withdraw(spool, replace(mine))
            found = spool.backlog()
            assert (found.rows, found.purged, found.unreadable) == (wanted.rows, wanted.purged, 0)
            assert spool._retracting.waiting() == 1
            left = [one for batch in spool.unreceipted() for one in read(batch.payload)]
            assert all(row.series.place != series(0).place for row in left)


@pytest.fixture(scope="module")
def quarantined(tmp_path_factory):
    """A closed spool of so many batches in quarantine that no one commit could hold them."""
    path, dice = tmp_path_factory.mktemp("quarantined") / "spool.db", random.Random(1)
    with Spool.open(path, KEY, HEAD, 20_000_000) as spool:
        for slot in range(0, QUARANTINED * 4, 4):
            for n in range(4):
                spool.append(rows_of(slot + n, dice, 1500), {})
            spool.refuse(seal(spool, most_bytes=48_000, most_rows=100_000).id, "403", NOW)
    return path


@pytest.mark.parametrize("what", ["receipt", "retry", "a day"])
def test_B_quarantine_larger_than_log(small_disk, opened, quarantined, what):  # noqa: N802
    """Rule B2."""
    for file in quarantined.parent.iterdir():
        shutil.copy(file, small_disk)
    with opened(path=small_disk / quarantined.name) as spool:
        assert spool.backlog().quarantined == QUARANTINED
        hog(small_disk)
        if what == "receipt":
            assert len(spool.tend(NOW + 1801.0, FOREVER)) == 1
            for _ in range(QUARANTINED):
                for one in spool.unreceipted():
                    spool.settle(receipt_for(one), NOW + 1900)
            assert not spool.backlog().batches
        elif what == "retry":
            assert spool.retry() == QUARANTINED
        else:
            assert len(spool.tend(NOW + 90_000.0, FOREVER)) == QUARANTINED
        assert spool.backlog().quarantined == 0

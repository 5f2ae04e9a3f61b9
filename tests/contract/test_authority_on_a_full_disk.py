"""What says who may sign is not thrown away because the disk is full (rule G5)."""

import asyncio
import hashlib

import pytest

from agent.core.atomic_write import Reserve
from agent.core.errors import NotRecorded
from agent.registry.inputs import NewPlace
from agent.registry.registry import Registry
from tests.contract.buffer.test_full_disk import hog
from tests.unit.inbox.desk import Here


def test_a_start_on_a_full_disk_goes_on_with_the_trust_list(small_disk):
    here = Here(small_disk).believed()
    version = here.inbox.trust_store.trust.ver
    here.close()
    hog(small_disk)
    again = Here(small_disk)
    assert again.inbox.trust_store.trust.ver == version
    again.close()


def test_a_start_on_a_full_disk_without_its_reserve_keeps_the_trust_list(small_disk):
    """It cannot be opened then, and is not damaged for that: a copy of it in memory counts."""
    here = Here(small_disk).believed()
    version = here.inbox.trust_store.trust.ver
    here.close()
    (small_disk / Reserve.FILE).unlink()
    hog(small_disk)
    for _ in range(2):
        again = Here(small_disk)
        assert (again.inbox.trust_store.trust.ver, again.inbox.trust_store.volatile) == (
            version,
            True,
        )
        again.close()
    (small_disk / "hog").unlink()
    again = Here(small_disk)
    assert (again.inbox.trust_store.trust.ver, again.inbox.trust_store.volatile) == (
        version,
        False,
    )
    assert not list(small_disk.glob("*.damaged*"))
    again.close()


def test_a_full_disk_records_in_the_room_of_its_reserve(small_disk):
    """Rule B11: a withdrawal is a new file beside the one that stands."""
    registry, by = Registry.open(small_disk / "registry.json"), ("me", "a test", 1_700_000_000.0)
    registry.add_places([NewPlace("A-1", "D")], *by)
    hog(small_disk)
    for number in range(2, 40):
        registry.add_places([NewPlace(f"A-{number}", "D")], *by)
    assert len(Registry.open(small_disk / "registry.json").places()) == 39


def test_a_waiting_object_that_is_refused_on_a_full_disk_waits_on(small_disk):
    here = Here(small_disk).believed()
    book, raw = here.inbox.trust_store, b"no.signed.object"
    sha256 = hashlib.sha256(raw).hexdigest()
    book.wait(sha256, ("consent+jwt", "one"), ("metropole", raw), "nobody yet", here.wall)
    book.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    hog(small_disk)
    (small_disk / Reserve.FILE).unlink()
    hog(small_disk)
    with pytest.raises(NotRecorded), book.transaction():
        book.stop_waiting(sha256)
    assert asyncio.run(here.inbox.retry_waiting()) == 0
    (small_disk / "hog").unlink()
    assert asyncio.run(here.inbox.retry_waiting()) == 1
    here.close()

"""A neighbour fills the disk: rows are refused, the spool drains all the same (issue 2, part 8)."""

import os
import random
import subprocess

import pytest

from agent.buffer.batch import read
from agent.errors import Refused, SpoolFull
from tests.contract.buffer.conftest import HEAD
from tests.contract.buffer.far import receipt_for, seal
from tests.unit.buffer.rows import reading


@pytest.fixture
def small_disk(tmp_path):
    """16 MB of their own for a spool and its neighbours."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", tmp_path],
        capture_output=True,
        check=False,
    )
    if made.returncode != 0:
        pytest.skip(f"no mount here: {made.stderr.decode().strip()}")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


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


def test_a_full_disk_refuses_rows_drains_and_takes_rows_again_when_there_is_room(
    small_disk, opened
):
    dice = random.Random(1)
    with opened(head=HEAD, path=small_disk / "spool.db") as spool:
        taken = [row for slot in range(40) for row in rows_of(slot, dice)]
        for start in range(0, len(taken), 200):
            spool.append(taken[start : start + 200], {})
        hog(small_disk)
        with pytest.raises(SpoolFull):  # noqa: PT012 -- which of them is the disk's affair
            for slot in range(2000):
                more = rows_of(1000 + slot, dice)
                spool.append(more, {})
                taken += more
        refused = spool.backlog().refused
        assert refused == 200
        seen = []
        while batch := seal(spool):
            seen += read(batch.payload)
            assert spool.settle(receipt_for(batch), 0.0).settled == (batch.id,)
        assert sorted(map(repr, seen)) == sorted(map(repr, taken))
        with pytest.raises(SpoolFull):  # not into the room that settling needs
            spool.append(rows_of(5000, dice), {})
        (small_disk / "hog").unlink()
        spool.append(rows_of(5001, dice), {})
        assert spool.backlog().refused == 400
    with opened(path=small_disk / "spool.db") as spool:
        assert spool.backlog().rows == 200
        assert spool.set_aside is None


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

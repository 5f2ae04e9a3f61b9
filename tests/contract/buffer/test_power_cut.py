"""Power cuts of a spool whose system calls are recorded: what an error of the disk leaves in the
page cache is not built on. That an accepted row survives a cut is tested over the whole agent
(tests/sim, plan `cut-while-down`).
"""

import random
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest

from agent.buffer.database import Damaged
from agent.core.errors import AgentError
from tests.contract.buffer.life import faults
from tests.contract.buffer.power import cuts, record

ROOT = Path(__file__).parents[3]
CUTS, FEW = 150, 20

pytestmark = pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")


@pytest.fixture
def survey(opened, tmp_path):
    """Record a life, cut its power at many points; what each cut has broken."""

    def survey(*words, fails="", count=CUTS):
        folder = tmp_path / "life"
        folder.mkdir()
        life = [sys.executable, "-m", "tests.contract.buffer.life", str(folder), *words]
        calls = record(life, tmp_path / "calls", ROOT, fails)
        assert sum(name in {"fdatasync", "fsync"} for name, *_ in calls) > 3
        dice, broken, heard = random.Random(6), [], 0
        for number, disk in enumerate(cuts(calls, folder, dice, count)):
            into = tmp_path / f"cut{number}"
            into.mkdir()
            disk.cut(dice, into)
            heard += bool(disk.said)
            try:
                with opened(path=into / "spool.db") as spool:
                    broken += [faults(spool, disk.said)]
            except (AgentError, Damaged, sqlite3.Error) as error:  # what contradicts itself, too
                broken += [[repr(error)]]
        assert heard > count / 4
        said = [line for _, words, texts, _ in calls if words[0] == "1" for line in texts]
        return [fault for fault in broken if fault], b"".join(said).decode().splitlines()

    return survey


def test_the_power_cuts_find_a_spool_that_does_not_sync(survey):
    """What finds nothing below would find this."""
    assert len(survey("5", "0", "150", "careless", count=FEW)[0]) > FEW / 4


def test_A_e_on_what_a_failed_commit_left_in_the_page_cache_nothing_is_built(survey):  # noqa: N802
    """Rule A4."""
    broken, said = survey("300", fails="fsync,fdatasync:error=EIO:when=40+29")
    assert broken == []
    assert sum(line.startswith("failed") for line in said) > 3

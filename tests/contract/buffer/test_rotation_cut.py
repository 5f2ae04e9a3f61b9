"""Kill -9 and power cuts while a spool is brought under another key: all that was accepted is there
exactly once, under one of the two keys, and then under the new one alone. Guards rules G2, K6.
"""

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from agent.buffer.database import Damaged
from agent.buffer.spool import Spool
from agent.core.errors import AgentError
from tests.contract.buffer.conftest import HEAD, KEY
from tests.contract.buffer.life import CAP, faults, live
from tests.contract.buffer.power import cuts, record
from tests.contract.buffer.rotates import NEW, rotating
from tests.depth import LONG

ROOT = Path(__file__).parents[3]
CUTS, KILLS = (150, 40) if LONG else (12, 2)
FIRST = 60


@pytest.fixture
def begun(tmp_path, capfd):
    """A folder with a spool that was used under the key before; what was said of it."""
    folder = tmp_path / "life"
    folder.mkdir()
    with Spool.open(folder / "spool.db", KEY, HEAD, CAP) as spool:
        live(spool, random.Random(3), 0, FIRST)
        spool.tend(1e9, 1e12)
        spool.tend(1e9, 1e12)
    return folder, capfd.readouterr().out.splitlines()


def child(folder, seed):
    command = [sys.executable, "-m", "tests.contract.buffer.rotates", folder, seed, FIRST]
    return list(map(str, command))


def finished(path, said):
    """What is wrong once the rotation was gone on with to its end."""
    with rotating(path) as spool:
        while spool.rekey_step():
            pass
    with Spool.open(path, NEW, HEAD, CAP) as spool:
        return faults(spool, [one for one in said if one != "step"])


def test_killed_at_any_moment_nothing_is_lost_or_there_twice(begun, tmp_path):
    folder, before = begun
    dice = random.Random(1)
    for number in range(KILLS):
        into = tmp_path / f"kill{number}"
        shutil.copytree(folder, into)
        with subprocess.Popen(
            child(into, number), cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as process:
            said, lines = [], dice.randint(1, 12)
            for line in process.stdout:
                said.append(line.strip())
                if len(said) == lines:
                    process.send_signal(signal.SIGKILL)
        assert "step" in said
        assert finished(into / "spool.db", before + said) == []


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_a_power_cut_at_any_moment_loses_nothing_and_leaves_nothing_twice(begun, tmp_path):
    folder, before = begun
    # strace tells what is written from here on: what is there is a write, too
    there = {path.name: path.read_bytes() for path in folder.iterdir()}
    calls = record(child(folder, 1), tmp_path / "calls", ROOT)
    dice, broken = random.Random(6), []
    for number, disk in enumerate(cuts(calls, folder, dice, CUTS, there)):
        into = tmp_path / f"cut{number}"
        into.mkdir()
        disk.cut(dice, into)
        try:
            broken += [finished(into / "spool.db", before + disk.said)]
        except (AgentError, Damaged, sqlite3.Error) as error:
            broken += [[repr(error)]]
    assert [one for one in broken if one] == []

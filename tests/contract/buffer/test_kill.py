"""Guards rules G1, G2: kill -9 at any moment loses nothing accepted, doubles nothing."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.contract.buffer.life import METERS, faults
from tests.depth import depth

ROOT = Path(__file__).parents[3]
ROUNDS = depth(6, 60)


def life(folder, seed, first):
    command = [
        sys.executable,
        "-m",
        "tests.contract.buffer.life",
        folder,
        seed,
        first,
        100_000,
        "no",
    ]
    return subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, text=True)


def killed(child, lines, more):
    """Let it say so many lines, then kill it some seconds later; all it has said."""
    said = []
    for line in child.stdout:
        said.append(line)
        if len(said) == lines:
            time.sleep(more)  # or it would always be hit in what follows saying something
            child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert child.returncode == -signal.SIGKILL
    return said


def test_whatever_was_accepted_before_kill_9_is_there_exactly_once(opened, tmp_path):
    dice = random.Random(11)
    for seed in range(ROUNDS):
        folder = tmp_path / str(seed)
        folder.mkdir()
        said, first = [], 0
        for again in range(2):  # the second life begins with what the first one left
            said += killed(
                life(folder, seed * 2 + again, first), dice.randint(1, 300), dice.random() / 100
            )
            first = 1 + max(int(line.split()[1]) for line in said if line.startswith("rows"))
            with opened(path=folder / "spool.db") as spool:
                first = max(first, spool.marks()["a", 60].slot + 1)
        with opened(path=folder / "spool.db") as spool:
            assert faults(spool, said) == []
    assert METERS > 1

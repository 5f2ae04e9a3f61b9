"""Rule G1 for the registry: what was acknowledged is there after a kill or a power cut."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.core.atomic_write import Reserve
from agent.core.errors import Refused
from agent.registry.registry import Registry
from agent.registry.storage import AtomicStorage
from tests import powercut

ROOT = Path(__file__).parents[3]
CHILD = [sys.executable, "-m", "tests.contract.registry.diary"]

needs_strace = pytest.mark.skipif(not powercut.available(), reason="strace is not here")


def recorded(folder):
    registry = Registry.open(folder / "registry.json")
    assert len(registry.occupancies()) == len(registry.places()) == registry.revision
    return {place.label for place in registry.places()}


def damage(tmp_path, broken, cuts=120):
    """How many of the cuts lost something acknowledged or left a file that cannot be read."""
    folder, after = tmp_path / "state", tmp_path / "after"
    folder.mkdir()
    trace = powercut.record([*CHILD, str(folder), "12", broken], folder)
    bad = 0
    for cut in trace.cuts(cuts, random.Random(7)):
        cut.restore(after)
        try:
            bad += not recorded(after) >= set(cut.acks)
        except Refused:
            bad += 1
    assert len(cut.acks) == 12
    return bad


@needs_strace
def test_what_was_acknowledged_survives_a_power_cut(tmp_path):
    assert damage(tmp_path, "nothing") == 0


@needs_strace
@pytest.mark.parametrize("broken", ["file", "folder"])
def test_a_missing_fsync_is_noticed(tmp_path, broken):
    assert damage(tmp_path, broken) > 10


def test_what_was_acknowledged_survives_kill_9(tmp_path):
    rng = random.Random(3)
    for _ in range(8):
        said = killed(tmp_path, rng.uniform(0.0, 0.08))
        assert recorded(tmp_path) >= set(said)
        (tmp_path / "registry.json").unlink(missing_ok=True)


def killed(folder, after):
    """Run the child, kill it `after` seconds from its first word; what it had said by then."""
    child = subprocess.Popen([*CHILD, str(folder), "100000", "nothing"], stdout=subprocess.PIPE)
    first = child.stdout.readline()
    time.sleep(after)
    os.kill(child.pid, signal.SIGKILL)
    rest = child.stdout.read()
    child.stdout.close()
    child.wait()
    return [
        line.split()[1].decode()
        for line in (first + rest).splitlines(keepends=True)
        if line.endswith(b"\n")
    ]


def test_a_write_that_fails_changes_nothing(tmp_path):
    def no_space(_descriptor):
        raise OSError(28, "No space left on device")

    storage = AtomicStorage(tmp_path / "registry.json")
    storage.write({"_default": {"1": {"a": 1}}})
    with pytest.raises(OSError, match="No space"):
        AtomicStorage(tmp_path / "registry.json", no_space).write({})
    assert storage.read() == {"_default": {"1": {"a": 1}}}
    assert {path.name for path in tmp_path.iterdir()} == {"registry.json", Reserve.FILE}


@pytest.mark.parametrize("content", [b"", b'{"a"', b"\xff\xfe", b"null x"])
def test_a_file_that_is_no_registry_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "registry.json"
    path.write_bytes(content)
    with pytest.raises(Refused, match="not a registry"):
        AtomicStorage(path).read()
    assert path.read_bytes() == content


def test_nobody_else_may_read_it(tmp_path):
    """Rule K1."""
    AtomicStorage(tmp_path / "registry.json").write({})
    assert (tmp_path / "registry.json").stat().st_mode & 0o077 == 0

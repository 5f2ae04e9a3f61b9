"""Rule G1 for the registry: what was acknowledged is there after a kill or a power cut."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.core.atomic_write import Reserve
from agent.core.errors import NotRecorded, Refused
from agent.registry.registry import Registry
from agent.registry.storage import TABLE, WORTH_FOLDING, RegistryStorage
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


ROWS = {"1": {"kind": "place", "id": "D1", "label": "A-1"}}
MORE = {"2": {"kind": "place", "id": "D2", "label": "Été"}}


def no_space(_descriptor):
    raise OSError(28, "No space left on device")


def files(folder):
    return {path.name for path in folder.iterdir()} - {Reserve.FILE}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "registry.json"


def storage(path, fsync=os.fsync):
    opened = RegistryStorage(path, fsync)
    opened.load()
    opened.logs = True
    return opened


def log(path):
    """The log that the snapshot names."""
    id_ = json.loads(path.read_bytes())["log"]["1"]["id"]
    return path.with_name(f"registry-{id_}.log")


def begun(path, *added):
    """A snapshot with ROWS, and a log with these additions."""
    opened = storage(path)
    opened.write({TABLE: dict(ROWS)})
    for rows in added:
        opened.append(rows)
    return opened


def test_a_write_that_fails_changes_nothing(path):
    begun(path)
    before = files(path.parent)
    with pytest.raises(OSError, match="No space"):
        storage(path, no_space).write({TABLE: {}})
    assert storage(path).read() == {TABLE: ROWS}
    assert files(path.parent) == before


def test_a_change_is_a_line_of_the_log(path):
    """Its cost does not depend on the size of the registry."""
    opened = begun(path)
    before = path.read_bytes()
    opened.append(MORE)
    assert path.read_bytes() == before
    assert log(path).read_bytes().count(b"\n") == 1
    assert storage(path).read() == opened.read() == {TABLE: ROWS | MORE}
    assert files(path.parent) == {path.name, log(path).name}


def test_a_line_that_fails_is_cut_off(path):
    begun(path, MORE)
    before = log(path).read_bytes()
    failing = storage(path, no_space)
    with pytest.raises(OSError, match="No space"):
        failing.append({"3": {}})
    assert log(path).read_bytes() == before
    failing._fsync = os.fsync
    failing.append({"3": {}})  # nothing is added to a log that failed: a new snapshot
    assert log(path).read_bytes() == b""
    assert storage(path).read() == {TABLE: ROWS | MORE | {"3": {}}}


def test_a_torn_line_is_left_out_and_never_continued(path):
    """It was never acknowledged."""
    begun(path, MORE, {"3": {"x": "y" * 9000}})
    whole = log(path).read_bytes()
    first = whole.index(b"\n") + 1
    holes = whole[: first + 100] + bytes(4096) + whole[first + 4196 :]
    for content in (whole[:-1], whole[: first + 1], whole[:first] + bytes(4096), holes):
        log(path).write_bytes(content)
        opened = storage(path)
        assert opened.read() == {TABLE: ROWS | MORE}
        assert log(path).read_bytes() == content  # whoever only reads changes nothing
    opened.append({"3": {"z": 1}})
    assert storage(path).read() == {TABLE: ROWS | MORE | {"3": {"z": 1}}}
    assert log(path).read_bytes() == b""


def broken_line(content):
    return content.replace(b"D2", b"D9")


def swapped_lines(content):
    return b"".join(reversed(content.splitlines(keepends=True)))


def missing_line(content):
    return content[content.index(b"\n") + 1 :]


def torn_before_the_last(content):
    return content[:20] + bytes(10) + content[30:]


@pytest.mark.parametrize(
    "damage", [broken_line, swapped_lines, missing_line, torn_before_the_last, None]
)
def test_a_damaged_or_missing_log_is_refused_and_left_alone(path, damage):
    begun(path, MORE, {"3": {}})
    name = log(path)
    if damage is None:
        name.unlink()
    else:
        name.write_bytes(damage(name.read_bytes()))
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    with pytest.raises(NotRecorded, match="not a registry that can be read"):
        RegistryStorage(path).read()
    with pytest.raises(Refused):
        Registry.open(path)
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == before


def test_the_last_line_is_torn_only_where_bytes_are_missing(path):
    """A changed byte of an acknowledged change is damage."""
    begun(path, MORE)
    log(path).write_bytes(broken_line(log(path).read_bytes()))
    with pytest.raises(NotRecorded, match="line 1 is damaged"):
        RegistryStorage(path).read()


def test_the_log_of_another_snapshot_never_counts(path):
    """An older snapshot that somebody puts back, with a log of today under the name it expects."""
    begun(path, MORE)
    older, its_log = path.read_bytes(), log(path)
    opened = storage(path)
    opened.write({TABLE: dict(ROWS)})
    opened.append({"2": {"another": 1}})
    todays = log(path).read_bytes()
    assert not its_log.exists()
    path.write_bytes(older)
    with pytest.raises(NotRecorded, match=its_log.name):
        RegistryStorage(path).read()
    its_log.write_bytes(todays)
    with pytest.raises(NotRecorded, match="line 1 is damaged"):
        RegistryStorage(path).read()


def test_a_log_that_no_snapshot_names_counts_for_nothing_and_goes(path):
    """A kill between its creation and the snapshot's rename leaves it."""
    begun(path, MORE)
    strange, own = path.with_name(f"registry-{'0' * 16}.log"), path.with_name("registry-old.log")
    strange.write_bytes(b"nonsense"), own.write_bytes(b"of a person")
    opened = storage(path)
    assert opened.read() == {TABLE: ROWS | MORE}
    opened.write({TABLE: dict(ROWS)})
    assert files(path.parent) == {path.name, log(path).name, own.name}


@pytest.mark.parametrize("changed", ["snapshot", "log"])
def test_a_file_that_somebody_else_changed_is_read_again_before_it_is_written(path, changed):
    mine = begun(path, MORE)
    if changed == "log":
        storage(path).append({"3": {"of": "another"}})
    else:
        storage(path).write({TABLE: ROWS | MORE | {"3": {"of": "another"}}})
    mine.append({"4": {}})
    assert storage(path).read() == {TABLE: ROWS | MORE | {"3": {"of": "another"}, "4": {}}}


def test_a_log_becomes_part_of_a_new_snapshot_once_it_is_long(path):
    opened = begun(path)
    assert not opened.long
    large = {"2": {"x": "y" * WORTH_FOLDING}}
    opened.append(large)
    assert opened.long
    # without an agent nobody begins a new one, and the log must end some time
    opened.append({"3": {"x": "y" * WORTH_FOLDING}})
    before = path.stat().st_size
    opened.append({"4": {}})
    assert path.stat().st_size > before + 2 * WORTH_FOLDING
    assert not opened.long
    assert list(storage(path).read()[TABLE]) == ["1", "2", "3", "4"]


def test_while_an_upgrade_is_on_trial_no_log_is_begun(path):
    """The version before reads one table of one file, and refuses a file with two."""
    opened = RegistryStorage(path)
    opened.append(dict(ROWS))
    opened.append(dict(MORE))
    assert json.loads(path.read_bytes()) == {TABLE: ROWS | MORE}
    assert files(path.parent) == {path.name}
    opened.logs = True
    opened.append({"3": {}})
    assert set(json.loads(path.read_bytes())) == {TABLE, "log"}
    opened.logs = False  # the version before wrote this log
    opened.append({"4": {}})
    assert log(path).read_bytes().count(b"\n") == 1


@pytest.mark.parametrize("content", [b"", b'{"a"', b"\xff\xfe", b"null x"])
def test_a_file_that_is_no_registry_is_refused_and_left_alone(path, content):
    path.write_bytes(content)
    with pytest.raises(Refused, match="not a registry"):
        RegistryStorage(path).read()
    assert path.read_bytes() == content


def test_nobody_else_may_read_them(path):
    """Rule K1."""
    begun(path, MORE)
    for file in (path, log(path)):
        assert file.stat().st_mode & 0o077 == 0

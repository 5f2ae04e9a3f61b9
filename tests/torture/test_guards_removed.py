"""A guard is removed from a copy of the program, and the tests named here notice it: they fail
there, and hold in the program as it is. For `make torture` alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    not os.environ.get("GARDIEN_TORTURE"), reason="long: GARDIEN_TORTURE=1"
)


@dataclass(frozen=True)
class Guard:
    file: str
    guard: str
    without: str
    notice: tuple[str, ...]
    """tests, each of which must fail without it"""


CONTROL = "tests/contract/control/test_failing_disk.py"
CLOCK = "tests/contract/acquisition/test_wrong_clock.py"
FULL = "tests/contract/buffer/test_full_disk_rules.py"
GUARDS = {
    "the supervisor's catch": Guard(
        "agent/core/tasks.py",
        "if component.ending or isinstance(error, component.passes):",
        "if True:",
        (
            "tests/unit/gateway/test_supervisor.py::test_a_component_that_fails_is_parked_and_the_others_go_on",
            "tests/system/test_one_part_fails.py::test_whichever_part_fails_the_others_go_on_and_nothing_is_lost_or_doubled",
        ),
    ),
    "the journal's copy": Guard(
        "agent/control/writer.py",
        'self._write(f"{journal}-{record.number}", OPEN, {"row": encode(record)})',
        "pass",
        (
            f"{CONTROL}::test_A_i_killed_at_any_step_and_the_disk_fails_nothing_stays_commanded",
            f"{CONTROL}::test_a_hold_whose_journal_is_damaged_is_given_back_by_its_copy",
        ),
    ),
    "the reserve of a spool": Guard(
        "agent/buffer/capacity.py",
        "return max(HEADROOM, size // RESERVE_SHARE)",
        "return 0",
        (f"{FULL}::test_B_retraction_not_sealed",),
    ),
    "the proof of a step": Guard(
        "agent/buffer/schema.py",
        "    else:\n        return None\n    taken",
        "    else:\n        first = 0\n    taken",
        (
            f"{CLOCK}::test_C_e_a_time_server_that_is_wrong_backwards_stamps_nothing_over_what_was_closed",
            f"{CLOCK}::test_after_a_boot_one_source_alone_proves_nothing_and_two_that_agree_do",
        ),
    ),
    "the version of what is kept in memory": Guard(
        "agent/buffer/spool.py",
        "else replace(row, ver=now if row.ver is None else row.ver)",
        "else row",
        ("tests/contract/buffer/test_memory.py::test_A_a_a_value_kept_in_memory_counts_whichever_comes_first",),
    ),
    "the notes of what the disk has not taken": Guard(
        "agent/registry/registry.py",
        "new.replace(self._notes)",
        "pass",
        (
            "tests/contract/registry/test_registry.py::test_A_g_a_withdrawal_holds_while_the_disk_fails_and_after_kill_9",
        ),
    ),
}  # fmt: skip


def passes(where: Path, tests: tuple[str, ...], folder: Path) -> dict[str, bool]:
    """Whether each test passes on the program in that folder."""
    found = {}
    for test in tests:
        words = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider"]
        words += ["--basetemp", str(folder), test]
        done = subprocess.run(
            words, check=False, cwd=where, capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": str(where), "GARDIEN_TORTURE": ""},
        )  # fmt: skip
        assert done.returncode in {0, 1}, done.stdout[-2000:]
        assert done.returncode or " passed" in done.stdout, done.stdout
        found[test] = not done.returncode
    return found


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", GUARDS)
def test_a_guard_that_is_removed_is_missed(tmp_path, name):
    one = GUARDS[name]
    assert all(passes(ROOT, one.notice, tmp_path / "as-it-is").values())
    copy = tmp_path / "without"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__", "build"))
    source = copy / one.file
    text = source.read_text()
    assert text.count(one.guard) == 1
    source.write_text(text.replace(one.guard, one.without))
    assert not any(passes(copy, one.notice, tmp_path / "run").values())

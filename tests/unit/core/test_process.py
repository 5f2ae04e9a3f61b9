"""What the kernel tells of this process and its machine."""

import json
import os
import subprocess
import sys
import time

from agent.core.process import temperatures, usage

BEFORE_AND_WITH_A_FILE = """
import json, os, sys
from agent.core.process import usage
before = usage()
with open(sys.argv[1], "wb") as file:
    file.write(b"x" * 1_000_000)
    file.flush()
    os.fsync(file.fileno())
    print(json.dumps([before, usage()]))
"""


def test_a_process_is_counted_by_the_kernel(tmp_path):
    """A process of its own: in this one, what earlier tests left open may close in between."""
    asked = [sys.executable, "-c", BEFORE_AND_WITH_A_FILE, str(tmp_path / "x")]
    run = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60)
    before, during = json.loads(run.stdout)
    assert during["files"] == before["files"] + 1
    assert during.get("written", 1) >= before.get("written", 0)
    assert 1e6 < before["memory"] < 2e9
    assert 0 < before["cpu"] < before["age"] * os.cpu_count() + 1
    assert before["age"] <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_what_the_kernel_does_not_tell_is_left_out(tmp_path):
    assert usage(tmp_path) == {}
    own = tmp_path / "self"
    own.mkdir()
    (own / "stat").write_text("7 (a) name ) (b)) S " + " ".join(map(str, range(4, 53))))
    (tmp_path / "uptime").write_text("100.50 1.0\n")
    ticks = os.sysconf("SC_CLK_TCK")
    assert usage(tmp_path) == {"cpu": (14 + 15) / ticks, "age": 100.5 - 22 / ticks}


def test_a_sensor_that_fails_costs_only_itself(tmp_path):
    for zone, kind, degrees in (("0", "cpu-thermal", "48312\n"), ("1", "broken", "")):
        folder = tmp_path / f"thermal_zone{zone}"
        folder.mkdir()
        (folder / "type").write_text(f"{kind}\n")
        (folder / "temp").write_text(degrees)
    assert temperatures(tmp_path) == {("thermal_zone0", "cpu-thermal"): 48.312}
    assert temperatures(tmp_path / "none") == {}

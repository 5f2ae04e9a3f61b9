"""What this process uses, and how warm its machine is, as the kernel counts it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
ZONES = Path("/sys/class/thermal")
ABSENT = (OSError, ValueError, LookupError)
"""where this kernel, or this container, does not tell something"""


def usage(proc: Path = PROC) -> dict[str, float]:
    """Return what this process uses. What the kernel does not tell is left out. Blocking, short.

    `memory` (bytes in RAM), `cpu` (seconds since its start), `age` (seconds since its start, by a
    clock that never steps), `files` (open ones), `written` (bytes that it had the kernel write to
    disks since its start).
    """
    own, used = proc / "self", dict[str, float]()
    with suppress(*ABSENT):
        pages = int((own / "statm").read_text("ascii").split()[1])
        used["memory"] = pages * os.sysconf("SC_PAGE_SIZE")
    with suppress(*ABSENT):
        # behind the name of the program, which may contain spaces and brackets (proc_pid_stat(5))
        fields = (own / "stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()
        ticks = os.sysconf("SC_CLK_TCK")
        used["cpu"] = (int(fields[11]) + int(fields[12])) / ticks
        up = float((proc / "uptime").read_text("ascii").split()[0])
        used["age"] = max(0.0, up - int(fields[19]) / ticks)
    with suppress(*ABSENT):
        used["files"] = sum(1 for _ in (own / "fd").iterdir())
    with suppress(*ABSENT):
        lines = (own / "io").read_text("ascii").splitlines()
        used["written"] = int(dict(line.split(": ") for line in lines)["write_bytes"])
    return used


def temperatures(zones: Path = ZONES) -> dict[tuple[str, str], float]:
    """Return the temperatures of the machine in °C, by zone of the kernel and type of its sensor.

    Blocking: a sensor may be slow to answer.
    """
    measured: dict[tuple[str, str], float] = {}
    for zone in sorted(zones.glob("thermal_zone*")):
        with suppress(*ABSENT):
            sensor = (zone / "type").read_text("utf-8", errors="replace").strip()
            measured[zone.name, sensor] = int((zone / "temp").read_text("ascii")) / 1000
    return measured

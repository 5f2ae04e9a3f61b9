"""The cost of the small history: bytes that a day writes to the disk, the file, and the memory.

`python -m bench.history` prints one table: 40 points of common plant and the gateway's own series,
as the component commits them: every two hours, and the days as they end. The bytes are counted from
the file calls of a child, recorded by strace: whole pages of 4 kB, once for each sync. A file
system adds its own journal. (write_bytes of /proc/self/io is of no use here: Linux 6.16 and later
count a whole folio of up to 64 kB for a write of 1 kB.)
"""

from __future__ import annotations

import math
import os
import random
import re
import subprocess
import sys
import tempfile
import tracemalloc
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

from agent.acquisition.common_history import OWN, CommonHistory
from agent.acquisition.timetable import running_slot
from agent.buffer.history_store import DAY, GAUGE, QUARTER, REGISTER, HistoryStore, SeriesName
from agent.gateway.plant_history import DAY_SETTLED, SETTLED, WRITE_EVERY

GAUGES, REGISTERS, OWN_SERIES = 30, 10, 6
BEGIN = 1_790_000_000 // DAY * DAY
ZONE = ZoneInfo("Europe/Paris")
KEY = b"k" * 32
HOUR = 3600
EVERY = int(WRITE_EVERY)
PAGE = 4096
MARK = re.compile(r"write\(1, \"day \d+")
WROTE = re.compile(r"pwrite64\((\d+), .*, \d+, (\d+)\) += (\d+)")
SYNCED = re.compile(r"f(?:data)?sync\((\d+)\)")


def names() -> list[SeriesName]:
    """The series of the reference building."""
    return [
        *(SeriesName(f"sensor-{n}", "temp", "temp", "Cel", GAUGE) for n in range(GAUGES)),
        *(SeriesName(f"meter-{n}", "imp", "elec.imp", "kWh", REGISTER, f"KAM-{n}")
          for n in range(REGISTERS)),
        *(SeriesName(OWN, f"own/{n}", None, "B", GAUGE) for n in range(OWN_SERIES)),
    ]  # fmt: skip


def note(history: CommonHistory, series: list[SeriesName], t: int, dice: random.Random) -> None:
    """One minute of readings: gauges each minute, indexes each quarter."""
    for n, name in enumerate(series):
        if name.kind == GAUGE:
            wave = 20 + n / 3 + 4 * math.sin(t / DAY * 2 * math.pi + n)
            history._put(name, t, round(wave + dice.gauss(0, 0.3), 2))  # noqa: SLF001
        elif t % QUARTER == 0:
            history._put(name, t, round(1000.0 * n + (t - BEGIN) / HOUR * 1.7, 1))  # noqa: SLF001


def life(folder: Path, days: int) -> None:
    """Live so many days; each begins with a mark on standard output."""
    history, series, dice = CommonHistory(), names(), random.Random(7)
    day_of = partial(running_slot, DAY, zone=ZONE)
    with HistoryStore.open(folder / "history.db", KEY) as store:
        for day in range(days):
            os.write(1, f"day {day}".encode())
            for now in range(BEGIN + day * DAY + EVERY, BEGIN + (day + 1) * DAY + 1, EVERY):
                for t in range(now - EVERY + 60, now + 1, 60):
                    note(history, series, t, dice)
                values = history.waiting(now - SETTLED)
                store.append(values)
                history.stored(values)
                store.close_days(day_of, now - DAY_SETTLED)
                store.expire(now)


def measured(folder: Path, days: int) -> list[int]:
    """The bytes that each day of a life in this folder has written to the disk."""
    log = folder / "calls"
    child = [sys.executable, "-m", "bench.history", "life", str(folder), str(days)]
    calls = "write,pwrite64,fsync,fdatasync"
    subprocess.run(
        ["strace", "-f", "-s", "16", "-e", f"trace={calls}", "-o", log, *child],
        check=True, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    costs: list[int] = []
    dirty: dict[str, set[int]] = {}
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if MARK.search(line):
            costs.append(0)
        elif wrote := WROTE.search(line):
            file, offset, size = wrote[1], int(wrote[2]), int(wrote[3])
            pages = range(offset // PAGE, (offset + size - 1) // PAGE + 1)
            dirty.setdefault(file, set()).update(pages)
        elif (synced := SYNCED.search(line)) and costs:
            costs[-1] += PAGE * len(dirty.pop(synced[1], ()))
    log.unlink()
    return costs


def memory() -> int:
    """Bytes of what waits when two hours and a half have not been written."""
    series, dice = names(), random.Random(7)
    tracemalloc.start()
    history = CommonHistory()
    for t in range(BEGIN, BEGIN + 5 * HOUR // 2, 60):
        note(history, series, t, dice)
    most = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return most


def main() -> None:
    """Print the table. Argument: how many days (default 45)."""
    if sys.argv[1:2] == ["life"]:
        return life(Path(sys.argv[2]), int(sys.argv[3]))
    days = int(sys.argv[1]) if len(sys.argv) > 1 else 45
    with tempfile.TemporaryDirectory() as name:
        costs = measured(Path(name), days)
        size = sum(path.stat().st_size for path in Path(name).iterdir())
    usual = costs[len(costs) // 2 :]
    for what, number in {
        "series": len(names()),
        "bytes written, first day": costs[0],
        "bytes written, mean of the last half": sum(usual) // len(usual),
        "bytes written, mean of the last week": sum(costs[-7:]) // 7,
        "bytes written, largest later day": max(costs[1:]),
        "files on the disk": size,
        "memory of what waits, 2.5 h": memory(),
    }.items():
        print(f"{what:38}{number:>12,}")
    return None


if __name__ == "__main__":
    main()

"""What a log record costs with its fields in the journal, and as a line of text: `python -m
bench.log`, as root (a systemd-journald of its own is started beside it, in namespaces).
"""

import logging
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

RECORDS, RUNS = 2_000, 5
JOURNALD = "/usr/lib/systemd/systemd-journald"
SCRIPT = """
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journald.conf.d /run/systemd/journal /run/log/journal
printf '[Journal]\\nStorage=volatile\\nReadKMsg=no\\nAudit=no\\nRateLimitBurst=0\\n' \\
    >/run/systemd/journald.conf.d/here.conf
/usr/lib/systemd/systemd-journald &
until [ -S /run/systemd/journal/socket ] && [ -S /run/systemd/journal/stdout ]; do sleep 0.05; done
systemd-cat "$0" -m bench.log "$1" "$2"
"""


def main() -> None:
    if os.geteuid() or not Path(JOURNALD).exists():
        print(f"log: as root, where there is {JOURNALD}")
        return
    print(
        "| the log | start, ms | memory, kB | a record: time, µs | CPU, µs |\n|---|---|---|---|---|"
    )
    for way, name in (("text", "text on stderr"), ("fields", "the journal with fields")):
        runs = [figures(way) for _ in range(RUNS)]
        print(
            f"| {name} | "
            + " | ".join(f"{statistics.median(one):.4g}" for one in zip(*runs, strict=True))
            + " |"
        )


def figures(way: str) -> list[float]:
    out = Path(f"/tmp/bench-log-{os.getpid()}")
    subprocess.run(
        ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
         "--propagation=private", "sh", "-c", SCRIPT, sys.executable, way, out),
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    numbers = [float(word) for word in out.read_text().split()]
    out.unlink()
    return numbers


def resident() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Rss:"))


def measured(way: str, out: Path) -> None:
    """Inside, with stderr in the journal."""
    if way == "text":
        sys.modules["systemd"] = None  # type: ignore[assignment] -- as where it is not installed
    import agent.daemon  # noqa: F401 -- all that the daemon imports is not counted
    from agent.core.log_fields import LogEvent, fields
    from agent.core.systemd import FORMAT, log_handler

    before, began = resident(), time.perf_counter()
    logging.basicConfig(level=logging.INFO, handlers=[log_handler()], format=FORMAT)
    started = time.perf_counter() - began
    log = logging.getLogger("bench")
    cpu, began = time.process_time(), time.perf_counter()
    for number in range(RECORDS):
        log.warning(
            "m%d on %s is silent: no answer within 500 ms", number % 60, "riser",
            extra=fields(LogEvent.DEVICE_SILENT, device=f"m{number % 60}", line="riser"),
        )  # fmt: skip
    took, spent = time.perf_counter() - began, time.process_time() - cpu
    each = (took / RECORDS * 1e6, spent / RECORDS * 1e6)
    out.write_text(" ".join(map(str, (started * 1e3, resident() - before, *each))))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        measured(sys.argv[1], Path(sys.argv[2]))
    else:
        main()

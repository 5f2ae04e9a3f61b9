"""The machine's evidence for its clock: whether a time service keeps it, and the RTC's time.

It is read from the kernel and from files, as `timedatectl` does, without D-Bus. chrony and ntpd
report to the kernel. systemd-timesyncd does so too, and touches a file at each synchronization.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TIMESYNCD = Path("/run/systemd/timesync/synchronized")
BOOT = Path("/proc/sys/kernel/random/boot_id")
RTC = Path("/sys/class/rtc/rtc0/since_epoch")

STA_UNSYNC = 0x40
MOST_ERROR = 16_000_000
"""microseconds at which the kernel's error is unknown (timedate1 uses the same limit)"""


class _Timex(ctypes.Structure):
    """The first fields of the kernel's `struct timex`, and space for the rest of it."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


@dataclass(frozen=True, slots=True)
class ClockEvidence:
    """The evidence for the wall clock at one check."""

    kernel: bool
    """a time service keeps the kernel's clock"""
    touched: int | None
    """when timesyncd last synchronized, in nanoseconds of the wall clock at that time"""


def evidence(timesyncd: Path = TIMESYNCD) -> ClockEvidence:
    """Collect the evidence. This costs two system calls."""
    try:
        touched: int | None = timesyncd.stat().st_mtime_ns
    except OSError:
        touched = None
    return ClockEvidence(_kernel_keeps_time(), touched)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _kernel_keeps_time() -> bool:
    now = _Timex()
    if _libc().adjtimex(ctypes.byref(now)) < 0:
        return False
    return now.maxerror < MOST_ERROR and not now.status & STA_UNSYNC


def boot_id(path: Path = BOOT) -> str:
    """Return the id of this boot: monotonic times compare only within one boot."""
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return f"unknown-{os.getppid()}"


def rtc(path: Path = RTC) -> float | None:
    """Return the time of the battery-backed clock in Unix seconds; None if there is none."""
    try:
        return float(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None

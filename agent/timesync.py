"""What this machine knows of its clock: whether a time service keeps it, and what its RTC says.

Read from the kernel and from files, as `timedatectl` does; nothing is asked over D-Bus. chrony and
ntpd tell the kernel; systemd-timesyncd tells it too, and touches a file at every synchronization.
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
"""microseconds; the kernel's way to say that it does not know (timedate1 reads it so, too)"""


class _Timex(ctypes.Structure):
    """The head of the kernel's `struct timex`, and room for the rest of it."""

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
    """What speaks for the wall clock at one look."""

    kernel: bool
    """the kernel's clock is being kept by a time service"""
    touched: int | None
    """when timesyncd last synchronized, nanoseconds of the wall clock of that moment"""


def evidence(timesyncd: Path = TIMESYNCD) -> ClockEvidence:
    """Look once; costs two system calls."""
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
    """The name of this boot: monotonic times of one boot only can be compared."""
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return f"unknown-{os.getppid()}"


def rtc(path: Path = RTC) -> float | None:
    """What the battery-backed clock says, seconds since 1970; None where there is none."""
    try:
        return float(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None

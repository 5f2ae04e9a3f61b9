"""Storage that fails: which stores cannot be written, since when and why, and the bounds after
which waiting for a disk counts as a fault. Also the folder that survives kill -9, but no reboot.

A store is a file of the state directory that is written by itself: the journal of the controls, a
spool, the registry. A fault is a state of its store. It ends no process.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import sqlite3
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.clock import seconds
from agent.errors import Refused
from agent.log_fields import LogEvent, fields
from agent.state import PACKAGED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)

HOLDS_END_AFTER = 60.0
"""seconds: a call that has not returned by then ends all holds. A card that is busy with its own
housekeeping for half a minute ends none"""
PROBED_EVERY = 60.0
"""seconds between two test commits, while something is held or while a store has failed"""

SPOOL = "the spool of "
"""how a recipient's store is called, before the name of the uplink"""
READ_ONLY, FAILING = "the disk is read-only", "the disk reports errors"
NOT_WELL = {errno.EIO, errno.ENXIO, errno.ENODEV, errno.EUCLEAN, errno.ESHUTDOWN}
RUN = Path("/run/gardien")
"""made by the package for the state PACKAGED"""
MOUNTS, REMOUNTED = Path("/proc/self/mountinfo"), "emergency_ro"
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 -- a folder of our own in it, and its owner is checked


@dataclass(frozen=True, slots=True)
class StoreFault:
    """One store that cannot be written."""

    reason: str
    """in words"""
    since: float
    """Unix seconds"""


class Storage:
    """The stores of one state directory that cannot be written now."""

    def __init__(self, now: Callable[[], float] = seconds) -> None:
        self._now = now
        self._faults: dict[str, StoreFault] = {}

    @property
    def faults(self) -> Mapping[str, StoreFault]:
        """By store."""
        return dict(self._faults)

    def failed(self, store: str, reason: str) -> None:
        """A store cannot be written; logged where that or its reason is new."""
        known = self._faults.get(store)
        if known is None or known.reason != reason:
            log.error(
                "%s cannot be written: %s", store, reason,
                extra=fields(LogEvent.STORE_FAILED, store=store, uplink=_uplink_of(store)),
            )  # fmt: skip
        self._faults[store] = StoreFault(reason, known.since if known else self._now())

    def recovered(self, store: str) -> None:
        """A store was reopened, its log folded in, and a test commit has succeeded."""
        if self._faults.pop(store, None):
            log.warning(
                "%s can be written again", store,
                extra=fields(LogEvent.STORE_RECOVERED, store=store, uplink=_uplink_of(store)),
            )  # fmt: skip


def _uplink_of(store: str) -> str:
    """The uplink of a spool; empty where the store is another one."""
    return store.removeprefix(SPOOL) if store.startswith(SPOOL) else ""


def reason_of(error: BaseException, where: Path) -> str | None:
    """Why a store in this folder cannot be used now, in words; None: that is not why it failed.

    A full disk is no fault.
    """
    code = getattr(error, "sqlite_errorcode", None)
    number = error.errno if isinstance(error, OSError) else None
    primary = code & 0xFF if code is not None else None
    if number == errno.EROFS or primary == sqlite3.SQLITE_READONLY:
        return READ_ONLY
    if number in NOT_WELL or primary == sqlite3.SQLITE_IOERR:
        return READ_ONLY if is_read_only(where) else FAILING
    if primary == sqlite3.SQLITE_CANTOPEN and _room(where):  # a full disk has no room for a log
        return READ_ONLY if is_read_only(where) else FAILING
    return None


def probed(state: Path) -> str:
    """Write and sync a small file: why the disk takes nothing, in words; empty: it does, or it is
    full.
    """
    try:
        handle = os.open(state / "probe", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(handle, b"1", 0)
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        return reason_of(error, state) or ""
    return ""


def _room(where: Path) -> bool:
    try:
        return os.statvfs(where).f_bavail > 0
    except OSError:
        return True


def is_read_only(where: Path) -> bool:
    """Whether the file system says that it takes nothing, without being asked to write.

    One that has remounted itself after an error shows that, by the kernel's version, as `ro` or in
    its options alone.
    """
    try:
        if os.statvfs(where).f_flag & os.ST_RDONLY:
            return True
        device = where.stat().st_dev
        mounts = MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    number = f"{os.major(device)}:{os.minor(device)}"
    fields = [line.split() for line in mounts]
    return any(REMOUNTED in one[-1].split(",") for one in fields if one[2] == number)


def volatile(state: Path) -> Path:
    """The folder, on tmpfs, for what must survive kill -9 and need not survive a reboot.

    It may not be there yet: `made` makes it.
    """
    state = Path(os.path.realpath(state))
    if state == PACKAGED:
        return RUN
    name = hashlib.sha256(os.fsencode(state)).hexdigest()[:16]
    with contextlib.suppress(OSError):
        if RUN.stat().st_uid == os.geteuid():  # the packaged service, with another `state:`
            return RUN / name
    return SHARED_MEMORY / f"gardien-{os.geteuid()}-{name}"


def made(folder: Path) -> Path:
    """Make a volatile folder where it is missing. Raises Refused where it is not ours alone."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise Refused(f"{folder} is not a folder of this account alone (mode 0700): remove it")
    return folder

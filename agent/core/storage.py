"""Failing storage: which stores cannot be written, since when and why.

A store is a file of the state directory that is written independently: the journal of the controls,
a spool, the registry. A fault is a state of its store and ends no process. Also the volatile
folder, which survives kill -9 but no reboot.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.core.atomic_write import SILENT
from agent.core.clock import seconds
from agent.core.errors import Refused
from agent.core.i18n import Text
from agent.core.log_fields import LogEvent, fields
from agent.core.state import PACKAGED
from agent.core.tasks import Change

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

log = logging.getLogger(__name__)

HOLDS_END_AFTER = 60.0
"""seconds after which a storage call that has not returned ends all holds. A flash card may be busy
with its own housekeeping for half a minute, which must end none"""
PROBED_EVERY = 60.0
"""seconds between two test commits during a hold or while a store has failed"""

SPOOL = Text("the spool of ")
"""name of a recipient's store, before the name of the uplink"""
READ_ONLY, FAILING = Text("the disk is read-only"), Text("the disk reports errors")
ERRNOS: dict[str, str] = {READ_ONLY: "EROFS", FAILING: "EIO", SILENT: "silent"}
"""the reasons of faults, as the log's field DETAIL has them"""
NOT_WELL = {errno.EIO, errno.ENXIO, errno.ENODEV, errno.EUCLEAN, errno.ESHUTDOWN}
RUN = Path("/run/gardien")
"""created by the package, for the state PACKAGED"""
MOUNTS, REMOUNTED = Path("/proc/self/mountinfo"), "emergency_ro"
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 -- a folder of our own in it, and its owner is checked


@dataclass(frozen=True, slots=True)
class StoreFault:
    """One store that cannot be written."""

    reason: str
    """for people"""
    since: float
    """Unix seconds"""


class Storage:
    """The stores of one state directory that cannot be written now."""

    def __init__(self, now: Callable[[], float] = seconds) -> None:
        self._now = now
        self._faults: dict[str, StoreFault] = {}
        self.changed = Change()
        """a fault has begun or ended"""

    @property
    def faults(self) -> Mapping[str, StoreFault]:
        """By store."""
        return dict(self._faults)

    def failed(self, store: str, reason: str) -> None:
        """Note that a store cannot be written. Log it if the fault or its reason is new."""
        known = self._faults.get(store)
        if known is None or known.reason != reason:
            log.error(
                "%s cannot be written: %s", store, reason,
                extra=fields(
                    LogEvent.STORE_FAILED, store=store, uplink=_uplink_of(store),
                    detail=ERRNOS.get(reason, ""),
                ),
            )  # fmt: skip
        self._faults[store] = StoreFault(reason, known.since if known else self._now())
        if known is None:
            self.changed.tell()

    def recovered(self, store: str) -> None:
        """Note that a store was opened again and a test commit has succeeded."""
        if self._faults.pop(store, None):
            self.changed.tell()
            log.warning(
                "%s can be written again", store,
                extra=fields(LogEvent.STORE_RECOVERED, store=store, uplink=_uplink_of(store)),
            )  # fmt: skip


def _uplink_of(store: str) -> str:
    """Return the uplink of a spool; empty for any other store."""
    return store.removeprefix(SPOOL) if store.startswith(SPOOL) else ""


def reason_of(error: BaseException, where: Path) -> str | None:
    """Return why a store in this folder cannot be used; None if the error has another cause.

    A full disk is not a fault.
    """
    import sqlite3  # noqa: PLC0415 -- the web page has no database

    code = getattr(error, "sqlite_errorcode", None)
    number = error.errno if isinstance(error, OSError) else None
    primary = code & 0xFF if code is not None else None  # SQLite's extended codes contain it
    if number == errno.EROFS or primary == sqlite3.SQLITE_READONLY:
        return READ_ONLY
    if number in NOT_WELL or primary == sqlite3.SQLITE_IOERR:
        return READ_ONLY if is_read_only(where) else FAILING
    # SQLite also reports CANTOPEN on a full disk, where it cannot create its log.
    if primary == sqlite3.SQLITE_CANTOPEN and _room(where):
        return READ_ONLY if is_read_only(where) else FAILING
    return None


def is_damage(error: BaseException) -> bool:
    """Whether an error of SQLite says that the content of its file is wrong.

    SQLITE_IOERR_READ does not: a disk that cannot read says nothing about the file, and setting the
    file aside would lose what is in it (rule A1).
    """
    import sqlite3  # noqa: PLC0415 -- the web page has no database

    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)
    damage = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
    return code & 0xFF in damage or code == sqlite3.SQLITE_IOERR_SHORT_READ


@contextlib.contextmanager
def disk_stated(state: Path) -> Iterator[None]:
    """Raise Refused with the disk as its reason where an error, or a Refused that follows from it,
    is one of the disk: who is told that a file is damaged looks for a copy of it (rule A1).
    """
    try:
        yield
    except Exception as error:
        causes = filter(None, (error, error.__cause__))
        reason = next(filter(None, (reason_of(cause, state) for cause in causes)), None)
        if reason is None:
            raise
        raise Refused(
            "{state} cannot be opened: {reason}. If this persists, replace the disk or card:"
            " docs/replace.md",
            state=state,
            reason=reason,
        ) from error


def probed(state: Path) -> str:
    """Write and sync a small file. Return why that fails; empty if it works or the disk is full."""
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
    """Whether a file system is read-only, found out without writing.

    After an error a file system remounts itself. Some kernels show that as `ro`, others only in its
    options.
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
    """Return the folder on tmpfs for files that must survive kill -9 but not a reboot.

    It may not exist yet: `made` creates it.
    """
    state = Path(os.path.realpath(state))
    if state == PACKAGED:
        return RUN
    name = hashlib.sha256(os.fsencode(state)).hexdigest()[:16]
    with contextlib.suppress(OSError):
        if RUN.stat().st_uid == os.geteuid():  # the packaged service with another `state:`
            return RUN / name
    return SHARED_MEMORY / f"gardien-{os.geteuid()}-{name}"


def made(folder: Path) -> Path:
    """Create a volatile folder if it is missing. Raises Refused if others can use it.

    Anybody may create a folder in shared memory: one of another account must not be trusted.
    """
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise Refused(
            "{folder} is not a folder of this account alone (mode 0700), so it is not used:"
            " remove it",
            folder=folder,
        )
    return folder

"""The state directory: its lock, which one process holds, and the socket to reach that process."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import math
import os
import pwd
import re
import signal
import socket
import time
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from agent.core.atomic_write import DiskWriter, Reserve
from agent.core.errors import Refused
from agent.core.i18n import N_, Text
from agent.core.log_fields import LogEvent, fields

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEFAULT_CONFIG = Path("/etc/gardien/config.yaml")
PACKAGED, PACKAGED_DOOR = Path("/var/lib/gardien"), "/run/gardien.sock"
"""the state of the packaged daemon, and the socket that systemd holds open for it"""
MARKS, JUDGED = Path("/var/lib/gardien-upgrade"), "upgrade"
"""root's folder, and the file that gardien-upgrade keeps in it while a new version is on trial"""
HANDED_OVER = 3
"""the first file descriptor that a service manager passes (sd_listen_fds(3))"""
AGENT, SCAN = "gardien run", "gardien scan"
PATIENCE = 30.0
"""seconds that a starting agent waits for a command that holds the lock"""
SHORTLY = 5.0
"""seconds that a command waits for another; one that has run longer is not expected to end soon"""
LONGEST_NAME = 100
"""most characters of a command or account that are shown"""
MINUTES_FROM = 120
"""seconds from which a duration is shown in minutes, and minutes from which it is in hours"""

CLOSED = N_(
    "this account may not open {path}, so it cannot reach an agent there. Use root (sudo), or start"
    " the service, which accounts with a role reach at {door} (docs/install.md): sudo systemctl"
    " start gardien"
)

log = logging.getLogger(__name__)


def on_trial(state: Path, marks: Path = MARKS) -> bool:
    """Whether this version is on trial after an upgrade.

    The previous version must then be able to read all files, so formats change only afterwards.
    gardien-upgrade up to version 0.1.0 keeps its mark in the state directory; a plain file there
    still counts, for one release.
    """
    old = state / JUDGED
    return (marks / JUDGED).exists() or (old.is_file() and not old.is_symlink())


class Owner(NamedTuple):
    """The process that holds the lock of a state directory, as it describes itself in the file."""

    pid: int
    command: str
    """as people type it; AGENT for the agent"""
    by: str
    """the account that started it"""
    since: float
    """seconds since 1970 UTC"""

    def __str__(self) -> str:
        name = Text("the agent") if self.command == AGENT else f"`{self.command}`"
        return Text(
            "{name} (process {pid}, started by {by} {ago} ago)",
            name=name,
            pid=str(self.pid),
            by=self.by,
            ago=_ago(self.since),
        )


@contextmanager
def owned(state: Path, command: str, patience: float = SHORTLY) -> Iterator[Callable[[], bool]]:
    """Hold the lock of the state directory, which is created (mode 0700) if it is missing.

    Gives a function that tells whether the lock is still ours: it is not once somebody has removed
    its file. The lock is a flock of the kernel, so a killed owner leaves none behind. Raises
    Refused, naming the owner: at once if that is the agent or a command that takes long, else after
    `patience` seconds. An agent waits for any command. Root acts as the owner of the directory
    meanwhile; else the daemon could not read the files that root writes.
    """
    by = os.environ.get("SUDO_USER") or _account(os.getuid())
    owner = Owner(os.getpid(), command, by, time.time())
    with _as_its_account(state), _locked(state, owner, patience) as holds:
        yield holds


@contextmanager
def owned_unwritten(state: Path, command: str, patience: float) -> Iterator[None]:
    """Hold the lock without writing to the disk, which may be read-only, failing or frozen.

    A killed owner that cannot end because the disk blocks it does nothing more, so its lock is
    ignored. If the lock file cannot be opened, no agent can start there, and no lock is taken.
    Raises Refused, naming the owner.
    """
    with _as_its_account(state):
        try:
            handle = os.open(state / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            yield
            return
        try:
            try:
                _wait_for(handle, state, command, patience)
            except Refused:
                owner = _owner(handle)
                if owner is None or not dying(owner.pid):
                    raise
            yield
        finally:
            os.close(handle)


def dying(pid: int) -> bool:
    """Whether a process was killed and executes nothing more of its program."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except (OSError, IndexError):
        return False
    waiting = re.findall(r"^(?:SigPnd|ShdPnd):\s*([0-9a-f]+)$", status, re.MULTILINE)
    kill = 1 << (signal.SIGKILL - 1)
    return state in {b"Z", b"X"} or any(int(mask, 16) & kill for mask in waiting)


@contextmanager
def _as_its_account(state: Path) -> Iterator[None]:
    account = 0
    if not os.geteuid():
        with suppress(OSError):  # it does not exist yet, or the disk fails
            account = state.stat().st_uid
    with acting_as(pwd.getpwuid(account) if account else None):
        yield


@contextmanager
def acting_as(account: pwd.struct_passwd | None) -> Iterator[None]:
    """Act as another account, with its groups, inside the block. Only root can. None: no change."""
    if account is None:
        yield
        return
    group, groups = os.getegid(), os.getgroups()
    os.initgroups(account.pw_name, account.pw_gid)
    os.setegid(account.pw_gid)
    os.seteuid(account.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


@contextmanager
def _locked(state: Path, owner: Owner, patience: float) -> Iterator[Callable[[], bool]]:
    try:
        # a disk that is frozen holds up whoever would create something, even what is there
        if not state.is_dir():
            state.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = _open_lock(state / "lock")
    except OSError as error:
        raise Refused(
            "{state} cannot be used: {reason}. Check `state:` in the configuration and the"
            " rights of this account",
            state=state,
            reason=error,
        ) from error
    try:
        _wait_for(handle, state, owner.command, patience)
        with suppress(OSError):  # a disk that fails or is full: the lock holds all the same
            DiskWriter.make(partial(_describe, handle, state, json.dumps(owner).encode()))
        try:
            yield partial(_holds, handle, state)
        finally:
            with suppress(OSError):
                DiskWriter.make(partial(_describe, handle, state))
    finally:
        os.close(handle)


def _describe(handle: int, state: Path, content: bytes = b"") -> None:
    """Write who holds the lock into its file. Raises OSError."""
    handle = os.dup(handle)  # ours may be closed before a disk that hangs has answered
    try:
        os.truncate(handle, 0)
        Reserve(state).for_(lambda: os.pwrite(handle, content, 0))
    finally:
        os.close(handle)


def _open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in {errno.EROFS, errno.EIO}:
            raise
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _holds(handle: int, state: Path) -> bool:
    """Whether the locked file is still the one that others would lock."""
    try:
        return os.path.samestat(os.fstat(handle), (state / "lock").stat())
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # a failing disk does not mean that the lock is lost


def _wait_for(handle: int, state: Path, command: str, patience: float) -> None:
    # flock has no timeout, so try again until the deadline.
    deadline, warned = time.monotonic() + patience, False
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = _owner(handle)
            if time.monotonic() > deadline or (other and _no_use_to_wait(command, other)):
                raise Refused(_in_use(state, command, other)) from None
            if command == AGENT and other and not warned:
                log.warning(
                    "%s is in use by %s: waiting %.0f s for it", state, other, patience,
                    extra=fields(LogEvent.STATE_BUSY),
                )  # fmt: skip
                warned = True
            time.sleep(0.05)
        else:
            return


def _owner(handle: int) -> Owner | None:
    """Return the owner of a lock; None if the file does not name a living process."""
    try:
        pid, command, by, since = json.loads(os.pread(handle, 4_096, 0))
        owner = Owner(int(pid), _plain(str(command)), _plain(str(by)), float(since))
        # The account can write anything into the file: never point people at a process like init.
        if owner.pid <= 1 or not math.isfinite(owner.since):
            return None
        os.kill(owner.pid, 0)
    except PermissionError:  # the process exists and belongs to another account
        return owner
    except (ValueError, TypeError, OverflowError, OSError):
        return None  # not readable, or the owner was killed
    return owner


def _plain(text: str) -> str:
    """Return a short text that is safe for a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)[:LONGEST_NAME]


def _no_use_to_wait(command: str, other: Owner) -> bool:
    """Whether the lock will not be free soon."""
    if AGENT in {command, other.command}:
        return other.command == AGENT
    return other.command.startswith(SCAN) or time.time() - other.since > SHORTLY


def _in_use(state: Path, command: str, other: Owner | None) -> str:
    """Say who holds the state, and what to do."""
    if other is None:
        return Text("{state} is in use by another process: try again in a moment", state=state)
    if other.command != AGENT:
        how = (
            Text(": sudo kill {pid}", pid=str(other.pid))
            if _runs_gardien(other.pid)
            else Text(" where it was started")
        )
        remedy = Text("wait for its end, or end it{how}", how=how)
    elif command == AGENT:
        remedy = Text(
            "nothing was started. To see its state: gardien status. To restart it: sudo systemctl"
            " restart gardien"
        )
    elif _agent_answers(state):
        remedy = Text("nothing was done; stop it first: sudo systemctl stop gardien")
    else:
        remedy = Text("it is starting or ending: try again in a moment")
    return Text("{state} is in use by {other}: {remedy}", state=state, other=other, remedy=remedy)


def _runs_gardien(pid: int) -> bool:
    """Whether a process runs gardien. People are never told to kill any other process."""
    try:
        return b"gardien" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _agent_answers(state: Path) -> bool:
    try:
        return daemon_answers(state)
    except Refused:  # its socket is closed to this account
        return True


def _ago(since: float) -> str:
    seconds = max(0, round(time.time() - since))
    if seconds < MINUTES_FROM:
        return f"{seconds} s"
    minutes = seconds // 60
    return (
        Text("{minutes} min", minutes=minutes) if minutes < MINUTES_FROM else f"{minutes // 60} h"
    )


def _account(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@contextmanager
def short_path(state: Path) -> Iterator[str]:
    """Give a path to the socket that fits the kernel's limit of 108 bytes for any state."""
    folder = os.open(state, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/gardien.sock"
    finally:
        os.close(folder)


def connect(state: Path) -> socket.socket | None:
    """Connect to the daemon that owns the state; None if none answers. Raises Refused."""
    if state == PACKAGED and (door := _knock(PACKAGED_DOOR, PACKAGED_DOOR)):
        return door
    try:
        with short_path(state) as path:
            return _knock(path, state)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise _not_for_you(state) from error


def _knock(path: str, what: Path | str) -> socket.socket | None:
    """Connect; None if nobody listens. Raises Refused, naming `what`, without permission."""
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        door.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        door.close()
        return None
    except PermissionError as error:
        door.close()
        raise _not_for_you(what) from error
    return door


def _not_for_you(what: Path | str) -> Refused:
    return Refused(CLOSED, path=str(what), door=PACKAGED_DOOR)


def daemon_answers(state: Path) -> bool:
    """Whether a daemon serves this state. Raises Refused without permission."""
    door = connect(state)
    if door is not None:
        door.close()
    return door is not None


def listening(state: Path) -> socket.socket:
    """Return the socket on which the daemon listens. Only the owner of the state may call this.

    If systemd passes one (gardien.socket, whose group may differ from ours), it is used, and the
    name in the state directory is a link to it. Raises OSError.
    """
    with suppress(OSError):
        (state / "gardien.sock").unlink(missing_ok=True)
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS") == "1":
        os.set_inheritable(HANDED_OVER, False)
        # Use a copy: if it is closed after an error, the next attempt still has the original.
        door = socket.socket(fileno=os.dup(HANDED_OVER))
        with suppress(OSError):  # on a failing disk; commands of the package know the socket's path
            (state / "gardien.sock").symlink_to(door.getsockname())
        return door
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with short_path(state) as path:
        before = os.umask(0o177)  # the socket must never exist with wider rights, even briefly
        try:
            door.bind(path)
        finally:
            os.umask(before)
    door.listen()
    return door

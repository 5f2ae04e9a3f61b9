"""The state directory: one owner at a time, and the socket by which others reach that owner."""

from __future__ import annotations

import fcntl
import os
import pwd
import socket
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_CONFIG = Path("/etc/gardien/config.yaml")
PACKAGED, PACKAGED_DOOR = Path("/var/lib/gardien"), "/run/gardien.sock"
"""the state of the packaged daemon, and the socket that systemd holds open for it"""
MARKS, JUDGED = Path("/var/lib/gardien-upgrade"), "upgrade"
"""root's folder, and the file that gardien-upgrade keeps there while it judges a new version"""
HANDED_OVER = 3
"""the first descriptor that a service manager hands over (sd_listen_fds(3))"""
PATIENCE = 30.0
"""seconds that a starting daemon waits for a command that holds the lock"""


def judged(state: Path, marks: Path = MARKS) -> bool:
    """Whether this version is under judgement: what it keeps must be readable for the one before.

    The formats of what is kept change only afterwards. gardien-upgrade up to version 0.1.0 has its
    mark in the state directory; a plain file there still counts, for one release.
    """
    old = state / JUDGED
    return (marks / JUDGED).exists() or (old.is_file() and not old.is_symlink())


@contextmanager
def owned(state: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Be the only owner of the state directory; it is made (mode 0700) where it is missing.

    The lock is the kernel's (flock), so an owner that was killed leaves none behind. Raises
    Refused at once where a daemon owns it, else after `patience` seconds. Root acts as the account
    that owns the directory meanwhile, or the daemon could not read what root has written.
    """
    with _as_its_account(state), _locked(state, patience):
        yield


@contextmanager
def _as_its_account(state: Path) -> Iterator[None]:
    account = state.stat().st_uid if not os.geteuid() and state.exists() else 0
    with acting_as(pwd.getpwuid(account) if account else None):
        yield


@contextmanager
def acting_as(account: pwd.struct_passwd | None) -> Iterator[None]:
    """Be another account for a while, with its groups; only root can. None: stay as it is."""
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
def _locked(state: Path, patience: float) -> Iterator[None]:
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Refused(
            f"{state}: {error.strerror}: is `state:` right, and are you allowed?"
        ) from error
    try:
        _wait_for(handle, state, patience)
        os.truncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


def _wait_for(handle: int, state: Path, patience: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(handle, 32, 0).decode(errors="replace").strip() or "unknown"
            if daemon_answers(state) or time.monotonic() > deadline:
                raise Refused(f"{state} is in use by process {owner}") from None
            time.sleep(0.05)
        else:
            return


@contextmanager
def short_path(state: Path) -> Iterator[str]:
    """The socket's path, short enough for the kernel (108 bytes) however deep the state lies."""
    folder = os.open(state, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/gardien.sock"
    finally:
        os.close(folder)


def connect(state: Path) -> socket.socket | None:
    """A connection to the daemon that owns the state, or None where none answers."""
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
    """Connect. Raises Refused, naming `what`, where that is not for this account."""
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
    return Refused(
        f"{what} is not for this account: become root (sudo), or a member of the group"
        " gardien-admin (`sudo adduser NAME gardien-admin`, then log in anew)"
    )


def daemon_answers(state: Path) -> bool:
    """Whether a daemon listens on this state."""
    door = connect(state)
    if door is not None:
        door.close()
    return door is not None


def listening(state: Path) -> socket.socket:
    """A socket for the daemon to listen on; only the owner of the state may call this.

    Where systemd holds one open (gardien.socket, whose group may differ from ours), that one; the
    name in the state directory then leads to it.
    """
    (state / "gardien.sock").unlink(missing_ok=True)
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS") == "1":
        door = socket.socket(fileno=HANDED_OVER)
        door.set_inheritable(False)
        (state / "gardien.sock").symlink_to(door.getsockname())
        return door
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with short_path(state) as path:
        before = os.umask(0o177)
        try:
            door.bind(path)
        finally:
            os.umask(before)
    door.listen()
    return door

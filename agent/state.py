"""The state directory: one owner at a time, and the socket by which others reach that owner."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agent.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE = 30.0
"""seconds that a starting daemon waits for a command that holds the lock"""


@contextmanager
def owned(state: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Be the only owner of the state directory; it is made (mode 0700) where it is missing.

    The lock is the kernel's (flock), so an owner that was killed leaves none behind. Raises
    Refused at once where a daemon owns it, else after `patience` seconds.
    """
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Refused(f"{state}: {error.strerror}: is `state:` right, and are you allowed?") from error
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
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_path(state) as path:
            door.connect(path)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        door.close()
        return None
    except PermissionError as error:
        door.close()
        raise Refused(f"{state}: the daemon's socket is not for this account") from error
    return door


def daemon_answers(state: Path) -> bool:
    """Whether a daemon listens on this state."""
    door = connect(state)
    if door is not None:
        door.close()
    return door is not None


def listening(state: Path) -> socket.socket:
    """A socket for the daemon to listen on; only the owner of the state may call this."""
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with short_path(state) as path:
        (state / "gardien.sock").unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            door.bind(path)
        finally:
            os.umask(before)
    door.listen()
    return door

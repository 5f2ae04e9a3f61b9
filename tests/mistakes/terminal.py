"""A command of gardien in a terminal of 80 columns, each in a process of its own.

The process is forked from this one, which has imported everything: a command then starts in
milliseconds instead of half a second. So this process has no threads and runs no event loop.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import pty
import pwd
import re
import select
import signal
import struct
import sys
import termios
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

COLUMNS, LINES = 80, 200
WITHIN = 90.0
"""seconds after which a command that has not ended is ended"""
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07|\r")
END_OF_INPUT = b"\x04"


@dataclass(frozen=True)
class Seen:
    """What a command has printed, and how it ended."""

    text: str
    status: int


def typed(
    words: Sequence[str],
    folder: Path,
    env: Mapping[str, str],
    answers: Sequence[str] = (),
    account: str = "",
) -> Seen:
    """Run `gardien WORDS…` in a terminal, with `answers` already typed, and wait for its end."""
    pid, terminal = pty.fork()
    if pid == 0:
        _act(lambda: _in_terminal(words, folder, env, account))
    with suppress(OSError):
        text = _read(pid, terminal, answers)
    os.close(terminal)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    plain = ESCAPES.sub("", text.decode("utf-8", "replace"))
    return Seen("\n".join(line.rstrip() for line in plain.splitlines()).strip("\n"), status)


def forked(action: Callable[[], None], log: Path) -> int:
    """Run an action in a process of its own, whose output goes to `log`. Returns its id."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:

        def begin() -> None:
            os.setsid()
            null = os.open(os.devnull, os.O_RDONLY)
            out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(null, 0)
            os.dup2(out, 1)
            os.dup2(out, 2)
            _streams()
            action()

        _act(begin)
    return pid


def ended(pid: int, how: signal.Signals = signal.SIGTERM, within: float = 20.0) -> None:
    """End a process of ours and wait for its end; kill it if it does not end."""
    with suppress(ProcessLookupError):
        os.kill(pid, how)
    deadline = time.monotonic() + within
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return
        time.sleep(0.02)


def gardien(words: Sequence[str]) -> None:
    """Do what the program `gardien` does with these arguments, in this process."""
    from agent.entry import main

    sys.argv = ["gardien", *words]
    sys.modules["__main__"].__package__ = ""  # else click shows how this program was started
    # typer translates some of its words when it is imported
    importlib.reload(sys.modules["typer.rich_utils"])
    main()


def _act(action: Callable[[], None]) -> None:
    """Run an action in a forked process, and end the process."""
    status = 0
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        action()
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:  # noqa: BLE001 -- as the interpreter does at its end
        traceback.print_exc()
        status = 1
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _in_terminal(words: Sequence[str], folder: Path, env: Mapping[str, str], account: str) -> None:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("4H", LINES, COLUMNS, 0, 0))
    _streams()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    if account:
        person = pwd.getpwnam(account)
        os.fchown(0, person.pw_uid, -1)
        os.initgroups(account, person.pw_gid)
        os.setgid(person.pw_gid)
        os.setuid(person.pw_uid)
    gardien(words)


def _streams() -> None:
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", buffering=1, encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", closefd=False)


def _read(pid: int, terminal: int, answers: Sequence[str]) -> bytes:
    # without echo, because the answers are typed before the questions are asked
    attributes = termios.tcgetattr(terminal)
    attributes[3] &= ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSANOW, attributes)
    os.write(terminal, b"".join(answer.encode() + b"\n" for answer in answers) + END_OF_INPUT * 3)
    text, deadline = b"", time.monotonic() + WITHIN
    while True:
        if not select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
            os.kill(pid, signal.SIGKILL)
            return text + f"\n[ended after {WITHIN:.0f} s]\n".encode()
        try:
            piece = os.read(terminal, 65_536)
        except OSError:  # EIO: the command has closed the terminal
            return text
        if not piece:
            return text
        text += piece

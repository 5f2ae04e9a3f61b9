"""Notifications to systemd (sd_notify(3)) and records for its journal (systemd.journal-fields(7)).

Both use systemd-python if it is installed; the Debian package depends on it. Otherwise a dozen
lines of our own send the notifications, and the log is text on stderr.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

from agent.core.log_fields import FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable

PRIORITIES = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}
"""priorities of syslog(3) by log level"""
IDENTIFIER = "gardien"
FORMAT = "%(levelname)s %(message)s"
"""with the level as a word, since a serial console and the support bundle show no priority"""


def notify(state: str) -> None:
    """Send one assignment, such as `READY=1`, to the service manager that started us, if any."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    try:
        from systemd import daemon  # noqa: PLC0415 -- it may not be installed
    except ImportError:
        _send(address, state)
    else:
        daemon.notify(state)


def _send(address: str, state: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.connect("\0" + address[1:] if address.startswith("@") else address)
        sock.sendall(state.encode())


def watchdog_period() -> float | None:
    """Return the seconds between two `WATCHDOG=1`, half of systemd's limit; None if it has none."""
    wanted = os.environ.get("WATCHDOG_USEC", "")
    ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(wanted) / 2_000_000 if wanted.isdigit() and ours else None


def stderr_is_journal() -> bool:
    """Whether stderr goes to the journal, which dates each line itself."""
    try:
        here = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):  # closed, or no file
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{here.st_dev}:{here.st_ino}"


def log_handler() -> logging.StreamHandler[Any]:
    """Return the handler for the daemon's log.

    It sends records with fields to the journal if stderr goes there and systemd-python is
    installed; else it writes text to stderr.
    """
    if stderr_is_journal():
        try:
            from systemd import journal  # noqa: PLC0415 -- 0.4 MB that no terminal needs
        except ImportError:
            pass
        else:
            return JournalHandler(journal.sendv)
    return logging.StreamHandler()


class JournalHandler(logging.StreamHandler[Any]):
    """Sends each record to the journal with its fields.

    The library's own handler would add the arguments of the message (`CODE_ARGS`). These may name
    dwellings, and everybody who can read the journal can list all values of a field.
    """

    def __init__(self, send: Callable[..., object]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record; if the journal refuses it, write it to stderr as text."""
        try:
            self._send(*entry(record, self.format(record)))
        except (OSError, ValueError):  # ValueError: text from a far side may have a zero byte
            super().emit(record)


def entry(record: logging.LogRecord, text: str) -> list[str]:
    """Return the fields of one record as NAME=value. `text`: the message, with any traceback."""
    values = {
        "MESSAGE": text,
        "PRIORITY": PRIORITIES.get(record.levelno, PRIORITIES[logging.INFO]),
        "SYSLOG_IDENTIFIER": IDENTIFIER,
        "LOGGER": record.name,
        "CODE_FILE": record.pathname,
        "CODE_LINE": record.lineno,
        "CODE_FUNC": record.funcName,
    }
    carried = record.__dict__
    values |= {name: carried[name] for name in FIELDS if name in carried}
    return [f"{name}={value}" for name, value in values.items()]

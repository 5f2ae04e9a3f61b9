"""What systemd is told (sd_notify(3)) and what its journal gets (systemd.journal-fields(7)).

Both use systemd-python where it is installed, as the Debian package has it. Where it is not, a
dozen lines of our own notify, and the log is text on stderr.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

from agent.log_fields import FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable

PRIORITIES = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}
"""syslog(3) has these numbers, `journalctl -p` has names for them"""
IDENTIFIER = "gardien"
FORMAT = "%(levelname)s %(message)s"
"""the level also as a word: a serial console and the support bundle show no priority"""


def notify(state: str) -> None:
    """Send one assignment, such as `READY=1`, to the service manager that started us, if any."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    try:
        from systemd import daemon  # noqa: PLC0415 -- nobody else needs it
    except ImportError:
        _send(address, state)
    else:
        daemon.notify(state)


def _send(address: str, state: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.connect("\0" + address[1:] if address.startswith("@") else address)
        sock.sendall(state.encode())


def watchdog_period() -> float | None:
    """Seconds between two `WATCHDOG=1`, half of what systemd asks for; None where it does not."""
    wanted = os.environ.get("WATCHDOG_USEC", "")
    ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(wanted) / 2_000_000 if wanted.isdigit() and ours else None


def stderr_is_journal() -> bool:
    """Whether stderr leads to the journal: then systemd dates each line itself."""
    try:
        here = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):  # closed, or no file
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{here.st_dev}:{here.st_ino}"


def log_handler() -> logging.StreamHandler[Any]:
    """The handler for the daemon's log: to the journal with fields where stderr leads there and
    systemd-python is installed, else text on stderr.
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

    The library's own handler would add the arguments of the message (`CODE_ARGS`): those may name
    dwellings, and a field is values by whoever searches for its value.
    """

    def __init__(self, send: Callable[..., object]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record; one that the journal does not take goes to stderr as text."""
        try:
            self._send(*entry(record, self.format(record)))
        except (OSError, ValueError):  # ValueError: a far side's text with a zero byte in it
            super().emit(record)


def entry(record: logging.LogRecord, text: str) -> list[str]:
    """What the journal gets of one record, as NAME=value; `text` has several lines where there is
    a traceback.
    """
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

"""What systemd is told, and what its journal gets of a log record."""

import logging
import os
import socket
import sys
from contextlib import contextmanager

import pytest

from agent.core.log_fields import LogEvent, fields
from agent.core.systemd import (
    FORMAT,
    JournalHandler,
    log_handler,
    notify,
    stderr_is_journal,
    watchdog_period,
)


@contextmanager
def logging_to(handler):
    log = logging.getLogger("agent.tried")
    log.propagate, log.level = False, logging.INFO
    handler.setFormatter(logging.Formatter(FORMAT))
    log.addHandler(handler)
    try:
        yield log
    finally:
        log.removeHandler(handler)


def sent(call):
    """The entries that a call with a log sends to the journal, each as fields by name."""
    entries = []
    with logging_to(JournalHandler(lambda *lines: entries.append(lines))) as log:
        call(log)
    return [dict(line.split("=", 1) for line in lines) for lines in entries]


def test_an_entry_has_the_text_the_priority_and_the_fields():
    about = fields(LogEvent.DEVICE_SILENT, device="sdm-11", line="riser")
    (entry,) = sent(lambda log: log.warning("%s is silent", "sdm-11", extra=about))
    assert entry.pop("CODE_FILE") == __file__
    assert int(entry.pop("CODE_LINE")) > 0
    assert entry.pop("CODE_FUNC") == "<lambda>"
    assert entry == {
        "MESSAGE": "WARNING sdm-11 is silent",
        "MESSAGE_ID": LogEvent.DEVICE_SILENT.value,
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "gardien",
        "LOGGER": "agent.tried",
        "DEVICE": "sdm-11",
        "LINE": "riser",
    }


def test_what_a_message_was_made_of_is_no_field_for_it_may_name_a_dwelling():
    (entry,) = sent(lambda log: log.error("%s saw %s", "Marie", "A-3-12"))
    assert [name for name, value in entry.items() if "A-3-12" in value] == ["MESSAGE"]


def test_a_traceback_is_part_of_its_entry():
    def fail(log):
        try:
            raise ValueError("odd")
        except ValueError:
            log.exception("a call failed")

    (entry,) = sent(fail)
    assert entry["PRIORITY"] == "3"
    assert entry["MESSAGE"].startswith("ERROR a call failed\nTraceback")
    assert entry["MESSAGE"].endswith("ValueError: odd")


@pytest.mark.parametrize("error", [OSError("no such socket"), ValueError("embedded null byte")])
def test_what_the_journal_does_not_take_goes_to_stderr(capsys, error):
    def refuse(*_):
        raise error

    with logging_to(JournalHandler(refuse)) as log:
        log.warning("line riser lost", extra=fields(LogEvent.LINE_LOST, line="riser"))
    assert capsys.readouterr().err == "WARNING line riser lost\n"


def test_a_terminal_gets_text_though_systemd_started_the_session(monkeypatch):
    monkeypatch.setenv("JOURNAL_STREAM", "9:5440577")  # inherited; stderr is something else
    assert not stderr_is_journal()
    assert not isinstance(log_handler(), JournalHandler)


def test_stderr_is_the_journal_where_systemd_says_so_of_this_very_file(monkeypatch, tmp_path):
    with (tmp_path / "stream").open("w") as stream:
        here = os.fstat(stream.fileno())
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("JOURNAL_STREAM", f"{here.st_dev}:{here.st_ino}")
        assert stderr_is_journal()
        monkeypatch.setitem(sys.modules, "systemd", None)  # not installed
        assert not isinstance(log_handler(), JournalHandler)


@contextmanager
def manager(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        listener.settimeout(5)
        yield listener


@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize("abstract", [True, False])
def test_the_service_manager_is_told_with_and_without_the_library(
    monkeypatch, open_folder, installed, abstract
):
    if installed:
        pytest.importorskip("systemd.daemon")
    else:
        monkeypatch.setitem(sys.modules, "systemd", None)
    address = f"@gardien-{os.getpid()}" if abstract else str(open_folder / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with manager(address.replace("@", "\0")) as listener:
        notify("READY=1")
        assert listener.recv(64) == b"READY=1"


def test_nobody_is_told_where_nobody_listens(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")


@pytest.mark.parametrize(
    ("asked", "pid", "period"),
    [("40000", None, 0.02), ("40000", "1", None), ("", None, None), ("soon", None, None)],
)
def test_the_watchdog_is_fed_twice_as_often_as_it_asks(monkeypatch, asked, pid, period):
    monkeypatch.setenv("WATCHDOG_USEC", asked)
    monkeypatch.setenv("WATCHDOG_PID", pid or str(os.getpid()))
    assert watchdog_period() == period

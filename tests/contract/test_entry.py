"""The daemon starts past the command line, and everything else through it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agent.entry import daemon_alone

ASKED = {
    ("run",): "/etc/gardien/config.yaml",
    ("run", "--config", "a.yaml"): "a.yaml",
    ("run", "-c", "a.yaml"): "a.yaml",
    ("run", "--config=a.yaml"): "a.yaml",
    ("run", "--help"): None,
    ("run", "-c", "--help"): None,
    ("run", "-c"): None,
    ("run", "-c", "a", "b"): None,
    ("check",): None,
    (): None,
}


@pytest.mark.parametrize("words", ASKED)
def test_only_a_plain_run_is_the_daemon_alone(monkeypatch, words):
    monkeypatch.delenv("GARDIEN_CONFIG", raising=False)
    found = daemon_alone(words)
    assert (str(found) if found else None) == ASKED[words]


def test_the_environment_names_the_configuration_as_for_every_command(monkeypatch):
    monkeypatch.setenv("GARDIEN_CONFIG", "/elsewhere/config.yaml")
    assert daemon_alone(["run"]) == Path("/elsewhere/config.yaml")


def gardien(*words):
    return subprocess.run(
        (sys.executable, "-c", "from agent.entry import main; main()", *words),
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_both_ways_say_the_same_of_a_file_that_is_not_there(tmp_path):
    for words in (("run", "-c"), ("check", "-c")):
        done = gardien(*words, str(tmp_path / "none.yaml"))
        assert (done.returncode, done.stdout) == (1, "")
        assert "none.yaml: cannot be read" in done.stderr


def test_no_command_takes_another_state_for_a_file_that_is_not_there(tmp_path):
    for words in (("key", "new"), ("status",), ("doctor",), ("audit", "verify")):
        done = gardien(*words, "-c", str(tmp_path / "none.yaml"))
        assert done.returncode in {1, 2}
        assert "none.yaml" in done.stdout + done.stderr
        assert "/var/lib/gardien" not in done.stdout + done.stderr


def test_the_page_carries_no_database_no_parser_of_yaml_and_nothing_of_the_daemon():
    code = """
import sys
import agent.web.run
from agent.control.report import TEXTS
from agent.core.quantities import channels
from agent.registry.page import texts
channels(), texts(TEXTS, "fr")
unused = {"sqlite3", "pydantic", "cryptography", "ruamel.yaml", "typer", "agent.gateway.gateway"}
unused |= {"agent.api.calls", "agent.registry.index", "agent.registry.parsers"}
print(*sorted(unused & sys.modules.keys()))
"""
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_daemon_carries_nothing_of_the_command_line_nor_of_what_it_does_not_use():
    code = """
import sys
import agent.daemon
from agent.drivers import DRIVERS, driver
for word in DRIVERS: driver(word)
import agent.uplink.mqtt.transport
import agent.uplink.files.settings
import agent.uplink.https.settings
unused = {"typer", "rich", "click", "jinja2", "requests", "paramiko", "openpyxl"}
print(*sorted(unused & sys.modules.keys()))
"""
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=True)
    assert done.stdout.split() == []

"""The log of a daemon in a real systemd-journald, which runs beside it in namespaces of its own."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.core.log_fields import FIELDS, LogEvent
from tests.system.test_daemon import CONFIG

TOP = Path(__file__).parents[2]
JOURNALD = Path("/usr/lib/systemd/systemd-journald")
GARDIEN = Path(sys.executable).with_name("gardien")
SCRIPT = """
set -e
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib/systemd
mount -t tmpfs tmpfs /usr/lib/systemd/catalog
cp "$1"/packaging/*.catalog /usr/lib/systemd/catalog
mkdir -p /run/systemd/journald.conf.d /run/systemd/journal /run/log/journal
printf '[Journal]\\nStorage=volatile\\nReadKMsg=no\\nAudit=no\\n' \\
    >/run/systemd/journald.conf.d/here.conf
/usr/lib/systemd/systemd-journald &
until [ -S /run/systemd/journal/socket ] && [ -S /run/systemd/journal/stdout ]; do sleep 0.05; done
journalctl --update-catalog
systemd-cat --identifier=gardien "$2" run --config "$3" &
daemon=$!
tries=0
until journalctl -o cat | grep -q 'uplink centre lost' &&
    journalctl -o cat | grep -q 'line riser lost'; do
    tries=$((tries + 1))
    [ $tries -lt 300 ] || { journalctl -o cat >&2; exit 1; }
    sleep 0.1
done
kill $daemon
wait $daemon || true
journalctl --sync
journalctl -o json >"$4/entries"
journalctl -x -o short MESSAGE_ID="$5" >"$4/explained"
"""


def impossible():
    if os.geteuid():
        return "namespaces with a journal of their own need root"
    if not JOURNALD.exists():
        return f"there is no {JOURNALD} here"
    if subprocess.run(("unshare", "-mpf", "--mount-proc", "true"), capture_output=True).returncode:
        return "no namespaces here"
    return ""


def logged(folder, environment):
    """Run a daemon whose line and uplink cannot be opened; its entries, and one explained."""
    if reason := impossible():
        pytest.skip(reason)
    folder.mkdir()
    config = folder / "config.yaml"
    config.write_text(CONFIG.format(port=9, state=folder / "state"))
    subprocess.run((GARDIEN, "key", "new", "--config", config), check=True, capture_output=True)
    done = subprocess.run(
        ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
         "--propagation=private", "sh", "-c", SCRIPT, "sh",
         TOP, GARDIEN, config, folder, LogEvent.UPLINK_LOST),
        env=os.environ | environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    entries = [json.loads(line) for line in (folder / "entries").read_text().splitlines()]
    ours = [one for one in entries if one.get("SYSLOG_IDENTIFIER") == "gardien"]
    return ours, (folder / "explained").read_text()


@pytest.fixture(scope="module")
def with_library(tmp_path_factory):
    if importlib.util.find_spec("systemd") is None:
        pytest.skip("missing: apt-get install python3-systemd, then make setup")
    return logged(tmp_path_factory.mktemp("log") / "with", {})


@pytest.fixture(scope="module")
def without_library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("log")
    (folder / "first").mkdir()
    (folder / "first/systemd.py").write_text("raise ImportError('not installed')\n")
    return logged(folder / "without", {"PYTHONPATH": str(folder / "first")})


def only(entries, event):
    (entry,) = [one for one in entries if one.get("MESSAGE_ID") == event]
    return entry


def test_an_entry_says_in_fields_what_it_is_about(with_library):
    entries, _ = with_library
    uplink, line = only(entries, LogEvent.UPLINK_LOST), only(entries, LogEvent.LINE_LOST)
    assert (uplink["UPLINK"], uplink["RECIPIENT"]) == ("centre", "centre.example")
    assert "LINE" not in uplink
    assert line["LINE"] == "riser"
    assert {one["_TRANSPORT"] for one in (uplink, line)} == {"journal"}
    assert uplink["PRIORITY"] == "4"
    assert uplink["MESSAGE"].startswith("WARNING uplink centre lost, trying again")
    assert uplink["CODE_FILE"].endswith("agent/core/tasks.py")
    stopping = only(entries, LogEvent.STOPPING)
    assert stopping["PRIORITY"] == "6"


def test_the_catalog_explains_an_entry_with_its_own_names(with_library):
    _, explained = with_library
    assert "Subject: Uplink centre to centre.example is lost" in explained
    assert "readings are kept and sent later" in explained
    assert "file:///usr/share/doc/gardien/log.md" in explained


def test_without_the_library_the_same_text_goes_to_the_journal_as_lines(
    with_library, without_library
):
    entries, explained = without_library
    assert {one["_TRANSPORT"] for one in entries} == {"stdout"}
    assert not [one for one in entries if any(name in one for name in FIELDS)]
    assert "Subject:" not in explained
    messages = {one["MESSAGE"] for one in with_library[0] if "MESSAGE_ID" in one}
    assert messages <= {one["MESSAGE"] for one in entries}

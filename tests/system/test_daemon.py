"""The daemon and its door, as a person meets them: real processes, real sockets."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.waiting import wait_until

GARDIEN = Path(sys.executable).with_name("gardien")
CONFIG = """\
building: {{name: Test}}
links:
  riser: {{driver: modbus-tcp, host: 127.0.0.1, port: {port}, timeout: 2s}}
devices:
  m-1: {{link: riser, address: 1, profile: eastron-sdm120, every: 1s}}
uplinks:
  centre: {{recipient: centre.example, transport: mqtt, url: "mqtt://127.0.0.1:9"}}
privacy: {{policy: DEMO-1}}
clock: {{source: system}}
state: {state}
spool: {{flush: 1s}}
"""


class House:
    def __init__(self, folder, port):
        self.config, self.state = folder / "config.yaml", folder / "state"
        self.config.write_text(CONFIG.format(port=port, state=self.state))
        self.folder, self.daemons = folder, []

    def __call__(self, *words, status=0):
        done = subprocess.run(
            [GARDIEN, *words, "--config", self.config], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def start(self, **environment):
        log = (self.folder / "log").open("ab")
        daemon = subprocess.Popen(
            [GARDIEN, "run", "--config", self.config],
            stdout=log, stderr=log, env={**os.environ, **environment},
        )  # fmt: skip
        log.close()
        self.daemons.append(daemon)
        return daemon

    def up(self):
        daemon = self.start()
        wait_until((self.state / "gardien.sock").exists)
        return daemon


@pytest.fixture(scope="module")
def building():
    process = subprocess.Popen(
        [sys.executable, "-m", "hil.building", "--lines", "1", "--meters", "1"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    yield json.loads(process.stdout.readline())["lines"][0]
    process.terminate()
    process.wait()
    process.stdout.close()


@pytest.fixture
def house(tmp_path, building):
    house = House(tmp_path, building["port"])
    house("key", "new")
    yield house
    for daemon in house.daemons:
        daemon.kill()
        daemon.wait()


def test_ready_is_said_once_the_stores_are_open_with_no_device_and_no_broker(tmp_path, open_folder):
    house = House(tmp_path, 9)
    house("key", "new")
    address = str(open_folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.settimeout(60)
        daemon = house.start(NOTIFY_SOCKET=address)
        assert systemd.recv(100) == b"READY=1"
        daemon.send_signal(signal.SIGTERM)
        assert systemd.recv(100) == b"STOPPING=1"
        assert daemon.wait(60) == 0


def test_the_same_command_works_with_and_without_a_daemon(house, building):
    """Rule U10."""
    house("place", "new", "A-1")
    house("meter", "assign", "m-1", "A-1")
    alone = house("read", "m-1", "--json")
    house.up()
    answer = json.loads(house("read", "m-1", "--json"))
    assert answer["points"]["serial"]["value"] == building["meters"][0]["serial"]
    assert float(answer["points"]["energy_import"]["value"]) > 0
    assert alone.count("elec.imp") == 1
    assert "A-1" in house("place", "list")


def test_status_asks_the_daemon_and_needs_no_configuration(house):
    house("place", "new", "A-1")
    assert "gardien run" in house("status", status=1)
    house.up()
    assert "still uses the old one" not in house("check")
    house.config.write_text(house.config.read_text().replace("every: 1s", "every: 2s"))
    said = house("check")
    assert "is fine" in said
    assert "the agent still uses the old one" in said
    assert "Run: sudo gardien reload" in said
    # a wrong file in its place: status still finds the state and says how things are
    house.config.write_text(f"devices: {{nonsense\nstate: {house.state}\n")
    assert "uplink centre is not connected" in house("status", status=1)


def test_a_second_daemon_on_the_same_state_is_refused(house):
    """Rule G13."""
    first = house.up()
    began = time.monotonic()
    said = house("run", status=1)
    assert f"is in use by the agent (process {first.pid}, started by " in said
    assert "nothing was started" in said
    assert time.monotonic() - began < 25, "it does not wait for the lock"


def test_a_registry_older_than_a_spool_is_refused_by_every_start_and_command(house):
    """Guards rules G2, G3: what was withdrawn in the missing changes stays withdrawn. Rule K15."""
    house("place", "new", "A-1")
    older = {file: file.read_bytes() for file in house.state.glob("registry*")}
    house("place", "new", "A-2"), house("place", "new", "A-3")
    newer = {file: file.read_bytes() for file in house.state.glob("registry*")}
    house.up().terminate()
    assert house.daemons[0].wait(60) == 0
    for files, what in ((older, "ends at change 1"), ({}, "is missing")):
        for file in house.state.glob("registry*"):
            file.unlink()
        for file, content in files.items():
            file.write_bytes(content)
        said = house("run", status=1)
        assert what in said
        assert "spool-centre.example.db has applied change 3" in said
        assert "Put the newer registry.json back with its registry-*.log" in said
        assert "has applied change 3" in house("place", "new", "A-4", status=1)
    for file, content in newer.items():
        file.write_bytes(content)
    house.up()
    assert "A-3" in house("place", "list")


def test_a_daemon_that_waits_for_the_lock_ends_at_once_when_told_to(house):
    with (house.state / "lock").open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        daemon = house.start()
        waits = Path(f"/proc/{daemon.pid}/fd")
        wait_until(
            lambda: str(house.state / "lock") in {str(fd.resolve()) for fd in waits.iterdir()}
        )
        daemon.terminate()
        assert daemon.wait(10) == -signal.SIGTERM


def test_a_daemon_that_was_killed_leaves_nothing_behind_that_stops_the_next(house):
    """Rule G13."""
    house.up().kill()
    house.daemons[0].wait()
    assert "gardien run" in house("status", status=1)
    house.up()
    wait_until(lambda: '"gateway"' in house("status", "--json", status=1))


def test_an_assignment_made_while_running_is_bound_to_what_the_device_says(house, building):
    house("place", "new", "A-1")
    house.up()
    serial = building["meters"][0]["serial"]
    wait_until(lambda: serial in house("status", "--json", status=1))
    house("meter", "assign", "m-1", "A-1")
    (meter,) = json.loads(house("meter", "list", "--json"))["meters"]
    assert meter["serial"] == serial


def test_rows_wait_on_the_disk_when_the_daemon_is_told_to_end(house):
    house("place", "new", "A-1", "--since", "2026-01-01")
    house("meter", "assign", "m-1", "A-1")
    house(
        "consent", "give", "A-1", "--recipient", "centre.example", "--channel", "elec.imp",
        "--purpose", "advice", "--step", "1s",
    )  # fmt: skip
    daemon = house.up()

    def backlog():
        answer = json.loads(house("status", "--json", status=1))
        return answer["uplinks"]["centre"]["backlog"]["slots"]

    wait_until(lambda: backlog() >= 3)
    before = backlog()
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(60) == 0
    house.up()
    assert backlog() >= before


def test_what_is_wrong_is_said_in_one_sentence_and_nothing_is_done(house):
    """Rule U9."""
    assert 'did you mean "m-1"?' in house("read", "m-2", status=1)
    assert "has no point" in house("read", "m-1/power", status=1)
    assert "already has keys" in house("key", "new", status=1)
    assert "check characters" in house("place", "check", "D84G7ZWYRD6Z1GR", status=1)
    assert "no place is named" in house(
        "consent", "give", "--recipient", "x.example", "--channel", "elec.imp", "--purpose", "p",
        status=1,
    )  # fmt: skip
    assert house("place", "list").count("\n") < 5


def test_a_sheet_with_a_wrong_line_17_changes_nothing(house, tmp_path):
    sheet = tmp_path / "places.csv"
    lines = ["label;type", *(f"A-{n};dwelling" for n in range(1, 21))]
    lines[16] = "A-16;dweling"
    sheet.write_text("\n".join(lines))
    said = house("place", "import", str(sheet), status=1)
    assert f'{sheet}:17: type: "dweling"' in said
    assert '"places": []' in house("place", "list", "--json")


def test_a_word_that_is_no_command_is_used_wrongly():
    """Rule U9."""
    done = subprocess.run([GARDIEN, "raed"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "raed" in done.stderr


def test_a_visitor_who_speaks_nonsense_harms_nobody(house):
    house.up()
    from agent.core.state import connect

    for nonsense in (b"\n", b"{}\n", b'{"call": "status", "args": {"x": 1}}\n', b"\xff" * 100):
        with connect(house.state) as door:
            door.sendall(nonsense)
            door.shutdown(socket.SHUT_WR)
            door.settimeout(10)
            while door.recv(4096):
                pass
    assert '"gateway"' in house("status", "--json", status=1)

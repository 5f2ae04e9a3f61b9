"""Root's program that writes changes for the agent: a hostile agent gets nothing else written."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from agent.api import configuration
from agent.config import edit_request, load
from agent.config.edit import with_devices
from agent.config.files import Files
from agent.core.errors import Refused
from agent.registry import identity
from agent.trust.audit import bodies
from hil.ca import CA
from hil.process import free_port
from tests.contract.gateway.running import at_the_door

CONFIG = """\
# our house
building:
  name: Test
  roles: {{manager: [marie]}}
links:
  riser: {{driver: modbus-tcp, host: 127.0.0.1, port: {port}, timeout: 200ms}}
devices:
  m-1: {{link: riser, address: 1, profile: eastron-sdm120}}  # the first
uplinks: {{}}
privacy: {{policy: FR-1}}
clock: {{source: ntp}}
format: 1
state: {state}
"""
PROGRAM = (sys.executable, "-m", "agent.config.edit_request")
NEW = {"m-2": {"link": "riser", "address": "2", "profile": "eastron-sdm120"}}


@pytest.fixture
def config(tmp_path):
    tmp_path.chmod(0o755)
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(port=free_port(), state=tmp_path / "state"))
    path.chmod(0o640)
    (tmp_path / "state").mkdir(mode=0o700)
    identity.mint(tmp_path / "state")
    return path


@contextmanager
def started(config, program=PROGRAM):
    """The program as systemd starts it for one connection."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            [*program, config], stdin=theirs, stderr=subprocess.PIPE, text=True
        )
        theirs.close()
        with process:
            yield ours, process


def sent(config, *lines, program=PROGRAM):
    """What it answers to these lines, one JSON for each."""
    with started(config, program) as (door, process):
        answers = []
        with door.makefile("rb") as file:
            for line in lines:
                door.sendall(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")
                answers.append(json.loads(file.readline() or "null"))
        door.shutdown(socket.SHUT_RDWR)
        process.wait(10)
        assert process.returncode == 0, process.stderr.read()
        return answers


def here(config, request):
    """The answer of the program in this process: a new one takes half a second."""
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("rb") as answers:
        serving = threading.Thread(target=edit_request.serve, args=(theirs, config))
        serving.start()
        line = request if isinstance(request, bytes) else json.dumps(request).encode() + b"\n"
        ours.sendall(line)
        answer = json.loads(answers.readline())
        ours.shutdown(socket.SHUT_RDWR)
        serving.join(10)
    return answer


def certificate():
    return CA().certificate.public_bytes(Encoding.PEM).decode()


def asked(edit, **args):
    return {"edit": edit, "args": args, "by": "Eva (web)"}


def test_new_devices_are_written_with_a_copy_and_undone_if_the_agent_asks(config):
    before = config.read_text()
    (answer,) = sent(config, asked("devices.add", devices=NEW))
    assert answer["result"]["added"] == ["m-2"]
    assert "# the first" in config.read_text()
    assert set(load(config).devices) == {"m-1", "m-2"}
    assert config.stat().st_mode & 0o777 == 0o640
    copy = config.with_name(answer["result"]["copy"].rpartition("/")[2])
    assert copy.read_text() == before
    more = asked("devices.add", devices={"m-3": NEW["m-2"] | {"address": 3}})
    written = config.read_text()
    first, undone = sent(config, more, "undo")
    assert first["result"]["added"] == ["m-3"]
    assert undone == {"result": {}}
    assert config.read_text() == written


def test_the_same_device_twice_is_added_once_and_lines_and_the_uplink_are_added_once(config):
    again = here(config, asked("devices.add", devices={"x": NEW["m-2"] | {"address": 1}}))
    assert again["result"] == {"added": [], "file": str(config), "copy": None}
    line = {"driver": "modbus-rtu", "port": "/dev/serial/by-id/usb-1a86", "baudrate": 9600}
    answer = here(config, asked("lines.add", lines={"riser": line}))
    assert answer.get("result", answer)["added"] == ["riser-2"]
    uplink = asked("uplink.add", recipient="energie.example", url="mqtts://broker.example:8883")
    first, second = here(config, uplink), here(config, uplink)
    assert first["result"]["added"] == ["energie"]
    assert "already" in second["refused"]
    assert load(config).uplinks["energie"].settings.recipient == "energie.example"


def test_the_first_recovery_certificate_is_named_and_no_second_one(config):
    text = certificate()
    answer = here(config, asked("backup.to", certificate=text))
    assert answer["result"]["added"] == ["to"]
    assert load(config).backup.to == config.with_name("recovery.crt")
    assert config.with_name("recovery.crt").read_text() == text
    other = certificate()
    second = here(config, asked("backup.to", certificate=other))
    assert "already" in second["refused"]
    assert config.with_name("recovery.crt").read_text() == text


def device(**options):
    return asked("devices.add", devices={"m-2": NEW["m-2"] | options})


def named(name):
    return asked("devices.add", devices={name: NEW["m-2"]})


HOSTILE = {
    "no JSON": b"{\n",
    "no object": b"[]\n",
    "nested": b'{"edit": ' + b"[" * 5_000 + b"\n",
    "bytes": b"\xff\xfe\n",
    "a link that is a list": asked("devices.add", devices={"x": {"link": ["a"], "address": 1}}),
    "a driver that is a list": asked("lines.add", lines={"x": {"driver": ["mbus"]}}),
    "another edit": asked("building.roles", roles={"manager": ["gardien"]}),
    "an edit that is no text": {"edit": ["devices.add"], "args": {}},
    "arguments that are a list": {"edit": "devices.add", "args": []},
    "a path": asked("devices.add", devices=NEW) | {"args": {"devices": NEW, "path": "/etc/passwd"}},
    "a device that is a text": asked("devices.add", devices={"m-2": "riser"}),
    "a name that opens a section": named("m-2: {}\nbuilding"),
    "a name that is an include": named("!include x"),
    "an anchor": named("&a"),
    "a merge": named("<<"),
    "a value of several lines": device(place="x\n  roles: {manager: [gardien]}"),
    "a null": device(every=None),
    "a nested value": device(every={"a": 1}),
    "a fraction": device(every=1.5),
    "a huge number": device(every=10**400),
    "an option with a colon": device(**{"every: 1min, x": 1}),
    "a writable point": device(points={"setpoint": {"at": "holding/1/uint16", "writable": True}}),
    "a point with a hostile name": device(points={"a: {b": {"at": "input/1/uint16"}}),
    "points that are a list": device(points=[1]),
    "a profile elsewhere": device(profile="../../state/evil"),
    "a profile by path": device(profile="/var/lib/gardien/evil"),
    "no profile of that name": device(profile="none-of-these"),
    "a line on a file": asked("lines.add", lines={"x": {"driver": "mbus", "port": "/etc/shadow"}}),
    "a line that climbs": asked(
        "lines.add", lines={"x": {"driver": "mbus", "port": "/dev/../etc/shadow"}}
    ),
    "priorities of a line": asked(
        "lines.add", lines={"x": {"driver": "bacnet", "address": "127.0.0.1/8", "slots": [8, 1]}}
    ),
    "an uplink with a file": asked(
        "uplink.add", recipient="e.example", url="https://e.example", ca="/etc/shadow"
    ),
    "an uplink to a file": asked("uplink.add", recipient="e.example", url="file:///etc/shadow"),
    "a hostile recipient": asked("uplink.add", recipient="e}.x", url="https://e.example"),
    "a hostile address": asked("uplink.add", recipient="e.example", url="https://e\n, ca: /x"),
    "a brace in an address": asked(
        "uplink.add", recipient="e.example", url="https://e.example/}, folder: {x"
    ),
    "no certificate": asked("backup.to", certificate="-----BEGIN CERTIFICATE-----\n"),
    "a certificate by path": asked("backup.to", certificate="/etc/shadow"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_hostile_changes_the_file(config, name):
    before, files = config.read_text(), {one.name for one in config.parent.iterdir()}
    assert here(config, HOSTILE[name])["refused"]
    assert config.read_text() == before
    assert {one.name for one in config.parent.iterdir()} == files


def test_a_request_without_end_and_one_that_is_too_long_are_refused(config):
    before = config.read_text()
    with started(config) as (door, process):
        filler = b"x" * 65_536
        with pytest.raises(OSError):  # it hangs up in the middle
            door.sendall(filler * 100)
        door.close()
        process.wait(10)
    assert config.read_text() == before


def test_links_are_not_followed_and_files_of_others_are_not_taken(config):
    real = config.with_name("elsewhere.yaml")
    config.rename(real)
    config.symlink_to(real)
    before = real.read_text()
    answer = here(config, asked("devices.add", devices=NEW))
    assert "symbolic link" in answer["refused"]
    assert real.read_text() == before
    config.unlink()
    real.rename(config)
    if os.geteuid() == 0:
        config.parent.chmod(0o777)
        answer = here(config, asked("devices.add", devices=NEW))
        assert "other accounts" in answer["refused"]
        assert config.read_text() == before
        config.parent.chmod(0o755)
    # a link in the place of the recovery certificate
    config.with_name("recovery.crt").symlink_to(config.parent / "victim")
    text = certificate()
    answer = here(config, asked("backup.to", certificate=text))
    assert answer["refused"]
    assert not (config.parent / "victim").exists()


def test_what_a_person_changes_meanwhile_is_not_undone(config):
    with started(config) as (door, process):
        with door.makefile("rb") as file:
            door.sendall(json.dumps(asked("devices.add", devices=NEW)).encode() + b"\n")
            assert "result" in json.loads(file.readline())
            config.write_text(config.read_text().replace("# our house", "# Eva's house"))
            door.sendall(b'"undo"\n')
            assert "meanwhile" in json.loads(file.readline())["refused"]
        door.close()
        process.wait(10)
    assert "# Eva's house" in config.read_text()
    assert "m-2" in config.read_text()


def test_what_a_person_changes_while_the_change_is_made_is_not_lost(config):
    files = Files(config)
    edited = with_devices(files, NEW)
    changed = config.read_text().replace("# our house", "# Eva's house")
    config.write_text(changed)
    with pytest.raises(Refused, match="changed while it was read"):
        edit_request._written(files, edited)
    assert config.read_text() == changed


def test_two_connections_at_once_write_one_after_the_other(config):
    with started(config) as (first, process), started(config) as (second, other):
        with first.makefile("rb") as one, second.makefile("rb") as two:
            first.sendall(json.dumps(asked("devices.add", devices=NEW)).encode() + b"\n")
            assert "result" in json.loads(one.readline())
            more = {"m-3": NEW["m-2"] | {"address": "3"}}
            second.sendall(json.dumps(asked("devices.add", devices=more)).encode() + b"\n")
            first.sendall(b'"undo"\n')
            assert json.loads(one.readline()) == {"result": {}}
            first.shutdown(socket.SHUT_RDWR)
            assert json.loads(two.readline())["result"]["added"] == ["m-3"]
        second.shutdown(socket.SHUT_RDWR)
        assert (process.wait(10), other.wait(10)) == (0, 0)
    assert set(load(config).devices) == {"m-1", "m-3"}


def test_a_disk_that_is_full_leaves_the_file_as_it_was(small_disk, config):
    home = small_disk / "etc"
    home.mkdir(mode=0o755)
    path = home / "config.yaml"
    path.write_text(config.read_text())
    before = path.read_text()
    with (small_disk / "filler").open("wb") as filler:
        try:
            while True:
                filler.write(b"x" * 4_096)
                filler.flush()
        except OSError:
            pass
    (answer,) = sent(path, asked("devices.add", devices=NEW))
    assert "No space left" in answer["refused"]
    assert path.read_text() == before
    assert [one.name for one in home.iterdir()] == ["config.yaml"]


KILLED = """
import os, signal, sys
from pathlib import Path
from agent.config import edit_request
def died(self, target):
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv.pop(1) == "before":
    Path.replace = died
else:
    real = Path.replace
    def replaced(self, target):
        real(self, target)
        if Path(target).name == "config.yaml":
            os.kill(os.getpid(), signal.SIGKILL)
    Path.replace = replaced
import socket
edit_request.serve(socket.socket(fileno=0), Path(sys.argv[1]))
"""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_program_that_is_killed_leaves_the_old_file_or_the_new_one(config, moment):
    before = config.read_text()
    ours, theirs = socket.socketpair()
    with (
        ours,
        theirs,
        subprocess.Popen([sys.executable, "-c", KILLED, moment, config], stdin=theirs) as process,
    ):
        theirs.close()
        ours.sendall(json.dumps(asked("devices.add", devices=NEW)).encode() + b"\n")
        assert process.wait(20) == -signal.SIGKILL
    assert (config.read_text() == before) == (moment == "before")
    assert set(load(config).devices) == ({"m-1"} if moment == "before" else {"m-1", "m-2"})


# the calls of a running agent, over its own door


class Activator:
    """Starts the program for each connection, as `gardien-edit.socket` does."""

    def __init__(self, config):
        self.starts = 0
        self._config, self._door = config, socket.socket(socket.AF_UNIX)
        self._door.bind(str(config.with_name("state") / "gardien-edit.sock"))
        self._door.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                visitor, _ = self._door.accept()
            except OSError:
                return
            self.starts += 1
            with visitor:
                subprocess.run([*PROGRAM, self._config], stdin=visitor, stderr=subprocess.DEVNULL)

    def close(self):
        self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()


def test_a_change_over_the_door_is_written_by_the_program_in_use_and_in_the_chain(config):
    async def story():
        activator = Activator(config)
        try:
            async with at_the_door(config) as (house, call):
                answer = await call("config.devices.add", devices=NEW, named="Eva")
                assert answer["added"] == ["m-2"]
                assert answer["changed"]["devices of line"] == ["riser"]
                assert "m-2" in house.lines["riser"].devices
                assert activator.starts == 1
                # what the reload refuses is undone: a person has changed what needs a restart
                changed = config.read_text() + "spool: {max: 77MB}\n"
                config.write_text(changed)
                with pytest.raises(Refused, match="nothing was changed: "):
                    await call(
                        "config.lines.add", named="Eva",
                        lines={"hall": {"driver": "mbus", "port": "/dev/ttyUSB9"}},
                    )  # fmt: skip
                assert config.read_text() == changed
                assert "hall" not in house.lines
                assert activator.starts == 2
            return [*bodies(config.with_name("state") / "audit", "configuration.changed")]
        finally:
            activator.close()

    (record,) = asyncio.run(story())
    assert record["edit"] == "devices.add"
    assert record["by"].startswith("Eva (")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up being mighty")
def test_root_without_any_capability_writes_the_file_and_keeps_its_group(config):
    """As the unit starts it: no capabilities, and the group of the agent."""
    os.chown(config, 0, 65534)
    os.chown(config.parent, 0, 65534)
    config.parent.chmod(0o750)
    unit = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--groups=65534", *PROGRAM)
    (answer,) = sent(config, asked("devices.add", devices=NEW), program=unit)
    assert answer["result"]["added"] == ["m-2"]
    written, copy = config.stat(), config.with_name(answer["result"]["copy"].rpartition("/")[2])
    assert (written.st_uid, written.st_gid, written.st_mode & 0o777) == (0, 65534, 0o640)
    assert copy.stat().st_gid == 65534


def test_the_units_start_this_program_for_the_agent_alone_and_leave_it_nothing_else():
    folder = Path(__file__).parents[2] / "packaging" / "debian"
    door = (folder / "gardien-web.gardien-edit.socket").read_text().splitlines()
    unit = (folder / "gardien-web@.gardien-edit.service").read_text().splitlines()
    assert {"SocketUser=gardien", "SocketMode=0600", "Accept=yes"} < set(door)
    assert f"ListenStream={configuration.DOOR}" in door
    (start,) = (one for one in unit if one.startswith("ExecStart="))
    assert start.endswith(" -m agent.config.edit_request /etc/gardien/config.yaml")
    assert {
        "CapabilityBoundingSet=", "NoNewPrivileges=yes", "PrivateNetwork=yes",
        "ProtectSystem=strict", "ReadWritePaths=/etc/gardien", "SupplementaryGroups=gardien",
    } < set(unit)  # fmt: skip
    assert sum(one.startswith("ReadWritePaths=") for one in unit) == 1

"""`--trace` records a line in a file for its owner alone; `gardien decode trace` explains it."""

from __future__ import annotations

import json
import os
import socketserver
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agent.cli.scan import TraceFile
from hil.process import free_port
from tests.command import gardien

CONFIG = """\
building: {{name: Test}}
links:
  hall: {{driver: modbus-tcp, host: 127.0.0.1, port: {port}, timeout: 200ms}}
devices:
  right: {{link: hall, address: 1, points: {{v: {{at: holding/0/uint16, unit: V}}}}}}
  double: {{link: hall, address: 2, points: {{v: {{at: holding/0/uint16, unit: V}}}}}}
uplinks:
  centre: {{recipient: centre.example, transport: mqtt, url: "mqtt://127.0.0.1:9"}}
clock: {{source: system}}
state: {state}
"""


class Visit(socketserver.BaseRequestHandler):
    """Unit 1 answers, 2 answers twice, 3 says that it is busy, 4 is in the name of unit 9."""

    def handle(self) -> None:
        while asked := self.request.recv(260):
            self.server.asked += 1
            transaction, unit, function = asked[:2], asked[6], asked[7]
            count = int.from_bytes(asked[10:12], "big")
            pdu = bytes((function, 2 * count)) + b"\0\xe6" * count
            if function > 4 or unit == 3:
                pdu = bytes((function | 0x80, 6 if unit == 3 else 1))
            if unit > 4:
                continue
            name = 9 if unit == 4 else unit
            frame = transaction + b"\0\0" + bytes((0, len(pdu) + 1, name)) + pdu
            self.request.sendall(frame * (2 if unit == 2 else 1))


class Host(socketserver.ThreadingTCPServer):
    daemon_threads = True
    asked = 0


def ran(*args, **env):
    """A command as a process: what is redirected into a file is apart from what people see."""
    command = [Path(sys.executable).with_name("gardien"), *map(str, args)]
    known = os.environ | {"COLUMNS": "80", "GARDIEN_AS": "alice"} | env
    return subprocess.run(command, capture_output=True, text=True, env=known, check=False)


@pytest.fixture
def host():
    server = Host(("127.0.0.1", 0), Visit)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def config(tmp_path, host):
    (tmp_path / "state").mkdir()
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(port=host.server_address[1], state=tmp_path / "state"))
    return path


def test_a_scan_shows_the_devices_then_what_is_odd_and_records_a_trace(config, tmp_path):
    trace = tmp_path / "hall.trace"
    trace.write_text("older")
    trace.chmod(0o644)
    answer = ran("scan", "hall", "--last", 4, "--trace", trace, "-c", config)
    assert answer.returncode == 0, answer.stderr
    said = answer.stderr
    table, odd = said.index("what it is"), said.index("What was odd:")
    assert table < odd
    oddities = " ".join(said[odd:].split())
    assert "- double: unit 2 sends its answer twice (" in oddities
    assert "exception 6, device busy" in oddities
    assert "unit 9 answers when unit 4 is asked" in oddities
    assert "Several answers: two devices may have one address." in oddities
    assert "contains readings of this building" in " ".join(said.split())
    assert answer.stdout.startswith("devices:\n")
    assert stat.S_IMODE(trace.stat().st_mode) == 0o600
    text = trace.read_text()
    assert text.startswith("# gardien trace 1\n")
    assert "127.0.0.1" not in text
    explained = gardien("decode", "trace", trace)
    assert explained.exit_code == 1
    assert "unit 1 is asked for holding 0 to 0" in explained.stdout
    assert max(map(len, explained.stdout.splitlines())) <= 80
    only = gardien("decode", "trace", trace, "--odd").stdout
    assert "sends its answer twice" in only
    assert "unit 1 is asked" not in only


def test_json_has_the_same_odd_answers_in_scan_and_decode(config, tmp_path):
    trace = tmp_path / "hall.trace"
    answer = ran("scan", "hall", "--last", 4, "--trace", trace, "--json", "-c", config)
    scanned = json.loads(answer.stdout)
    kinds = {(one["device"], one["kind"]): one["times"] for one in scanned["odd"]}
    assert kinds.keys() >= {("2", "twice"), ("3", "exception"), ("4", "unit")}
    assert {one["name"] for one in scanned["odd"] if one["device"] == "2"} == {"double"}
    # everything that was received, as registers
    objects = next(one for one in scanned["devices"] if one["name"] == "right")["objects"]
    assert {"at": "holding/0", "value": 230, "hex": "00E6"} in objects
    decoded = json.loads(gardien("decode", "trace", trace, "--json").stdout)
    assert {(one["device"], one["kind"]): one["times"] for one in decoded["odd"]} == kinds
    assert decoded["driver"] == "modbus-tcp"
    assert decoded["frames"][0]["sentence"] == "unit 1 is asked for holding 0 to 0"


def test_a_read_names_what_is_odd_about_its_own_device(config, tmp_path):
    trace = tmp_path / "double.trace"
    answer = ran("read", "double", "--all", "--trace", trace, "-c", config)
    assert answer.returncode == 0, answer.stderr
    assert "- double: unit 2 sends its answer twice" in " ".join(answer.stderr.split())
    assert "holding/0" in answer.stderr
    assert "unit 2 is asked for holding 0 to 0" in gardien("decode", "trace", trace).stdout
    right = ran("read", "right", "--json", "-c", config)
    assert json.loads(right.stdout)["odd"] == []


def test_registers_of_a_trace_are_read_by_a_profile(tmp_path):
    trace = tmp_path / "t"
    head = "# gardien trace 1\n# driver: modbus-tcp\n"
    asked = "0.1 > 00 01 00 00 00 06 07 04 00 00 00 02\n"  # voltage of an SDM120
    trace.write_text(f"{head}{asked}0.2 < 00 01 00 00 00 07 07 04 04 43 66 33 33\n")
    answer = gardien("decode", "trace", trace, "--profile", "eastron-sdm120")
    assert answer.exit_code == 0
    assert "unit 7, read by the profile eastron-sdm120:\n  voltage: 230.2 V\n" in answer.output
    decoded = json.loads(
        gardien("decode", "trace", trace, "--profile", "eastron-sdm120", "--json").output
    )
    assert decoded["quantities"] == {"7": {"voltage": "230.2 V"}}
    assert "no profile nobody" in str(
        gardien("decode", "trace", trace, "--profile", "nobody").exception
    )
    trace.write_text("# gardien trace 1\n# driver: mbus-tcp\n")
    other = gardien("decode", "trace", trace, "--profile", "eastron-sdm120")
    assert "--profile is for Modbus" in str(other.exception)


@pytest.mark.parametrize("options", [[], ["--odd"]])
def test_noise_names_the_address_that_was_asked_last(tmp_path, options):
    trace = tmp_path / "t"
    head = "# gardien trace 1\n# driver: modbus-tcp\n"
    asked = "0.1 > 00 01 00 00 00 06 07 04 00 00 00 02\n"
    trace.write_text(f"{head}{asked}0.2 < 5a 5a 5a 5a 5a 5a 5a 5a\n")
    answer = gardien("decode", "trace", trace, *options)
    assert "8 bytes that are no frame: noise (asked last: 7)" in answer.output


def test_in_french(config, tmp_path):
    trace = tmp_path / "hall.trace"
    answer = ran("read", "double", "--trace", trace, "-c", config, LANG="fr_FR.UTF-8")
    assert "l'adresse 2 envoie deux fois sa réponse" in " ".join(answer.stderr.split())
    explained = gardien("decode", "trace", trace, env={"LANG": "fr_FR.UTF-8"}).stdout
    assert "demande à l'adresse 2 : holding 0 à 0" in explained


def test_where_the_file_cannot_be_written_nothing_is_asked(config, host, tmp_path):
    answer = gardien("scan", "hall", "--trace", tmp_path / "no" / "t", "-c", config)
    assert "No such file or directory" in str(answer.exception)
    assert host.asked == 0


def test_where_the_line_cannot_be_opened_no_file_is_left(config, host, tmp_path):
    trace, text = tmp_path / "t", config.read_text()
    config.write_text(text.replace(str(host.server_address[1]), str(free_port())))
    answer = gardien("scan", "hall", "--trace", trace, "-c", config)
    assert "hall is not open" in str(answer.exception)
    assert "contains readings" not in answer.output
    assert not trace.exists()


def test_a_trace_is_bounded_and_says_that_its_end_is_missing(tmp_path, capsys):
    path = tmp_path / "t"
    with TraceFile(path, most=60) as file:
        for number in range(10):
            assert file.takes({"trace": [f"{number}.000000 > 01 02 03 04"]})
    lines = path.read_text().splitlines()
    assert len(lines) == 3
    assert lines[-1] == "2.000000 ! the trace is full: the rest is missing"
    assert "It is full" in " ".join(capsys.readouterr().err.split())


def test_what_is_no_trace_is_refused(tmp_path):
    other = tmp_path / "other"
    other.write_text("0.1 > 01\n")
    assert "is not a trace of gardien" in str(gardien("decode", "trace", other).exception)

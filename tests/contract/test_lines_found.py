"""`gardien scan` without a line finds lines, names what it must not touch, and adds them."""

from __future__ import annotations

import asyncio
import json

import pytest
from ruamel.yaml import YAML

from agent.api.calls import CALLS
from agent.app import opened
from agent.config import load
from hil.modbus_server import Reply, serving
from hil.serial_line import Registers, SerialLine
from hil.uart import Framing
from tests.command import gardien
from tests.virtual_time import PatientLoop, clocks_at

CONFIG = """\
# our house
building: {{name: Test}}
links:
  hall: {{driver: modbus-rtu, port: {port}}}  # in the cellar
state: {state}
"""


class Asker:
    page = False

    def __init__(self):
        self.told = []

    async def progress(self, words):
        self.told.append(words)


@pytest.fixture
def config(tmp_path):
    state = tmp_path / "state"
    state.mkdir(mode=0o700)

    def make(port="/dev/ttyUSB9"):
        path = tmp_path / "config.yaml"
        path.write_text(CONFIG.format(port=port, state=state))
        return path

    return make


def test_ports_are_searched_at_once_and_a_configured_one_is_left_alone(config):
    async def story():
        framing = Framing(19200, "even")
        async with (
            SerialLine.open(19200, framing=framing) as ours,
            SerialLine.open(9600, framing=Framing()) as new,
            SerialLine.open(19200, framing=framing) as other,
        ):
            new.add(3, Registers(fills=True))
            other.add(5, Registers(fills=True))
            asker = Asker()
            with opened(load(config(ours.port))) as gateway:
                answer = await CALLS["line.find"](
                    gateway, asker, ports=[ours.port, new.port, other.port, "/dev/nowhere"]
                )
            assert ours.requests == 0
            ports = [new.port, other.port]
            return answer, asker.told, ports, ours.port

    with clocks_at(1_790_000_000, PatientLoop) as run:
        answer, told, ports, ours = run(story())
    found = {one["settings"]["port"]: one for one in answer["found"]}
    assert sorted(found) == sorted(ports)
    assert [found[port]["devices"] for port in ports] == [("3",), ("5",)]
    assert {one["name"] for one in answer["found"]} == {"modbus", "modbus-2"}
    busy = {one["where"]: str(one["sentence"]) for one in answer["busy"]}
    assert busy[ours] == "it is the line hall of the configuration"
    assert "/dev/nowhere cannot be opened" in busy["/dev/nowhere"]
    # who ends the search at half time has seen what was found until then
    assert [one["line"]["settings"]["port"] for one in told if "line" in one] == [
        one["settings"]["port"] for one in answer["found"]
    ]


def test_the_command_prints_a_line_for_the_configuration_and_adds_it(config):
    path = config()

    async def story():
        async with serving(lambda _unit, pdu: Reply(bytes([pdu[0], 2, 0, 1]))) as port:
            words = ("scan", "--host", f"127.0.0.1:{port}", "-c", path)
            shown = await asyncio.to_thread(gardien, *words)
            as_json = await asyncio.to_thread(gardien, *words, "--json")
            added = await asyncio.to_thread(gardien, *words, "--add")
            again = await asyncio.to_thread(gardien, *words, "--json")
        return port, shown, as_json, added, again

    port, shown, as_json, added, again = asyncio.run(story())
    assert [one.exit_code for one in (shown, as_json, added)] == [0, 0, 0]
    printed = YAML(typ="safe").load(shown.output[shown.output.index("links:") :])["links"]
    wanted = {"driver": "modbus-tcp", "host": "127.0.0.1", "port": port}
    assert printed == {"modbus-127-0-0-1": wanted}
    assert "# Modbus TCP at 127.0.0.1: unit 0, 1, 2, 247, 255 answers" in shown.output
    assert json.loads(as_json.output[as_json.output.index("{") :])["found"][0]["settings"] == {
        "host": "127.0.0.1",
        "port": port,
    }
    assert "1 line added to " in added.output
    assert "gardien scan modbus-127-0-0-1 --add" in added.output.replace("\n", " ")
    text = path.read_text()
    assert text.startswith("# our house\n")
    assert "# in the cellar" in text
    assert load(path).links["modbus-127-0-0-1"].settings.port == port
    assert (
        json.loads(again.output[again.output.index("{") :])["found"][0]["name"]
        == "modbus-127-0-0-1-2"
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("hall", "--listen"), "hall is not a serial port"),
        (("--listen", "--host", "10.0.0.1"), "only a serial port can be listened to"),
        (("/dev/ttyUSB0", "--seconds", "-1"), "is not a number of seconds"),
        (("--host", "10.0.0.0/8"), "at most 1024 are asked"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_anything_is_opened(config, words, says):
    answer = gardien("scan", *words, "-c", config())
    assert says in str(answer.exception)


def test_nothing_found_ends_with_status_1(config):
    answer = gardien("scan", "/dev/nowhere", "-c", config())
    assert answer.exit_code == 1
    assert "! /dev/nowhere: /dev/nowhere cannot be opened" in answer.output.replace("\n  ", " ")
    assert "0 lines found" in answer.output

"""Devices that a scan found are written behind those there are, and nothing else is touched.
Rule U7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.config import load
from agent.config.edit import add_devices, add_lines
from agent.core.errors import Refused

if TYPE_CHECKING:
    from pathlib import Path

BEFORE = """\
# our house
building: {name: Test}
links:
  riser: {driver: modbus-tcp, host: 192.168.10.20}
devices:
  # the first
  one: {link: riser, address: 1, profile: eastron-sdm120}   # in the cellar

state: /var/lib/gardien
"""
NEW = {
    "one": {"link": "riser", "address": 2, "profile": "eastron-sdm630"},
    "again": {"link": "riser", "address": 1, "profile": "eastron-sdm120"},
    "unknown": {"link": "riser", "address": 3},
}


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o640)
    return path


def test_what_is_new_stands_behind_what_is_there_and_all_else_as_it_was(tmp_path: Path) -> None:
    path = written(tmp_path, BEFORE)
    assert add_devices(path, NEW) == (["one-2"], path)
    line = "  one-2: {link: riser, address: 2, profile: eastron-sdm630}\n"
    assert path.read_text().replace(line, "") == BEFORE
    assert path.read_text().splitlines()[7] == line.rstrip()
    assert path.stat().st_mode & 0o777 == 0o640
    assert load(path).devices["one-2"].profile == "eastron-sdm630"
    assert add_devices(path, NEW) == ([], path)


@pytest.mark.parametrize(
    "devices",
    [
        "devices:\n",
        "",
        "devices: {}  # none yet\nprivacy: {policy: FR-1}\n",
        "devices:\n    one:\n      link: riser\n      address: 1\n      profile: eastron-sdm120",
        "devices:\n  one: {link: riser, address: 1,\n    profile: eastron-sdm120}\n# done\n",
    ],
)
def test_it_is_right_however_devices_were_written(tmp_path: Path, devices: str) -> None:
    head = BEFORE.partition("devices:")[0]
    path = written(tmp_path, "state: /var/lib/gardien\n" + head + devices)
    add_devices(path, {"two": NEW["one"]})
    assert load(path).devices["two"].address == "2"


def test_devices_on_one_line_are_left_to_the_person(tmp_path: Path) -> None:
    devices = "devices: {one: {link: riser, address: 1, profile: eastron-sdm120}}\n"
    text = BEFORE.partition("devices:")[0] + devices
    path = written(tmp_path, text)
    with pytest.raises(Refused, match="add them by hand"):
        add_devices(path, {"two": NEW["one"]})
    assert path.read_text() == text


def test_a_file_that_would_be_wrong_is_not_written(tmp_path: Path) -> None:
    path = written(tmp_path, BEFORE)
    with pytest.raises(Refused, match="was not changed"):
        add_devices(path, {"two": {**NEW["one"], "profile": "no-such"}})
    assert path.read_text() == BEFORE
    assert [one.name for one in tmp_path.iterdir()] == ["config.yaml"]


LINES = {
    "modbus": {"driver": "modbus-rtu", "port": "/dev/ttyUSB0", "baudrate": 19200, "parity": "even"},
    "riser": {"driver": "bacnet", "address": "eth0", "ask": ["192.168.30.7"]},
}


@pytest.mark.parametrize("links", ["", "links: {}\n", "links:\n", "links: # none\n"])
def test_lines_are_added_behind_the_others_and_a_copy_is_kept(tmp_path: Path, links: str) -> None:
    path = written(
        tmp_path, f"building: {{name: Test}}\n{links}# the end\nstate: /var/lib/gardien\n"
    )
    before = path.read_text()
    assert add_lines(path, LINES) == (["modbus", "riser"], path)
    assert "# the end" in path.read_text()
    assert load(path).links["modbus"].settings.parity == "even"
    (copy,) = (one for one in tmp_path.iterdir() if one != path)
    assert (copy.read_text(), copy.name[:12]) == (before, "config.yaml.")


def test_a_line_whose_name_is_taken_gets_another_and_comments_stay(tmp_path: Path) -> None:
    path = written(tmp_path, BEFORE)
    assert add_lines(path, LINES)[0] == ["modbus", "riser-2"]
    assert load(path).links["riser-2"].settings.ask == ("192.168.30.7",)
    kept = path.read_text().splitlines()
    assert [line for line in BEFORE.splitlines() if line not in kept] == []
    assert add_lines(path, {}) == ([], path)


def test_lines_in_a_file_of_their_own_are_added_there(tmp_path: Path) -> None:
    path = written(tmp_path, "building: {name: Test}\nlinks: !include links.yaml\nstate: /tmp/x\n")
    home = tmp_path / "links.yaml"
    home.write_text("# ours\nhall: {driver: modbus-tcp, host: 192.168.10.20}\n")
    assert add_lines(path, LINES)[1] == home
    assert home.read_text().startswith("# ours\nhall: ")
    assert set(load(path).links) == {"hall", "modbus", "riser"}

"""Devices in a file of their own: read as if they stood in the main one, told where they stand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.config import load
from agent.config.edit import add_devices
from agent.core.errors import ConfigError
from tests.unit.config.samples import SMALL, changed

if TYPE_CHECKING:
    from pathlib import Path

METER = "sdm-12: {link: plant, address: 12, profile: eastron-sdm120}"
MAIN = changed(f"devices:\n  {METER}\n", "devices: !include devices.yaml\n")


def house(tmp_path: Path, devices: str | None, main: str = MAIN) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(main, encoding="utf-8")
    if devices is not None:
        (tmp_path / "devices.yaml").write_text(devices, encoding="utf-8")
    return path


def told(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return [line.removeprefix(f"{path.parent}/") for line in str(caught.value).splitlines()]


def test_an_included_file_says_what_would_stand_in_its_place(tmp_path):
    one = load(house(tmp_path, f"# the meters\n{METER}\n"))
    assert [(name, d.address) for name, d in one.devices.items()] == [("sdm-12", "12")]
    assert load(house(tmp_path, "# none yet\n")).devices == {}


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        (
            METER.replace("profile", "profil"),
            'devices.yaml:1:36: devices.sdm-12.profil: no such option; did you mean "profile"?',
        ),
        (
            f"{METER}\n{METER.replace('sdm-12', 'twin')}\n",
            (
                'devices.yaml:2:30: devices.twin.address: "12" on "plant" is already the address'
                ' of "sdm-12" in line 1 of devices.yaml: change one of the two addresses'
            ),
        ),
        ("a: [1, 2\n", "devices.yaml:2:1: a `,` or the closing `]` is missing before this"),
        ("- one\n", "devices.yaml:1:1: devices: expected a mapping, one `name: …` a line, found"),
        (
            "more: !include config.yaml\n",
            "devices.yaml:1:7: devices.more: devices.yaml is an included file, and must not",
        ),
        (None, "config.yaml:4:10: devices: "),
    ],
)
def test_a_mistake_is_told_in_the_file_it_stands_in(tmp_path, devices, expected):
    """Rule U1."""
    assert any(line.startswith(expected) for line in told(house(tmp_path, devices)))


def test_both_files_are_told_of_the_main_one_first(tmp_path):
    path = house(tmp_path, METER.replace("plant", "plnt"), MAIN.replace("mqtt,", "mqqt,"))
    assert [line.partition(":")[0] for line in told(path)] == ["config.yaml", "devices.yaml"]


@pytest.mark.parametrize("name", ["../other.yaml", "/etc/passwd", "sub/devices.yaml", '""', ".."])
def test_only_a_file_beside_the_main_one_is_included(tmp_path, name):
    """Rule U5."""
    path = house(tmp_path, METER, MAIN.replace("devices.yaml", name))
    assert told(path)[0].startswith("config.yaml:4:10: devices: expected a file in the same folder")


def test_a_file_that_includes_without_end_is_refused(tmp_path):
    many = "".join(f"  a{number}: !include {number}.yaml\n" for number in range(50))
    for number in range(50):
        (tmp_path / f"{number}.yaml").write_text("x: 1\n")
    path = house(tmp_path, METER, SMALL + "privacy:\n" + many)
    assert any("more than 20 files" in line for line in told(path))


@pytest.mark.parametrize("before", [f"{METER}\n", f"# ours\n{METER} # cellar\n\n", "# none yet\n"])
def test_what_a_scan_found_is_added_to_the_file_that_the_devices_stand_in(tmp_path, before):
    path = house(tmp_path, before)
    entry = {"link": "plant", "address": 13, "profile": "eastron-sdm630"}
    home = tmp_path / "devices.yaml"
    assert add_devices(path, {"sdm-13": entry}) == (["sdm-13"], home)
    line = "sdm-13: {link: plant, address: 13, profile: eastron-sdm630}\n"
    assert home.read_text().replace(line, "") == before
    assert path.read_text() == MAIN
    assert load(path).devices["sdm-13"].address == "13"

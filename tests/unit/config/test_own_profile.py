"""A manager's own profile: found beside the configuration, and as strictly checked as ours."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from agent.config import load
from agent.core.errors import ConfigError
from agent.drivers.profile import profiles, text_of
from tests.command import gardien
from tests.unit.config.samples import EXAMPLE, SMALL, changed

if TYPE_CHECKING:
    from pathlib import Path

OURS = """\
# the meters in the cellar
manufacturer: Acme
model: M1
driver: modbus
sources: [{where: the maker's sheet of 2026, confirms: [all, serial]}]
identity: number
defaults: [energy_import]
serial: {at: holding/0/uint32}
points:
  energy_import: {at: input/10/uint32, unit: Wh, scale: 10}
  my_flow: {at: input/20/int16, unit: m3}
test:
  holding: {0: [1, 2]}
  input: {10: [0, 123], 20: [0xFFFF]}
  reads: {energy_import: 1230, my_flow: -1, serial: 65538}
"""


def house(folder: Path, profile: str = OURS, name: str = "acme-m1") -> Path:
    path = folder / "config.yaml"
    path.write_text(changed("eastron-sdm120", name), encoding="utf-8")
    (folder / "profiles").mkdir()
    (folder / "profiles" / f"{name}.yaml").write_text(profile, encoding="utf-8")
    return path


def test_it_is_used_as_ours_are(tmp_path):
    config = load(house(tmp_path))
    (point,) = config.points()["sdm-12"]
    assert (point.at, point.channel, point.unit, str(point.scale)) == (
        "input/10/uint32",
        "elec.imp",
        "Wh",
        "10",
    )
    assert config.serial_point("sdm-12").at == "holding/0/uint32"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("driver: modbus", "driver: modbas", '4:9: driver: no driver "modbas"; did you mean "modb'),
        ("sources:", "sorces:", '5:1: sorces: no such option; did you mean "sources"?'),
        ("[all, serial]", "[al]", '5:10: sources.0.confirms: no point "al"; there is'),
        ("sources: [{where: the maker's sheet of 2026, confirms: [all, serial]}]\n", "",
         "2:1: `sources` is missing"),
        ("identity: number", "identity: plate", "6:11: identity: `number` needs `serial`"),
        ("[0, 123]", "[0, 132]", "15:26: test.reads.energy_import: these cells are read as 1320"),
        ("[energy_import]", "[energy]", '7:11: defaults: no point "energy"'),
        ("[energy_import]", "[]", "7:11: defaults: no point is read by default"),
        ("unit: Wh", "unit: wh", '10:46: points.energy_import.unit: no unit "wh"; did'),
        ("unit: Wh", "unit: m3", "10:46: points.energy_import.unit: m3 cannot be converted to kWh"),
        ("input/10", "inputs/10", '10:23: points.energy_import.at: "inputs" is not a Modbus table'),
        ("scale: 10", "scle: 10", "10:50: points.energy_import.scle: no such option; did you me"),
        ("my_flow: {", "my flow: {", "11:3: points.my flow: a name has letters, digits"),
        ("1230,", "123,", "15:26: test.reads.energy_import: these cells are read as 1230, not"),
        ("[0, 123]", "[0, 70000]", "13:3: test: input: a cell has 16 bits, found 70000 at 11"),
        ("[0, 123]", "[0, x]", "13:3: test: expected a cell such as 0x1F or 31, found x"),
        ("my_flow: -1", "my_flw: -1", '15:32: test.reads.my_flw: no point "my_flw"; did you mean'),
        ("  reads:", "  red:", "12:1: test: `test` is missing, or its `reads`"),
        ("model: M1\n", "", "2:1: `model` is missing"),
        ("points:", "points: [", "11:"),
    ],
)  # fmt: skip
def test_a_mistake_in_it_is_told_in_its_own_file(tmp_path, before, after, expected):
    assert OURS.count(before) == 1
    path = house(tmp_path, OURS.replace(before, after))
    with pytest.raises(ConfigError) as caught:
        load(path)
    told = [one.removeprefix(f"{tmp_path}/") for one in str(caught.value).splitlines()]
    assert any(one.startswith(f"profiles/acme-m1.yaml:{expected}") for one in told), told
    own = tmp_path / "profiles" / "acme-m1.yaml"
    done = gardien("profile", "check", str(own))
    assert done.exit_code == 1
    assert expected in done.output


def test_it_does_not_take_the_name_of_one_of_ours(tmp_path):
    with pytest.raises(
        ConfigError, match=r"eastron-sdm630.yaml:2:1: gardien has a profile with thi"
    ):
        load(house(tmp_path, name="eastron-sdm630"))


def test_one_from_a_version_before_sources_is_still_used(tmp_path):
    before = OURS.replace(
        "sources: [{where: the maker's sheet of 2026, confirms: [all, serial]}]\nidentity: number",
        "source: the maker's sheet of 2026\nconfidence: tried on one meter",
    )
    assert before != OURS
    path = house(tmp_path, before)
    assert load(path).points()["sdm-12"]
    shown = gardien("profile", "show", "acme-m1", "-c", str(path)).output
    assert "source 1: the maker's sheet of 2026" in shown
    assert "unconfirmed: fewer than two independent sources for energy_import" in shown
    assert "identity: it reports its serial number" in shown


def test_one_that_no_device_names_hurts_nobody(tmp_path):
    path = house(tmp_path)
    (tmp_path / "profiles" / "draft.yaml").write_text("half: [")
    assert load(path)


def test_the_commands_list_show_and_check_it(tmp_path):
    path = house(tmp_path)

    def said(*words):
        done = gardien("profile", *words)
        assert done.exit_code == 0, done.output
        return done.output

    listed = json.loads(said("list", "--json", "-c", str(path)))
    assert len(listed) == len(profiles()) + 1
    assert listed[0] == {
        "name": "acme-m1",
        "about": "Acme M1",
        "driver": "modbus",
        "values": "2",
        "certainty": "unconfirmed",
        "whose": "yours",
    }
    shown = said("show", "acme-m1", "-c", str(path))
    assert "input/10/uint32" in shown
    assert "the maker's sheet of 2026" in shown
    assert said("show", "acme-m1", "--yaml", "-c", str(path)) == OURS
    assert "3 values, all of them tested" in said("check", str(tmp_path / "profiles/acme-m1.yaml"))
    nearest = gardien("profile", "show", "acme-m2", "-c", str(path))
    assert 'did you mean "acme-m1"?' in str(nearest.exception)


@pytest.mark.parametrize("name", profiles())
def test_every_profile_of_ours_passes_the_same_check(tmp_path, name):
    path = tmp_path / f"my-{name}.yaml"
    path.write_text(text_of(name), encoding="utf-8")
    done = gardien("profile", "check", str(path))
    assert done.exit_code == 0, done.output


def test_the_small_sample_has_no_folder_of_profiles_and_needs_none(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(SMALL, encoding="utf-8")
    assert load(path)


def test_the_profile_that_is_documented_is_right(tmp_path):
    page = (EXAMPLE.parent / "docs/configuration.md").read_text(encoding="utf-8")
    (text,) = [part for part in page.split("```") if "acme-m1.yaml\nmanufacturer" in part]
    path = tmp_path / "acme-m1.yaml"
    path.write_text(text.removeprefix("yaml\n"), encoding="utf-8")
    done = gardien("profile", "check", str(path))
    assert "3 values, all of them tested" in done.output

"""`gardien place check` on a machine that is no gateway."""

import json

import pytest

from tests.command import gardien

ID = "B6ASQ-Z1Y2K-SAA3Y"


def check(*words):
    return gardien("place", "check", *words)


@pytest.mark.parametrize("configuration", [None, "links: [", "building: {name: Test}\n"])
def test_an_id_is_checked_without_a_configuration_that_can_be_read(tmp_path, configuration):
    file = tmp_path / "c.yaml"
    if configuration is not None:
        file.write_text(f"{configuration}\nstate: {tmp_path / 'state'}\n")
    right = check(ID, "-c", str(file))
    assert right.exit_code == 0
    assert right.stdout.startswith(f"{ID}  building  ")
    assert "valid" in right.stdout
    wrong = check("B6ASQ-Z1Y2K-SAA3Z", "-c", str(file))
    assert "its check characters do not match" in str(wrong.exception)
    assert wrong.exit_code


def test_programs_are_told_that_no_building_was_asked(tmp_path):
    answer = json.loads(check("b6asq z1y2k saa3y", "--json", "-c", str(tmp_path / "c")).stdout)
    assert answer == {
        "id": "B6ASQZ1Y2KSAA3Y",
        "shown": ID,
        "type": "building",
        "label": None,
        "looked_up": False,
    }


def test_a_label_needs_its_building(tmp_path):
    assert "cannot be read" in str(check("A-3-12", "-c", str(tmp_path / "c")).exception)

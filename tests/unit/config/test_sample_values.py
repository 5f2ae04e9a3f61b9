"""Values of the package's sample: no building of its own has them, so none may run with them."""

from __future__ import annotations

import asyncio

import pytest

from agent.app import run
from agent.config import load, parse
from agent.config.check import check
from agent.config.strictcheck import refuse_start
from agent.core.errors import ConfigError
from tests.unit.config.samples import EXAMPLE, OWN_VALUES, SMALL, changed, edited_sample

REFUSED = [
    "building.name",
    "building.place",
    "devices.boiler-pump.place",
    "devices.boiler.place",
    "uplinks.metropole.recipient",
    "uplinks.metropole.url",
    "privacy.common.basis",
    "enrolment.url",
]


async def no_door(_house, _state):
    raise AssertionError("it was started")


def refused(text, tmp_path):
    """What `check` refuses of a text, by line number, key and what to write."""
    file = tmp_path / "config.yaml"
    file.write_text(text, encoding="utf-8")
    status, said = check(file)
    lines = said.splitlines()
    assert status == (1 if "then: gardien check" in lines[-1] else 0)
    return [line.removeprefix(f"{file}:") for line in lines[:-1]] if status else []


def test_check_refuses_the_sample_by_its_own_values_and_by_nothing_else(tmp_path):
    """Rule U2."""
    text = EXAMPLE.read_text(encoding="utf-8")
    lines = refused(text, tmp_path)
    assert [line.split(": ")[1] for line in lines] == REFUSED
    assert all("sample" in line and "write the" in line for line in lines)
    number = text.splitlines().index("  name: Résidence Les Alpins") + 1
    assert lines[0].startswith(f"{number}:9: building.name: ")


@pytest.mark.parametrize("left", OWN_VALUES)
def test_one_value_of_the_sample_that_was_left_is_refused(left, tmp_path):
    text = edited_sample()
    assert refused(text, tmp_path) == []
    one_left = text.replace(OWN_VALUES[left], left)
    assert one_left != text
    assert refused(one_left, tmp_path)


@pytest.mark.parametrize(
    ("before", "after", "key"),
    [
        ("{name: Les Alpins}", "{name: x, place: b6asq z1y2k saa3y}", "building.place"),
        ("{name: Les Alpins}", '{name: "Résidence  Les Alpins "}', "building.name"),
        ("energie.metropole.example", "Energie.Metropole.Example", "uplinks.metropole.recipient"),
        ("mqtts://192.168.10.5", "mqtts://PLATFORM.example:9883", "uplinks.metropole.url"),
    ],
)
def test_a_value_of_the_sample_is_known_in_another_spelling(before, after, key, tmp_path):
    text = changed("energie.metropole.example", "energie.ville.example")
    base = SMALL if before in "energie.metropole.example" else text
    lines = refused(changed(before, after, base), tmp_path)
    assert any(f" {key}: " in line for line in lines)


def test_other_names_that_end_in_example_are_not_refused(tmp_path):
    text = changed("energie.metropole.example", "flex.example")
    assert refused(text.replace("192.168.10.5", "broker.platform.example"), tmp_path) == []


def test_a_value_of_the_sample_in_an_included_file_is_named_there(tmp_path):
    (tmp_path / "building.yaml").write_text("name: Résidence Les Alpins\n", encoding="utf-8")
    lines = refused(
        changed("{name: Les Alpins}", "!include building.yaml").replace("metropole.ex", "x.ex"),
        tmp_path,
    )
    assert lines[0].startswith(f"{tmp_path / 'building.yaml'}:1:7: building.name: ")


def test_a_demonstration_on_loopback_may_use_them(tmp_path):
    text = (
        "building: {name: Résidence Les Alpins, place: B6ASQ-Z1Y2K-SAA3Y}\n"
        "privacy: {policy: DEMO-1}\n"
    )
    assert refused(text, tmp_path) == []
    refuse_start(parse(text, "x"))


def test_the_sample_is_never_started(tmp_path):
    """Rule U16."""
    text = EXAMPLE.read_text(encoding="utf-8")
    file = tmp_path / "config.yaml"
    file.write_text(text.replace("/var/lib/gardien", str(tmp_path)), encoding="utf-8")
    sample = load(file)
    with pytest.raises(ConfigError, match="is the package's sample"):
        asyncio.run(run(file, no_door))
    with pytest.raises(ConfigError, match="is the package's sample"):
        refuse_start(sample)
    (tmp_path / "shelf.db").touch()  # an older package started it
    with pytest.raises(ConfigError, match="is the package's sample"):
        refuse_start(sample)


@pytest.mark.parametrize("left", ["spool-energie.ville.example.db", "clock.json"])
def test_an_edited_file_with_the_samples_building_id_is_refused_at_the_first_start_only(
    tmp_path, left
):
    """A gateway without uplinks has no spool."""
    text = edited_sample().replace("# place: none ", "place: B6ASQ-Z1Y2K-SAA3Y ")
    config = parse(text.replace("/var/lib/gardien", str(tmp_path)), "x")
    with pytest.raises(ConfigError, match=r"building\.place is the id of the sample"):
        refuse_start(config)
    (tmp_path / left).touch()
    refuse_start(config)


def test_what_is_not_the_samples_building_is_started():
    refuse_start(parse(edited_sample(), "x"))
    refuse_start(parse(SMALL, "x"))


def test_a_command_goes_on_with_values_of_the_sample():
    """A person who edits the sample step by step needs `config set` and `place new`."""
    assert load(EXAMPLE).building.name == "Résidence Les Alpins"


def test_the_address_of_a_page_is_no_host_and_the_host_to_write_is_named(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(
        "building: {name: x}\n"
        'links: {riser: {driver: modbus-tcp, host: "http://192.168.10.20/"}}\n',
        encoding="utf-8",
    )
    status, said = check(file)
    problem, cost = said.splitlines()
    assert status == 1
    assert problem.startswith(f'{file}:2:43: links.riser.host: "http://192.168.10.20/" is the')
    assert "write only 192.168.10.20." in problem
    assert cost.startswith("1 problem: the agent starts with this file, but does not work")

"""One value changed in a file by a command: nothing else in it is touched, however it looks.
Rule U7.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config import load
from agent.config.edit import begin, put
from agent.config.files import Files, read
from agent.core.errors import Refused
from tests.command import gardien
from tests.unit.config.samples import EXAMPLE, LOOPBACK, SMALL

if TYPE_CHECKING:
    from pathlib import Path

BEFORE = """\
# our house
building: {name: Test}        # as people call it
links:
  riser: {driver: modbus-tcp, host: 192.168.10.20,
          timeout: 2s}
devices:
  # the first
  one:
    link: riser      # in the cellar
    address: 1
    profile: eastron-sdm120
    points:
      power:
        at: input/12/float32
        # who knows why

  two: {link: riser, address: 2, profile: eastron-sdm120}   # the second

# the end
state: "/var/lib/gardien"
spool:
"""


def house(folder: Path, text: str = BEFORE) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o640)
    return path


def said(path: Path, *words: str) -> tuple[int, str]:
    done = gardien("config", *words, "-c", str(path))
    text = f"{done.exception}" if isinstance(done.exception, Refused) else done.output
    return done.exit_code, text


@pytest.mark.parametrize(
    ("keys", "value", "line"),
    [
        ("building.name", "Le Test", "building: {name: Le Test}        # as people call it"),
        ("building.name", "Bât #3: l'eau", 'building: {name: "Bât #3: l\'eau"}        # as'),
        ("building.name", "a, b", 'building: {name: "a, b"}        # as people call it'),
        ("building.timezone", "Europe/Rome", "building: {name: Test, timezone: Europe/Rome}  "),
        ("devices.one.address", "3", "    address: 3"),
        ("devices.one.link", "riser", "    link: riser      # in the cellar"),
        ("devices.one.every", "1h", "    every: 1h"),
        ("devices.one.points.power.every", "1h", "        every: 1h"),
        (
            "devices.two.every",
            "30min",
            "  two: {link: riser, address: 2, profile: eastron-sdm120, ev",
        ),
        (
            "devices.two.points.active_power.every",
            "1h",
            ", points: {active_power: {every: 1h}}}   # the second",
        ),
        ("links.riser.port", "1502", "          timeout: 2s, port: 1502}"),
        ("state", "/srv/gardien", "state: /srv/gardien"),
        ("spool", "{flush: 1s}", "spool: {flush: 1s}"),
        ("spool.flush", "1s", "spool: {flush: 1s}"),
        ("privacy.policy", "FR-1", "privacy: {policy: FR-1}"),
        (
            "devices.three",
            "{link: riser, address: 9, profile: eastron-sdm120}",
            "  three: {link: r",
        ),
    ],
)
def test_one_value_is_put_in_and_every_other_line_stays_as_it_was(tmp_path, keys, value, line):
    path = house(tmp_path)
    status, text = said(path, "set", keys, value)
    assert status == 0, text
    after = path.read_text(encoding="utf-8").splitlines()
    assert any(line in one for one in after), after
    assert len([one for one in BEFORE.splitlines() if one not in after]) <= 1
    assert len(after) <= len(BEFORE.splitlines()) + 1
    assert path.stat().st_mode & 0o777 == 0o640
    load(path)


def test_a_line_behind_a_nested_block_stands_in_its_own_mapping_and_not_in_the_next(tmp_path):
    path = house(tmp_path)
    said(path, "set", "devices.one.every", "1h")
    text = path.read_text(encoding="utf-8")
    assert text.index("every: 1h") < text.index("  two:")
    assert load(path).devices["one"].every == 3600


@pytest.mark.parametrize(
    ("keys", "value", "what"),
    [
        ("devices.one.evry", "1h", 'devices.one.evry: no such option; did you mean "every"?'),
        ("devices.one.every", "7min", "a day cannot be divided into equal steps"),
        ("devices.one.address", "2", "already the address"),
        ("devices.one", "{link: riser}", "is written on several lines"),
        ("devices.one.link.x", "1", "devices.one.link has no options of its own"),
        ("building", "{name: x", "expected a mapping"),
    ],
)
def test_what_would_not_be_right_is_refused_and_the_file_stays(tmp_path, keys, value, what):
    path = house(tmp_path)
    status, text = said(path, "set", keys, value)
    assert status == 1
    assert what in text
    assert path.read_text(encoding="utf-8") == BEFORE
    assert [one.name for one in tmp_path.iterdir()] == ["config.yaml"]


def test_what_stands_in_several_places_at_once_is_left_to_the_person(tmp_path):
    meter = "{link: plant, address: 12, profile: eastron-sdm120}"
    text = SMALL.replace(meter, f"&m {meter}\n  sdm-13: {{<<: *m, address: 13}}")
    path = house(tmp_path, text)
    status, said_so = said(path, "set", "devices.sdm-12.every", "1h")
    assert status == 1
    assert "without changing other options" in said_so
    assert path.read_text(encoding="utf-8") == text


def test_a_value_in_an_included_file_is_changed_there(tmp_path):
    path = house(tmp_path, SMALL.partition("devices:")[0] + "devices: !include devices.yaml\n")
    home = tmp_path / "devices.yaml"
    home.write_text("one: {link: plant, address: 1, profile: eastron-sdm120}  # ours\n")
    assert said(path, "set", "devices.one.every", "1h")[0] == 0
    assert home.read_text().endswith("every: 1h}  # ours\n")
    assert said(path, "set", "devices.two", "{link: plant, address: 2, profile: eastron-sdm120}")
    assert load(path).devices.keys() == {"one", "two"}


def paths(data, path=()):
    if isinstance(data, dict):
        for key, value in data.items():
            yield from paths(value, (*path, key))
            yield (*path, key, "new")
    else:
        yield path


SAMPLES = {text: list(paths(read(text).data)) for text in (BEFORE, LOOPBACK, EXAMPLE.read_text())}


@settings(deadline=None)  # the larger samples are read four times
@given(st.data())
def test_any_value_put_anywhere_changes_that_value_and_no_other(tmp_path_factory, data):
    text = data.draw(st.sampled_from(list(SAMPLES)))
    keys = data.draw(st.sampled_from(SAMPLES[text]))
    value = data.draw(st.one_of(st.text(), st.integers().map(str), st.sampled_from("{}[],:#'&*!")))
    files = Files(tmp_path_factory.getbasetemp() / "any.yaml").with_text(
        tmp_path_factory.getbasetemp() / "any.yaml", text
    )
    try:
        changed, _ = put(files, keys, value)
    except Refused:
        return
    before, after = read(text).data, read(changed.text()).data
    for key in keys[:-1]:
        before, after = (before or {}).pop(key, {}) or {}, after.pop(key)
    assert {**before, keys[-1]: None} == {**after, keys[-1]: None}


def test_a_difference_is_told_value_by_value(tmp_path):
    old, new = house(tmp_path), tmp_path / "new.yaml"
    new.write_text(BEFORE.replace("timeout: 2s", "port: 1502").replace("address: 1", "address: 7"))
    status, text = said(new, "diff", str(old))
    assert status == 1
    assert text.splitlines() == [
        "- links.riser.timeout",
        "+ links.riser.port: 1502",
        "~ devices.one.address: 1 → 7",
    ]
    assert said(new, "diff", str(new)) == (0, "nothing differs\n")


def test_without_a_running_agent_there_is_nothing_to_compare_with(tmp_path):
    path = house(tmp_path, BEFORE.replace("/var/lib/gardien", str(tmp_path)))
    status, text = said(path, "diff")
    assert (status, "is not running" in text) == (1, True)


def test_an_older_form_is_brought_up_to_date_and_kept(tmp_path):
    path = house(tmp_path)
    assert "was converted from format 0" in said(path, "migrate")[1]
    assert path.read_text(encoding="utf-8") == BEFORE + "format: 1\n"
    kept = tmp_path / "config.yaml.bak-0"
    assert kept.read_text(encoding="utf-8") == BEFORE
    assert kept.stat().st_mode & 0o777 == 0o640
    assert "has the current format (1) already" in said(path, "migrate")[1]


def test_a_newer_form_is_refused_in_words_and_a_wrong_file_is_not_touched(tmp_path):
    newer = house(tmp_path, BEFORE + "format: 2\n")
    for command in ("migrate", "diff"):
        status, text = said(newer, command)
        assert (status, "this file is for a newer gardien (format 2" in text) == (1, True), text
    wrong = house(tmp_path, BEFORE.replace("address: 2", "address: 1"))
    status, text = said(wrong, "migrate")
    assert (status, "was not changed, because of other errors in it" in text) == (1, True)
    assert [one.name for one in tmp_path.iterdir()] == ["config.yaml"]


def test_the_schema_for_editors_knows_every_section_and_refuses_what_they_can_see():
    import jsonschema

    from agent.config.compose import SECTIONS
    from agent.config.models import Top

    made = json.loads(gardien("config", "schema").output)
    assert made["properties"].keys() == {*SECTIONS, *Top.model_fields}
    validator = jsonschema.Draft202012Validator(made)
    right = json.loads(json.dumps(read(EXAMPLE.read_text()).data, default=str))
    assert list(validator.iter_errors(right)) == []
    for wrong in ({"every": 15}, {"evry": "1h"}, {"link": 3}):
        broken = json.loads(json.dumps(right))
        broken["devices"]["sdm-12"] |= wrong
        assert list(validator.iter_errors(broken)), wrong


@pytest.mark.parametrize(("spoken", "words"), [("fr_FR", "Qui reçoit"), ("C", "Who receives")])
def test_the_comments_of_a_new_file_are_in_the_language_of_who_begins_it(
    tmp_path, monkeypatch, spoken, words
):
    monkeypatch.setenv("LANG", f"{spoken}.UTF-8")
    path = tmp_path / "config.yaml"
    begin(path, name="Les Alpins", place="", timezone="Europe/Paris", clock="ntp", state=tmp_path)
    assert f"# {words}" in path.read_text(encoding="utf-8")

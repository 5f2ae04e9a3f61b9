"""Doubtful values as people meet them: at a terminal, in a script, and from a running gateway.
Rules I28, I30.
"""

import asyncio
import json
import os
import pty
import time
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from agent import local
from agent.acquisition.unsent_readings import UnassignedReadings
from agent.api.calls import CALLS
from agent.api.registry import Caller, last_readings
from agent.app import visited
from agent.cli import command_line
from agent.core.errors import Refused
from agent.core.model import Sample
from agent.registry.doubts import NeedsConfirmation
from tests.command import gardien

CONFIG = """\
building: {{name: Test, timezone: Europe/Paris}}
links:
  riser: {{driver: modbus-tcp, host: 127.0.0.1, port: 9, timeout: 2s}}
devices:
  m-1: {{link: riser, address: 1, profile: eastron-sdm120, every: 15min}}
uplinks:
  centre: {{recipient: centre.example, transport: mqtt, url: "mqtt://127.0.0.1:9"}}
privacy: {{policy: FR-1}}
clock: {{source: system}}
state: {state}
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(state=tmp_path / "state"))
    (tmp_path / "state").mkdir()
    return path


@pytest.fixture
def terminal(config, monkeypatch, capsys):
    """Runs a command at a terminal; returns the refusal, if any, and what it shows."""

    def run(typed, *words):
        front, back = pty.openpty()
        with os.fdopen(back) as keyboard, os.fdopen(front, "wb", buffering=0) as person:
            monkeypatch.setattr("sys.stdin", keyboard)
            person.write(typed.encode() + b"\n")
            refused = ""
            try:
                command_line()([*words, "--as", "anne", "-c", str(config)], standalone_mode=False)
            except Refused as error:
                refused = str(error)
        return refused, " ".join(capsys.readouterr().err.split())

    return run


def places(config):
    answer = gardien("place", "list", "--json", "-c", config).output
    return {place["label"]: place["source"] for place in json.loads(answer)["places"]}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("occupancy move-out A-1 --at 31/09/2026", "September 2026 has 30 days"),
        ("meter remove A-1", "no meter is recorded there"),
        ("place import {folder}/gone.csv", "No such file or directory"),
        ("place import {folder}/old.xls", "an .xls file of before 2007"),
        ("place import {folder}/wrong.csv", "is missing; there are: Nom, Type. Write one of"),
        ("meter import {folder}/swapped.csv --offline", 'but "A-1" is one: the columns'),
    ],
)
def test_what_records_something_says_that_nothing_was_recorded(config, monkeypatch, words, why):
    gardien("place", "new", "A-1", "--as", "anne", "-c", config)
    (config.parent / "old.xls").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
    (config.parent / "wrong.csv").write_text("Nom;Type\nA-1;logement\n")
    (config.parent / "swapped.csv").write_text("serial;dwelling\nA-1;24637001\n")
    typed = words.format(folder=config.parent).split()
    refused = gardien(*typed, "--as", "anne", "-c", config).exception
    assert isinstance(refused, Refused)
    assert why in str(refused)
    assert str(refused).endswith("\nnothing was recorded")
    monkeypatch.setenv("LANGUAGE", "fr")
    assert refused.text.in_language().endswith("\nrien n'a été enregistré")


def test_at_a_terminal_the_value_that_is_meant_is_typed(config, terminal):
    gardien("place", "new", "A-0-1", "--as", "anne", "-c", config)
    for typed in ("y", "yes", "", "a-o-1", "A-0-1"):
        refused, shown = terminal(typed, "place", "new", "A-O-1")
        assert 'Is "A-O-1" right, or is "A-0-1" meant?' in shown
        assert "nothing was recorded" in refused
    assert places(config).keys() == {"A-0-1"}
    refused, _ = terminal("A-O-1", "place", "new", "A-O-1")
    assert not refused
    assert places(config)["A-O-1"] == "gardien place new; confirmed: A-O-1"
    refused, _ = terminal("15/11/2036", "occupancy", "move-in", "A-O-1", "--since", "2036-11-15")
    assert not refused


IN_A_VISIT = {
    "en": ('Is "B-l" right, or is "B-1" meant? Type the value that is meant:',
           "Correct the list, and name it again."),
    "fr": ("Est-ce bien « B-l », ou plutôt « B-1 » ? Tapez la bonne valeur :",
           "Corrigez le fichier, puis indiquez-le de nouveau."),
}  # fmt: skip


@pytest.mark.parametrize("language", IN_A_VISIT)
def test_in_a_visit_each_doubtful_value_of_a_list_is_typed_again(config, monkeypatch, language):
    """Rule I30. Two rows have the same doubtful value, which is asked for once."""
    monkeypatch.setenv("LANGUAGE", language)
    question, end = IN_A_VISIT[language]
    sheet, file = config.with_name("p.csv"), config.with_name("answers.json")
    sheet.write_text("label;type;since\nB-1;D;01/09/2036\nB-l;D;01/09/2036\n")

    def visit(label, day):
        typed = {"list.doubt/B-l": label, "list.doubt/2036-09-01": day}
        file.write_text(json.dumps({"list.file": str(sheet), **typed}))
        words = ("commission", "list", "--answers", file, "--as", "anne", "-c", config)
        return " ".join(gardien(*words).output.replace("\xa0", " ").split())

    for wrong in (("B-1", "01/09/2036"), ("B-l", "2026-09-01"), ("B-l", "")):
        said = visit(*wrong)
        assert end in said
        assert not places(config)
    said = visit("B-l", "01/09/2036")
    assert f"{question} B-l" in said
    assert said.count(question[-20:]) == 2  # one for each value
    assert end not in said
    assert places(config).keys() == {"B-1", "B-l"}
    assert "B-l" in places(config)["B-l"].partition("confirmed: ")[2]


def test_a_list_is_reported_at_a_terminal_too(config, terminal, tmp_path):
    (tmp_path / "p.csv").write_text("label;type\nB-1;D\nB-l;D\n")
    refused, shown = terminal("B-l", "place", "import", str(tmp_path / "p.csv"))
    assert "p.csv:3: " in refused
    assert "--confirm B-l" in refused
    assert "Type the value" not in shown
    assert not places(config)


def test_a_script_is_refused_with_the_option_that_confirms(config):
    gardien("place", "new", "A-0-1", "--as", "anne", "-c", config)
    move = ("occupancy", "move-in", "A-0-1", "--since", "15/11/2036", "--as", "anne", "-c", config)
    refused = gardien(*move)
    assert refused.exit_code == 1
    assert str(refused.exception).endswith(" --confirm 2036-11-15")
    assert gardien(*move, "--confirm", "15/11/2036").exit_code == 0
    french = gardien("place", "new", "A-O-1", "--as", "anne", "-c", config, env={"LANG": "fr_FR"})
    assert "Est-ce bien « A-O-1 », ou plutôt « A-0-1 » ?" in str(french.exception)


def test_an_alias_that_looks_like_that_of_another_place_is_questioned(config):
    """Rule I26."""
    by = ("--as", "anne", "-c", config)
    for label in ("A-1", "A-2"):
        assert gardien("place", "new", label, *by).exit_code == 0
    assert gardien("place", "alias", "add", "A-1", "bis:desigo", "flat/O1", *by).exit_code == 0
    refused = gardien("place", "alias", "add", "A-2", "bis:desigo", "flat/01", *by)
    assert refused.exit_code == 1
    assert '"flat/01" looks like "flat/O1", which belongs to A-1' in str(refused.exception)
    again = ("place", "alias", "add", "A-2", "bis:desigo", "flat/01", "--confirm", "flat/01")
    assert gardien(*again, *by).exit_code == 0
    # another scheme, and another name of the same place, are no mistake
    for scheme, value in (("bis:tac", "flat/01"), ("bis:desigo", "flat/1")):
        added = gardien("place", "alias", "add", "A-1", scheme, value, *by)
        assert added.exit_code == (0 if scheme == "bis:tac" else 1)


def test_the_questions_cross_the_socket(config):
    async def asked():
        async with visited(config) as gateway:
            caller = Caller("anne", None)
            await CALLS["place.new"](gateway, caller, label="A-0-1", type="dwelling")
            new = {"call": "place.new", "args": {"label": "A-O-1", "type": "dwelling"}}
            return await local.answer(gateway, new, caller)

    line = json.dumps(asyncio.run(asked())).encode()
    with pytest.raises(NeedsConfirmation) as doubtful:
        local._answer([line], print)
    assert [(doubt.value, doubt.other) for doubt in doubtful.value.doubts] == [("A-O-1", "A-0-1")]


def test_a_closing_index_is_compared_with_the_last_reading_of_that_meter(config):
    async def asked():
        async with visited(config) as gateway:
            caller = Caller("anne", None)
            await CALLS["place.new"](gateway, caller, label="A-1", type="dwelling")
            assigned = {"device": "m-1", "dwelling": "A-1", "serial": "00 4512"}
            await CALLS["meter.assign"](gateway, caller, **assigned, since="2026-01-01")
            _, device = gateway.lines.find("m-1")
            (index,) = [p for p in device.points if p.channel == "elec.imp" and not p.derived]
            read = time.time() - 3600
            device.good = {
                ("4512", index.name): Sample(index, read, Decimal(8412)),
                ("9999", index.name): Sample(index, read, Decimal(3)),  # the new meter
            }
            (meter,) = gateway.registry.installations()
            assert last_readings(gateway, meter)["elec.imp"].value == 8412
            exchange = {"place": "A-1", "serial": "9999"}
            with pytest.raises(
                NeedsConfirmation, match="more than the meter can count"
            ) as doubtful:
                await CALLS["meter.exchange"](
                    gateway, caller, **exchange, closing=["elec.imp=84120"]
                )
            await CALLS["meter.exchange"](gateway, caller, **exchange, closing=["elec.imp=8412.4"])
            return [(doubt.value, doubt.other) for doubt in doubtful.value.doubts]

    assert asyncio.run(asked()) == [("84120", "8412")]


@pytest.mark.parametrize("confirmed", [False, True])
def test_an_exchange_without_its_time_is_questioned_if_the_new_meter_was_read_before(
    config, confirmed
):
    """Rule M24: what it counted until the recording would be nobody's."""

    async def asked():
        async with visited(config) as gateway:
            caller = Caller("anne", None)
            await CALLS["place.new"](gateway, caller, label="A-1", type="dwelling")
            assigned = {"device": "m-1", "dwelling": "A-1", "serial": "4512"}
            await CALLS["meter.assign"](gateway, caller, **assigned, since="2026-01-01")
            _, device = gateway.lines.find("m-1")
            (index,) = [p for p in device.points if p.channel == "elec.imp" and not p.derived]
            unread = UnassignedReadings(gateway.registry, None, None)
            gateway.unsent["shelf"] = unread
            slot = int(time.time()) // 900 * 900 - 1800
            for at in (slot + 900, slot):
                unread.note(at, [Sample(index, at, Decimal(3))], "00 9999")
            exchange = {"place": "A-1", "serial": "9999"}
            with pytest.raises(NeedsConfirmation) as doubtful:
                await CALLS["meter.exchange"](gateway, caller, **exchange)
            (doubt,) = doubtful.value.doubts
            at = datetime.fromtimestamp(slot, ZoneInfo("Europe/Paris")).isoformat(
                timespec="minutes"
            )
            assert str(doubt.question).endswith(f" --at {at}")
            words = {"confirm": [doubt.value]} if confirmed else {"at": at}
            answer = await CALLS["meter.exchange"](gateway, caller, **exchange, **words)
            return answer["meters"][1]["since"], doubt.value, slot

    since, value, slot = asyncio.run(asked())
    assert value == "now"
    assert (datetime.fromisoformat(since).timestamp() == slot) is not confirmed

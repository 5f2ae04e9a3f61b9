"""The section `sheet` of a control: what it refuses, and what ends the operator's signature."""

from __future__ import annotations

import pytest

from agent.config import load
from agent.config.config import control_definitions
from agent.core.errors import ConfigError

BOILER = """\
building: {name: Les Alpins, timezone: Europe/Paris}
links:
  bms: {driver: bacnet, address: 127.0.0.1/8}
devices:
  boiler:
    link: bms
    address: 1201
    points:
      offset: {at: "analog-value,7", unit: K, every: 1h, writable: true}
      setpoint: {at: "analog-value,8", unit: Cel, every: 1h, writable: true}
      supply: {at: "analog-input,1", channel: temp.supply, unit: Cel, every: 10s}
      room: {at: "analog-input,2", channel: temp, unit: Cel, every: 10s}
      power: {at: "analog-input,3", unit: W, every: 10s}
controls:
  heating:
    point: boiler/offset
    equipment: heating
    modality: {action: offset, min: -2, max: 1, max_duration: 2h}
    guards: [{point: boiler/room, min: 18}]
    require: [boiler_operator]
    restore: relinquish
    device_watchdog: none-accepted
    sheet:
      operator: Chaleur & Fils
      phones: [{name: Astreinte, number: "+33 4 76 00 00 00"}]
      excluded: [hot-water, legionella]
      lowest_supply: {point: boiler/supply, min: 45}
privacy: {policy: DEMO-1}
clock: {source: system}
state: """
SETPOINT = (
    "boiler/offset", "boiler/setpoint", "offset, min: -2, max: 1", "setpoint, min: 40, max: 60",
)  # fmt: skip


def loaded(folder, *changes):
    text = BOILER + str(folder)
    for before, after in zip(changes[::2], changes[1::2], strict=True):
        assert before in text
        text = text.replace(before, after)
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path)


def sha256(folder, *changes):
    return control_definitions(loaded(folder, *changes))["heating"].to_sign


SIGNED_OFF = {
    "the telephone number": ("76 00 00 00", "76 00 00 01"),
    "the lowest supply temperature": ("min: 45", "min: 44"),
    "what is excluded": ("hot-water, legionella", "hot-water"),
    "a limit": ("max_duration: 2h", "max_duration: 3h"),
    "the notice": ("max_duration: 2h", "max_duration: 2h, min_notice: 30min"),
    "the object that is written": ("analog-value,7", "analog-value,9"),
    "the controller": ("address: 1201", "address: 1203"),
    "the object that measures the supply temperature": ("analog-input,1", "analog-input,9"),
    "the priority": ("127.0.0.1/8}", "127.0.0.1/8, slots: {demand_response: 12}}"),
    "the building": ("Les Alpins", "Les Bleuets"),
    "the name of the control": ("  heating:", "  boiler:"),
}


@pytest.mark.parametrize("what", SIGNED_OFF)
def test_the_signature_ends_with_each_thing_that_the_sheet_states(tmp_path, what):
    """Rule H35."""
    changes = SIGNED_OFF[what]
    before = sha256(tmp_path)
    (after,) = control_definitions(loaded(tmp_path, *changes)).values()
    assert after.to_sign != before
    assert after.modality.version == after.to_sign[:10]


def test_the_signature_outlives_what_the_sheet_does_not_state(tmp_path):
    before = sha256(tmp_path)
    assert sha256(tmp_path, "require:", "measure: boiler/power\n    require:") == before
    assert sha256(tmp_path, "every: 1h, writable", "every: 30min, writable") == before


def test_without_a_sheet_the_version_is_the_one_on_earlier_pages_and_nothing_is_to_sign(tmp_path):
    """Rule H31: it covers the options of the control alone."""
    without = BOILER[BOILER.index("    sheet:") : BOILER.index("privacy:")]
    first = control_definitions(loaded(tmp_path, without, ""))["heating"]
    other = control_definitions(loaded(tmp_path, without, "", "Les Alpins", "Les Bleuets"))
    assert first.modality.version == other["heating"].modality.version == "5630bedebf"
    assert not first.to_sign


def test_the_lowest_supply_temperature_is_a_guard_beside_the_others(tmp_path):
    """Rule H34."""
    guards = control_definitions(loaded(tmp_path))["heating"].modality.guards
    assert [(one.name, str(one.least), one.every) for one in guards] == [
        ("boiler/room", "18", 10), ("supply", "45", 10),
    ]  # fmt: skip


WRONG = {
    "an unknown key": (("operator:", "exploitant:"), "exploitant: no such option"),
    "a telephone number": (("+33 4 76 00 00 00", "ask Marc"), "expected a telephone number"),
    "no telephone number": (('[{name: Astreinte, number: "+33 4 76 00 00 00"}]', "[]"), "at least"),
    "an exclusion nobody knows": (("legionella", "legionela"), "legionella"),
    "an unknown point": (("boiler/supply", "boiler/suply"), "suply"),
    "a supply that is seldom read": (
        ("unit: Cel, every: 10s}\n      room", "unit: Cel, every: 1h}\n      room"),
        "a guard must be read at least every 15min",
    ),
    "a setpoint that may be the supply itself": (SETPOINT, "`commanded` is missing"),
    "a supply that may be commanded below the lowest": (
        (*SETPOINT, "min: 45}", "min: 45, commanded: true}"),
        "the modality permits 40, which is below the lowest supply temperature 45",
    ),
    "a choice below the lowest": (
        (*SETPOINT[:2], "action: offset, min: -2, max: 1", "action: setpoint, choices: [44, 60]",
         "min: 45}", "min: 45, commanded: true}"),
        "the modality permits 44",
    ),
    "another guard of this name": (
        ("{point: boiler/room,", "{name: supply, point: boiler/room,"),
        "a guard cannot have the name",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_it_is_refused_with_what_is_wrong(tmp_path, what):
    changes, words = WRONG[what]
    with pytest.raises(ConfigError, match=words.replace("`", ".")):
        loaded(tmp_path, *changes)


@pytest.mark.parametrize("commanded", ["true", "false"])
def test_a_setpoint_above_the_lowest_or_of_another_temperature_is_right(tmp_path, commanded):
    low = "45" if commanded == "true" else "15"
    changes = (*SETPOINT[:3], f"setpoint, min: {low}, max: 60")
    changes = (*changes, "min: 45}", f"min: 45, commanded: {commanded}}}")
    assert loaded(tmp_path, *changes).controls["heating"].sheet.lowest_supply.min == 45

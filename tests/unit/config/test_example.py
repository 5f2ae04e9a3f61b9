"""The sample that is shipped, and what a configuration gives to the agent."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from pydantic import ValidationError

from agent.config import Config, load, parse
from agent.config.check import check, summary
from agent.config.compose import SECTIONS
from agent.config.models import Top
from agent.core.errors import ConfigError
from tests.unit.config.samples import EXAMPLE, LOOPBACK, SMALL, changed, edited_sample


def test_the_sample_is_right_but_for_its_own_values(tmp_path):
    load(EXAMPLE)
    file = tmp_path / "config.yaml"
    file.write_text(edited_sample(), encoding="utf-8")
    status, text = check(file)
    assert status == 0, text


def test_the_sample_shows_every_section():
    text = EXAMPLE.read_text(encoding="utf-8")
    for section in (*SECTIONS, *Top.model_fields):
        # what would open the page on somebody else's address is shown as a comment
        assert (f"\n# {section}:" if section == "web" else f"\n{section}:") in text


def test_the_section_that_the_sample_shows_as_a_comment_is_right():
    text = EXAMPLE.read_text(encoding="utf-8").replace("\n# web:", "\nweb:")
    assert parse(text, EXAMPLE).web.listen == ("192.168.1.10:8443",)


def test_points_come_from_the_profile_and_from_what_is_written_beside_it():
    points = load(EXAMPLE).points()
    assert [(p.name, p.channel, p.every) for p in points["sdm-12"]] == [
        ("energy_import", "elec.imp", 900),
        ("active_power", "elec.power", 600),
    ]
    supply, heat = points["boiler-pump"]
    assert (supply.at, supply.scale, supply.unit) == ("holding/100/int16", Decimal("0.1"), "Cel")
    assert (heat.unit, heat.every, heat.place) == ("Wh", 3600, "CZS2YFSTBQQ5WDC")
    assert [p.name for p in points["sdm-11"]] == ["energy_import"]


def test_points_are_worked_out_once_and_a_configuration_is_the_same_afterwards():
    config = load(EXAMPLE)
    before = config.fingerprint
    assert config.points() is config.points()  # every look at how it is asks for all of them
    assert config == load(EXAMPLE)
    assert (load(EXAMPLE).fingerprint, config.fingerprint) == (before, before)


def test_what_is_written_wins_over_the_profile():
    text = changed(
        "profile: eastron-sdm120}",
        "profile: eastron-sdm120, points: {energy_import: {at: input/342/float32, scale: 10}}}",
    )
    (point,) = parse(text, "x").points()["sdm-12"]
    assert (point.at, point.scale, point.unit) == ("input/342/float32", Decimal(10), "kWh")


def test_the_serial_number_is_a_point_of_its_own_that_is_never_a_reading():
    config = load(EXAMPLE)
    serial = config.serial_point("sdm-12")
    assert serial is not None
    assert (serial.at, serial.every, serial.channel) == ("holding/64512/uint32", 0, None)
    assert config.serial_point("boiler-pump") is None


def test_what_is_not_said_has_its_default():
    config = parse(SMALL, "x")
    assert (config.privacy.policy, config.clock.source, str(config.state)) == (
        "FR-1",
        "ntp",
        "/var/lib/gardien",
    )
    assert (config.spool.max, config.spool.flush, config.spool.keep) == (200_000_000, 5, 1_209_600)
    assert config.points()["sdm-12"][0].every == 900
    assert config.building.timezone == "Europe/Paris"


def test_settings_of_lines_and_uplinks_are_their_own_models():
    config = load(EXAMPLE)
    assert (config.links["riser-a"].driver, config.links["riser-a"].settings.port) == (
        "modbus-tcp",
        502,
    )
    uplink = config.uplinks["metropole"]
    assert (uplink.transport, uplink.settings.recipient, uplink.settings.seal) == (
        "mqtt",
        "energie.metropole.example",
        60,
    )


def test_a_demonstration_on_loopback_may_use_its_policy_and_clock():
    config = parse(LOOPBACK, "x")
    assert (config.privacy.policy, config.clock.source) == ("DEMO-1", "system")


def test_common_plant_may_leave_from_the_buildings_own_midnight():
    config = load(EXAMPLE)
    assert config.midnight(dt.date(2026, 7, 12)) == 1783807200  # 2026-07-11T22:00:00Z
    assert config.midnight(dt.date(2026, 1, 12)) == 1768172400  # 2026-01-11T23:00:00Z


def test_an_address_keeps_its_leading_zeros_and_a_decimal_its_digits():
    text = changed("address: 12", "address: 012")
    assert parse(text, "x").devices["sdm-12"].address == "012"
    text = changed(
        "profile: eastron-sdm120",
        "points: {a: {at: input/1/int16, scale: 0.10000000000000000001}}",
    )
    assert str(parse(text, "x").points()["sdm-12"][0].scale) == "0.10000000000000000001"


def test_a_configuration_cannot_be_changed():
    config = parse(SMALL, "x")
    with pytest.raises(ValidationError, match="frozen"):
        config.state = EXAMPLE


def test_anchors_and_merges_spare_repetition():
    text = changed(
        "  sdm-12: {link: plant, address: 12, profile: eastron-sdm120}\n",
        "  sdm-12: &meter {link: plant, address: 12, profile: eastron-sdm120, every: 1h}\n"
        "  sdm-13: {<<: *meter, address: 13}\n",
    )
    config = parse(text, "x")
    assert isinstance(config, Config)
    assert [(d.address, d.every) for d in config.devices.values()] == [("12", 3600), ("13", 3600)]


def test_the_summary_names_the_sums_over_dwellings():
    sample = EXAMPLE.read_text(encoding="utf-8")
    asked = sample.replace("    # sums: [elec.imp, heat] ", "    sums: [elec.imp, heat] ")
    assert "sums over 11 dwellings or more: elec.imp, heat" in summary(parse(asked, "x"))


def test_the_summary_fits_a_screen_and_says_what_stands_in_the_way():
    """Rule P11."""
    text = summary(load(EXAMPLE))
    assert all(len(line) <= 80 for line in text.splitlines()), text
    assert "riser-a: modbus-tcp, 2 devices" in text
    assert "2 values every 15 min: 192 readings a day" in text
    assert "readings are dated once a time service keeps the clock" in text
    sample = EXAMPLE.read_text(encoding="utf-8")
    without = sample[: sample.index("  common:")] + sample[sample.index("# Readings are dated") :]
    assert "! not sent, for the legal basis is missing: boiler" in summary(parse(without, "x"))
    fast = changed("every: 10min", "every: 5min", sample)
    assert "1 value of dwellings is never sent: its step is under 10min" in summary(
        parse(fast, "x")
    )


def test_check_says_how_much_is_wrong(tmp_path):
    file = tmp_path / "config.yaml"
    own = changed("energie.metropole.example", "energie.ville.example")
    file.write_text(changed("driver", "drivr", own) + "state: here\n")
    status, text = check(file)
    assert status == 1
    assert text.splitlines()[-1] == (
        "2 problems: the agent does not start with this file; an agent that runs already keeps the"
        " previous one. Correct them, then: gardien check"
    )


def test_a_file_that_is_not_there_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="a folder, a pipe or a device"):
        load(tmp_path)
    status, text = check(tmp_path / "none.yaml")
    assert status == 1
    assert "config.example.yaml, or name your file: --config FILE" in text

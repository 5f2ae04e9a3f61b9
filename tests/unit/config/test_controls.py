"""What a control takes from the profile of its device."""

from __future__ import annotations

from decimal import Decimal

import pytest

from agent.config import load
from agent.config.config import control_definitions
from agent.core.errors import ConfigError

CHARGER = """\
building: {name: Les Alpins, timezone: Europe/Paris}
links:
  cars: {driver: modbus-tcp, host: 127.0.0.1, port: 1502}
devices:
  wallbox:
    link: cars
    address: 255
    place: CZS2Y-FSTBQ-Q5WDC
    profile: %s
    points:
      limit: {at: holding/1100/uint32 write@5004/uint16 alone, unit: A, scale: 0.001,
        every: 1h, writable: true}
uplinks:
  metropole: {recipient: a.example, transport: mqtt, url: "mqtt://127.0.0.1"}
controls:
  wallbox-limit:
    point: wallbox/limit
    modality: {action: limit, min: 6, max: 32, max_duration: 4h, failsafe: {value: 10}}
    require: [building_manager]
    restore: preimage
    device_watchdog: profile
state: %s
"""


def load_with(profile, folder):
    path = folder / "config.yaml"
    path.write_text(CHARGER % (profile, folder), encoding="utf-8")
    return load(path)


def test_the_watchdog_that_the_profile_names_is_told_at_half_its_time(tmp_path):
    """Rule H23."""
    config = load_with("keba-p30", tmp_path)
    dog = control_definitions(config)["wallbox-limit"].watchdog
    assert (dog.place.point, dog.word, dog.pause) == ("failsafe_timeout", Decimal(60), 30)
    assert dog.fallback.point == "failsafe_current"
    assert dog.place.device == "wallbox"
    assert config.controls["wallbox-limit"].device_watchdog.timeout == 60


def test_a_passed_test_counts_after_an_upgrade_whatever_the_classes_are_called_now(tmp_path):
    """Rule H22."""
    control = control_definitions(load_with("keba-p30", tmp_path))["wallbox-limit"]
    assert control.fingerprint == "0f57ede4be7738a3"


def test_a_profile_without_a_watchdog_gives_nothing_back(tmp_path):
    with pytest.raises(ConfigError, match="names no watchdog"):
        load_with("eastron-sdm120", tmp_path)


@pytest.mark.parametrize(("every", "right"), [("1min", True), ("15min", False)])
def test_an_off_switch_that_is_seldom_read_is_none(tmp_path, every, right):
    text = CHARGER % ("keba-p30", tmp_path)
    limit = f"points:\n      off: {{at: coil/1, unit: '1', every: {every}}}"
    text = text.replace("points:", limit, 1)
    text = text.replace("restore: preimage", "restore: preimage\n    inhibit: wallbox/off")
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    if right:
        assert load(path).controls["wallbox-limit"].inhibit == "wallbox/off"
    else:
        with pytest.raises(ConfigError, match="an off switch must be read at least every minute"):
            load(path)


@pytest.mark.parametrize("wrong", ["0s", "119min", "25h"])
def test_a_failsafe_lasts_two_hours_at_least_and_a_day_at_most(tmp_path, wrong):
    """EEBUS LPC: its duration is set from 2 h to 24 h."""
    text = CHARGER % ("keba-p30", tmp_path)
    path = tmp_path / "config.yaml"
    said = "failsafe: {value: 10, min_duration: %s}"
    for right in ("2h", "1d"):
        path.write_text(text.replace("failsafe: {value: 10}", said % right), encoding="utf-8")
        load(path)
    path.write_text(text.replace("failsafe: {value: 10}", said % wrong), encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r":18:102: .*failsafe\.min_duration: expected at (least 2h|most 1d)"
    ):
        load(path)


TWO = """\
  wallbox-limit:
    point: wallbox/limit
    modality: {action: limit, min: 6, max: 32, max_duration: 4h, failsafe: {value: 10}}
    require: [building_manager]
    restore: preimage
    device_watchdog: %s
  other:
    point: wallbox/%s
    modality: {action: limit, min: 6, max: 32, max_duration: 4h, failsafe: {value: 10}}
    require: [building_manager]
    restore: preimage
    device_watchdog: %s
    shown: {value: wallbox/%s}
state: """


def load_two(folder, point, told, dog="none-accepted", more=""):
    points = """    points:
      same: {at: holding/1100/int32, unit: A, every: 1h, writable: true}
      two: {at: holding/1104/uint16, unit: A, every: 1h, writable: true}
      dog: {at: holding/1105/uint16, unit: s, every: 1h, writable: true}
      said: {at: holding/1106/uint16, unit: A, every: 1h, writable: true}
"""
    text = CHARGER % ("keba-p30", folder)
    text = text.replace("    points:\n", points, 1)
    text = text[: text.index("  wallbox-limit:")] + TWO % (dog, point, dog, told) + str(folder)
    path = folder / "config.yaml"
    path.write_text(text.replace("uplinks:", more + "uplinks:", 1), encoding="utf-8")
    return load(path)


@pytest.mark.parametrize(
    ("point", "told", "where"),
    [
        ("limit", "said", 'other.point: "wallbox-limit.point" in line 21 writes'),
        ("same", "said", 'other.point: "wallbox-limit.point" in line 21 writes'),
        ("two", "limit", 'other.shown.value: "wallbox-limit.point" in line 21 writes'),
        ("two", "two", 'other.shown.value: "other.point" in line 27 writes'),
    ],
    ids=["one point", "one register under two names", "said over another's", "said over its own"],
)
def test_what_one_control_writes_no_other_word_writes(tmp_path, point, told, where):
    with pytest.raises(ConfigError, match=where):
        load_two(tmp_path, point, told)


def test_two_controls_of_a_device_may_share_its_watchdog(tmp_path):
    shared = "{point: wallbox/dog, timeout: 60s}"
    assert set(load_two(tmp_path, "two", "said", shared).controls) == {"wallbox-limit", "other"}


def test_a_watchdog_is_on_the_line_of_what_it_watches(tmp_path):
    far = """  far:
    link: cars
    address: 1
    place: CZS2Y-FSTBQ-Q5WDC
    points: {dog: {at: holding/1/uint16, unit: s, every: 1h, writable: true}}
"""
    elsewhere = far.replace("cars", "plant")
    shared = "{point: far/dog, timeout: 60s}"
    assert load_two(tmp_path, "two", "said", shared, far).controls
    path = tmp_path / "config.yaml"
    text = path.read_text(encoding="utf-8").replace(far, elsewhere)
    plant = "links:\n  plant: {driver: modbus-tcp, host: 127.0.0.2}\n"
    path.write_text(text.replace("links:\n", plant), encoding="utf-8")
    with pytest.raises(ConfigError, match='the watchdog is on "plant", and the point is not'):
        load(path)

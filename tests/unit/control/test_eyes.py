"""Guards rule G6: a guard is not held up by a sensor that is broken or stuck. Rules M5, H3."""

from decimal import Decimal

import pytest

from agent.config import load
from agent.control.guard import fresh, tripped
from agent.control.model import Guard
from agent.core.clock import Clock
from agent.core.model import Sample, Why
from agent.gateway.controls import PointReadings

CONFIG = """\
building: {name: Les Alpins, timezone: Europe/Paris}
links:
  plant: {driver: modbus-tcp, host: 127.0.0.1}
devices:
  stairs:
    link: plant
    address: 1
    place: CZS2Y-FSTBQ-Q5WDC
    points:
      temp: {at: holding/0/int16, channel: temp, unit: Cel, scale: 0.1, every: 1min}
      fan: {at: holding/1/uint16, unit: "1", every: 1min}
uplinks:
  metropole: {recipient: a.example, transport: mqtt, url: "mqtt://127.0.0.1"}
state: %s
"""
STAIRWELL = Guard("stairwell", "stairs", "temp", 60, Decimal(18), None, "Cel")


class Stairs:
    """Sensors that say what they are told to say."""

    def __init__(self, folder) -> None:
        path = folder / "config.yaml"
        path.write_text(CONFIG % folder, encoding="utf-8")
        self.config = load(path)
        self.at, self.says, self.detail = 0.0, {}, ""
        clock = Clock("system", wall=lambda: 1e9 + self.at, steady=lambda: self.at)
        self.eyes = PointReadings(lambda: self.config, clock, self.latest)

    def latest(self, device: str, name: str) -> Sample | None:
        value, point = self.says.get(name), self.config.point(f"{device}/{name}")
        why = Why.BAD if value is None else None
        read = None if value is None else Decimal(value)
        return Sample(point, 1e9 + self.at, read, why, self.detail)

    def look(self, name: str = "temp"):
        return fresh(self.eyes.seen("stairs", name))


@pytest.fixture
def stairs(tmp_path):
    return Stairs(tmp_path)


@pytest.mark.parametrize(
    ("raw", "seen"), [(184, "18.4"), (32767, None), (-1270, None), (850, None)]
)
def test_a_value_that_cannot_be_holds_no_guard_up(stairs, raw, seen):
    stairs.says["temp"] = raw
    assert stairs.look() == (None if seen is None else Decimal(seen))
    no = tripped((STAIRWELL,), stairs.eyes.seen)
    assert (no is None) == (seen is not None)
    assert no is None or "which is not plausible" in no.reason


def test_a_bad_value_holds_no_guard_up_and_the_guard_says_why_it_is_bad(stairs):
    stairs.says["temp"] = None
    stairs.detail = "the object is in MWh, and `unit` says kWh"
    no = tripped((STAIRWELL,), stairs.eyes.seen)
    assert no.reason == f"stairwell has no valid value: {stairs.detail}"


def test_a_sensor_that_says_the_very_same_for_a_day_is_stuck_until_it_moves(stairs):
    stairs.says = {"temp": 201, "fan": 1}
    for hour in range(25):
        stairs.at = hour * 3600.0
        assert stairs.look() == Decimal("20.1")
        stairs.look("fan")
    stairs.at += 60
    assert "stuck" in tripped((STAIRWELL,), stairs.eyes.seen).reason
    assert stairs.look("fan") == 1  # a switch may stand still for ever
    stairs.says["temp"] = 200
    assert stairs.look() == Decimal("20.0")
    stairs.at += 3600
    stairs.says["temp"] = None
    assert stairs.look() is None

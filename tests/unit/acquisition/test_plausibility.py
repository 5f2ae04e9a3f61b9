"""Readings that contradict each other for days are told, also after a restart.
Rule M23.
"""

from decimal import Decimal

import pytest

from agent.acquisition.device import Device
from agent.acquisition.plausibility import FILE, Plausibility
from agent.core.atomic_write import later
from agent.core.model import Point, Sample, Why

HOUR, DAY = 3600.0, 86_400.0
NOON = 1_790_000_000.0
HEAT = [
    Point("h-1", "supply_temperature", "1", "a", 3600, "temp.supply", "Cel"),
    Point("h-1", "return_temperature", "1", "b", 3600, "temp.return", "Cel"),
    Point("h-1", "flow", "1", "c", 3600, None, "m3"),
]
ELECTRIC = [
    Point("e-1", "energy_import", "1", "a", 60, "elec.imp", "kWh", rating=Decimal(9)),
    Point("e-1", "active_power", "1", "b", 60, "elec.power", "kW"),
]


class Days:
    """Reads of one device, hour by hour."""

    def __init__(self, path=None, points=HEAT, devices=("h-1", "e-1")):
        self.device = Device(points[0].device, points)
        self.made = Plausibility(path, devices)
        self.now = NOON

    def read(self, *values, hours=1, every=HOUR, odd=None):
        for _ in range(hours):
            self.now += every
            samples = [
                Sample(point, self.now, None if value is None else Decimal(str(value)),
                       Why.BAD if value is None else None)
                for point, value in zip(self.device.points, values, strict=False)
            ]  # fmt: skip
            self.made.note(self.device, samples, self.now, odd or {})
        return [one["kind"] for one in self.made.of(self.device.name, self.now)]


def test_a_return_hotter_than_its_supply_is_told_after_three_days_with_when_it_began():
    days = Days()
    assert days.read(40, 50, 0.3, hours=72) == []
    assert days.read(40, 50, 0.3) == ["hotter-return"]
    (odd,) = days.made.of("h-1", days.now)
    assert odd["since"] == NOON + HOUR


def test_one_read_with_flow_the_right_way_round_ends_it_and_standing_water_does_not_count():
    days = Days()
    days.read(40, 50, 0.3, hours=80)
    # nothing flows, or both are nearly equal: neither begins nor ends it
    assert days.read(60, 30, 0, hours=5) == ["hotter-return"]
    assert days.read(40, 40.5, 0.3) == ["hotter-return"]
    assert days.read(50, 40, 0.3) == []
    assert days.read(40, 50, 0.3, hours=72) == []
    standing = Days()
    assert standing.read(20, 50, 0, hours=200) == []


@pytest.mark.parametrize(("difference", "kinds"), [(2, []), (4, ["hotter-return"])])
def test_without_a_flow_the_difference_must_be_larger(difference, kinds):
    assert Days().read(40, 40 + difference, hours=80) == kinds


def test_days_survive_a_restart_and_a_long_gap_begins_anew(tmp_path):
    before = Days(tmp_path / FILE)
    before.read(40, 50, 0.3, hours=60)
    assert later.settle(60)
    after = Days(tmp_path / FILE)
    after.now = before.now
    assert after.read(40, 50, 0.3, hours=13) == ["hotter-return"]
    assert later.settle(60)
    late = Days(tmp_path / FILE)
    late.now = before.now + 5 * DAY
    assert late.read(40, 50, 0.3, hours=60) == []
    assert not list(Days(tmp_path / FILE, devices=()).made.of("h-1", NOON))


def test_a_meter_that_also_cools_and_another_meter_are_not_judged():
    cooling = Point("h-1", "cooling_energy", "1", "d", 3600, "cool", "kWh")
    days = Days(points=[*HEAT, cooling])
    assert days.read(40, 50, 0.3, 5, hours=100) == []
    days = Days()
    days.read(40, 50, 0.3, hours=100)
    days.made.forget("h-1")
    assert days.read(40, 50, 0.3) == []


def test_the_driver_s_own_look_at_the_telegram_counts_where_no_temperature_is_read():
    days = Days(points=ELECTRIC[:1])
    assert days.read(1, hours=80, odd={"hotter": True}) == ["hotter-return"]
    assert days.read(1, odd={"hotter": False, "month_end": ["energy"]}) == ["month-end"]
    assert days.read(1, odd={}) == ["month-end"]  # this telegram did not tell
    assert days.read(1, odd={"month_end": []}) == []


def test_power_beyond_the_fuse_is_told_after_three_reads_and_for_a_day_after_the_last():
    days = Days(points=ELECTRIC)
    assert days.read(1, 10.8, hours=50, every=60) == []  # 1.2 times 9 kW
    assert days.read(1, 11, hours=2, every=60) == []
    assert days.read(1, 5, every=60) == []  # not in a row
    assert days.read(1, -11, hours=2, every=60) == []
    assert days.read(1, -11, every=60) == ["beyond-fuse"]
    assert days.read(1, 5, hours=23) == ["beyond-fuse"]
    assert days.read(1, 5, hours=2) == []


def test_a_device_without_a_rating_or_a_value_is_not_judged():
    days = Days(points=[ELECTRIC[1]])
    assert days.read(500, hours=9) == []
    assert Days(points=ELECTRIC).read(1, None, hours=9) == []

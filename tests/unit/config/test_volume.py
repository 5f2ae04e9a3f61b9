"""What `check` counts for the data volume of an uplink: rows that can leave, grouped by device."""

from agent.config import parse
from agent.config.check import summary
from agent.config.estimates import affordable, uplink_load
from agent.uplink.budget import ReadStream
from tests.unit.config.samples import changed

FOUR_VALUES = """profile: eastron-sdm120, every: 10min, points:
          {active_power: {every: 10min}, voltage: {every: 10min}, current: {every: 10min}}}"""


def streams(device: str) -> tuple[ReadStream, ...]:
    config = parse(changed("profile: eastron-sdm120}", device), "x")
    return uplink_load(config.uplinks["metropole"], config).streams


def test_values_of_one_device_count_as_one_group():
    (every_ten_minutes,) = streams(FOUR_VALUES)
    assert every_ten_minutes == ReadStream(600, 1, 1, 4, momentary=3, takes=0.1)


def test_meters_of_different_channels_count_as_meters_of_the_same_dwellings():
    water = "".join(
        f"\n  w{n}: {{link: plant, address: {n}, every: 15min, points:"
        " {v: {at: holding/0/uint32, channel: cw, unit: l}}}"
        for n in (1, 2)
    )
    (stream,) = streams(f"profile: eastron-sdm120, every: 15min}}{water}")
    assert (stream.dwellings, stream.devices, stream.values) == (2, 3, 3)


def test_what_a_dwelling_never_gives_is_not_counted():
    (stream,) = streams("profile: eastron-sdm120, points: {frequency: {every: 1min}}}")
    assert stream.step == 900, "no consent can name the frequency"


def test_a_dwelling_that_is_read_by_the_minute_counts_at_the_finest_step_that_leaves():
    (stream,) = streams("profile: eastron-sdm120, every: 1min}")
    assert (stream.step, stream.values) == (600, 1)


def test_a_line_that_carries_its_schedule_is_not_slowed():
    devices = "".join(f"  m{n}: {{link: plant, address: {n}, {FOUR_VALUES}\n" for n in range(1, 61))
    text = changed("  sdm-12: {link: plant, address: 12, profile: eastron-sdm120}\n", devices)
    config = parse(changed('192.168.10.5"}', '192.168.10.5", data: 100MB/month}', text), "x")
    settings = config.uplinks["metropole"].settings
    assert affordable(config, "metropole") == settings
    assert "of 100MB" in summary(config)
    assert "reduced to" not in summary(config)

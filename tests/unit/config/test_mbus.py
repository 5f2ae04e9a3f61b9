"""What the check says of M-Bus lines: who is taken for what, what line and battery can bear."""

from __future__ import annotations

import pytest

from agent.config import parse
from agent.config.check import summary
from agent.core.errors import ConfigError

LINE = """\
building: {{name: Les Alpins}}
links:
  heat: {{driver: mbus, port: /dev/ttyS1, baudrate: {baudrate}}}
devices:
{devices}
"""


def checked(devices, baudrate=2400):
    return parse(LINE.format(devices=devices, baudrate=baudrate), "config.yaml")


def told(devices, baudrate=2400):
    with pytest.raises(ConfigError) as refused:
        checked(devices, baudrate)
    return str(refused.value)


def test_a_meter_by_its_number_alone_is_taken_for_a_heat_meter_that_says_who_it_is():
    config = checked('  heat-0042: {link: heat, address: "45120042", every: 1h}')
    (point,) = config.points()["heat-0042"]
    assert (point.at, point.channel, point.unit, point.every) == (
        "heat:energy",
        "heat",
        "kWh",
        3600,
    )
    assert config.serial_point("heat-0042").at == "id"


def test_points_of_one_s_own_are_read_alone_with_the_number():
    config = checked(
        '  x: {link: heat, address: "45120042", points: '
        '{month: {at: "heat:energy/storage=1", unit: kWh}}}'
    )
    assert [point.at for point in config.points()["x"]] == ["heat:energy/storage=1"]
    assert config.serial_point("x").at == "id"


@pytest.mark.parametrize(
    ("devices", "words"),
    [
        ('  x: {link: heat, address: "4512", every: 1h}', "is not an M-Bus address"),
        ("  x: {link: heat, address: 5990001, every: 1h}", 'did you mean "05990001"?'),
        ("  x: {link: heat, address: “45120042”, every: 1h}", "use straight ones"),
        ('  x: {link: heat, address: "45120042", every: 15min}', "96 readings a day empty"),
        (
            '  x: {link: heat, address: "45120042", every: 30min, reads_a_day: 24}',
            "48 readings a day",
        ),
        (
            '  x: {link: heat, address: "4512004A"}\n  y: {link: heat, address: "4512004a"}',
            "already the address",
        ),
        ("  x: {link: heat, address: 7, profile: eastron-sdm120}", "speaks mbus"),
        (
            '  x: {link: heat, address: "1", every: 1h, points: {a: {at: "enrgy"}}}',
            '"enrgy" is not a quantity',
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_told(devices, words):
    assert words in told(devices)


def test_the_inputs_of_one_collector_empty_one_battery():
    """Rule F14."""
    inputs = "\n".join(
        f'  input-{n}: {{link: heat, address: "45120042/{n}", '
        f"profile: mbus-pulse-cold-water, every: 1h}}"
        for n in (1, 2)
    )
    words = told(inputs)
    assert "48 readings a day empty the battery of this meter, which is designed for 24" in words
    assert "`every: 1d`" in words  # steps of 2h and more pass midnight by in winter
    assert "of input-1, input-2 together" in words
    checked(inputs.replace("1h", "1d"))
    checked(inputs.replace("1h}", "1h, reads_a_day: 48}", 1))
    checked(inputs.replace("45120042/2", "45120043/2"))


def test_points_of_several_steps_are_all_counted():
    words = told(
        '  x: {link: heat, address: "45120042", profile: mbus-heat, every: 1h, '
        "points: {supply_temperature: {every: 90min}}}"
    )
    assert "32 readings a day" in words  # 24, and 16 of which every second is one of them


def test_what_the_maker_allows_may_be_read():
    checked('  x: {link: heat, address: "45120042", every: 15min, reads_a_day: 96}')


def test_a_line_that_cannot_carry_its_schedule_is_told_with_one_it_can():
    """Rule F10."""
    devices = "\n".join(
        f'  m{n}: {{link: heat, address: "{45120000 + n}", every: 15min, reads_a_day: 96}}'
        for n in range(250)
    )
    words = told(devices, baudrate=300)
    assert '"heat" cannot read its 250 devices so often: to read all once takes 22' in words
    assert "`every: 30min`" in words
    assert "250 devices, all read in" in summary(checked(devices.replace("15min", "1h"), 300))

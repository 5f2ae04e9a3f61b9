"""What is calculated and not read costs no line any time, and `check` says so without a word."""

from __future__ import annotations

import pytest

from agent.config import parse
from agent.config.check import summary
from agent.config.estimates import daily_load as outage_load
from agent.config.estimates import uplink_load
from agent.core.errors import Refused
from tests.unit.config.samples import changed

LINES = {
    "modbus-tcp": ("{driver: modbus-tcp, host: 192.168.10.20}", "eastron-sdm120", "energy_import"),
    "modbus-rtu": (
        "{driver: modbus-rtu, port: /dev/ttyUSB0, baudrate: 9600, parity: even}",
        "eastron-sdm120",
        "energy_import",
    ),
    "mbus": ("{driver: mbus, port: /dev/ttyUSB0, baudrate: 2400}", "mbus-heat", "heat_energy"),
}


@pytest.mark.parametrize("driver", LINES)
def test_a_line_of_any_kind_bears_intervals(driver):
    line, profile, index = LINES[driver]
    text = changed("{driver: modbus-tcp, host: 192.168.10.20}", line)
    plain = text.replace("profile: eastron-sdm120}", f"profile: {profile}, every: 1h}}")
    more = f"profile: {profile}, every: 1h, points: {{{index}: {{intervals: true}}}}}}"
    derived = text.replace("profile: eastron-sdm120}", more)
    before, after = (summary(parse(one, "x")).splitlines() for one in (plain, derived))
    assert before[1] == after[1]
    assert int(after[2].split()[1]) == int(before[2].split()[1]) + 1


PLANT = """place: CZS2Y-FSTBQ-Q5WDC, every: 10s, points:
          {door: {at: discrete/3, channel: %s, unit: "1"}}}"""


def test_a_state_takes_no_room_and_no_data_for_the_slots_in_which_it_is_not_told():
    as_state, as_value = (
        parse(changed("profile: eastron-sdm120}", PLANT % channel), "x")
        for channel in ("state.door", "state.mode")
    )
    assert (outage_load(as_state).rows, outage_load(as_value).rows) == (0, 8640)
    of = [uplink_load(config.uplinks["metropole"], config) for config in (as_state, as_value)]
    assert [sum(stream.values for stream in one.streams) for one in of] == [0, 1]


def test_a_state_has_no_mean():
    more = (PLANT % "state.door").replace('"1"}', '"1", mean: 1h}')
    with pytest.raises(Refused, match=r"state\.door is a state, which is sent when it changes"):
        parse(changed("profile: eastron-sdm120}", more), "x")

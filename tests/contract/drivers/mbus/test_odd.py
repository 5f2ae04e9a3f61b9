"""Meters that answer otherwise than the standard has it are named by a search."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from agent.drivers.base import Wish
from agent.drivers.mbus.settings import MbusTcpSettings
from hil.mbus.line import Bus
from tests.contract.drivers.hearing import scanned
from tests.contract.drivers.mbus.setting import heat, on_tcp, water

NUMBER, OTHER = "45123456", "45999999"


def found_on(*slaves, wish):
    async def attack():
        settings = MbusTcpSettings(host="127.0.0.1", port=1, baudrate=38_400, latency=0.01)
        async with on_tcp(Bus(list(slaves), baudrate=38_400)) as driver:
            return await scanned(driver, "mbus-tcp", settings, wish)

    return asyncio.run(attack())


def test_a_meter_that_answers_with_another_number_than_it_is_selected_by_is_named():
    wrong = heat(NUMBER)
    wrong.header = replace(wrong.plate, id=OTHER)
    found, hearing = found_on(wrong, wish=Wish(first=NUMBER[:6] + "FF", expected=(NUMBER,)))
    odd = hearing.odd[NUMBER, "number"]
    assert odd["sentence"] == f"meter {OTHER} answers when {NUMBER} was selected"
    assert NUMBER not in hearing.heard.values  # they are those of another meter
    assert any(OTHER in warning for one in found for warning in one.warnings)


@pytest.mark.parametrize("ignores", ["numbers", "wildcards"])
def test_a_meter_that_matches_any_selection_is_named(ignores):
    greedy, other = heat(NUMBER), water("12000001")
    greedy.ignores = ignores
    found, hearing = found_on(greedy, other, wish=Wish(first="45FFFFFF"))
    asked = {"numbers": "EEEEEEEE", "wildcards": "EEEEEEEF"}[ignores]
    odd = hearing.odd[asked, "any"]
    assert odd["sentence"].startswith(f"a meter acknowledges {asked}, a number that none has")
    assert any("answers whatever number is asked for" in w for one in found for w in one.warnings)


def test_a_meter_that_answers_at_every_primary_address_is_named():
    greedy = heat(NUMBER, primary=7)
    greedy.ignores = "address"
    _, hearing = found_on(greedy, wish=Wish(first="1", last="9"))
    assert ("252", "any") in hearing.odd


def test_every_record_of_a_meter_is_shown_also_those_that_no_channel_fits():
    meter = heat(NUMBER)
    says = meter.says
    meter.says = lambda: [says()[0] + b"\x04\xef\x01\x02\x03\x04\x05"]
    _, hearing = found_on(meter, wish=Wish(first=NUMBER[:6] + "FF", expected=(NUMBER,)))
    records = list(hearing.heard.values[NUMBER].values())
    assert [one["understood"] for one in records] == [True, True, True, True, False]
    assert records[-1]["hex"] == "02 03 04 05"

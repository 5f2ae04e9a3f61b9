"""Which record a point means, and what it is worth in the point's unit."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.drivers.mbus import registers
from agent.drivers.mbus.registers import Unfit, parse
from agent.drivers.profile import profile, profiles
from tests.unit.drivers.mbus.wire import HEADER, telegram


def value(at, records, unit="kWh", header=HEADER):
    return registers.point_value(parse(at), [telegram(records, header=header)], unit)


@pytest.mark.parametrize(
    ("at", "record", "unit", "digits"),
    [
        ("energy", "0C 06 67 45 23 01", "kWh", "1234567"),
        ("energy", "0C 07 67 45 23 01", "kWh", "12345670"),
        ("energy", "0C 05 67 45 23 01", "kWh", "123456.7"),
        ("energy", "0C 03 00 45 23 01", "kWh", "1234.500"),
        ("energy", "0C FB 00 67 45 23 01", "kWh", "123456700"),
        ("energy", "0C 0E 67 45 23 01", "MJ", "1234567"),
        ("volume", "0C 13 67 45 23 01", "m3", "1234.567"),
        ("volume/storage=1", "4C 13 67 45 23 01", "m3", "1234.567"),
        ("energy/tariff=2", "8C 20 06 67 45 23 01", "kWh", "1234567"),
        ("volume/subunit=1", "8C 40 13 67 45 23 01", "m3", "1234.567"),
        ("power/maximum", "1C 2B 34 12 00 00", "W", "1234"),
        ("volume/leakage", "0C 93 69 34 12 00 00", "m3", "1.234"),
        ("raw=0C13", "0C 13 67 45 23 01", "m3", "1234.567"),
    ],
)
def test_the_value_has_the_meter_s_own_digits_in_the_point_s_unit(at, record, unit, digits):
    others = "0C 22 01 00 00 00 4C 06 09 00 00 00" if "storage" not in at else ""
    assert str(value(at, record + others, unit)) == digits


@pytest.mark.parametrize(
    ("at", "records", "unit", "why"),
    [
        ("energy", "0C 13 67 45 23 01", "kWh", "no such register"),
        ("energy", "4C 06 67 45 23 01", "kWh", "no such register"),
        ("energy", "0C 06 67 45 23 0A", "kWh", "BCD"),
        ("energy", "0C 0E 67 45 23 01", "kWh", "counts in J"),
        ("cold-water:volume", "0C 13 67 45 23 01", "m3", "measures heat, not cold-water"),
        ("energy", "0C 06 01 00 00 00 04 06 02 00 00 00", "kWh", "raw=0C06, raw=0406"),
    ],
)
def test_where_there_is_no_one_value_there_is_none_and_the_reason(at, records, unit, why):
    with pytest.raises(Unfit, match=why):
        value(at, records, unit)


def test_the_status_byte_is_a_value_though_no_record_holds_it():
    power_low = HEADER.replace("55 00", "55 04")
    assert [value("status", "", "1", header) for header in (HEADER, power_low)] == [0, 4]
    with pytest.raises(Unfit, match="does not give its status"):
        registers.point_value(parse("status"), [telegram("0C 06 67 45 23 01", 0x78, "")], "1")


def test_one_value_said_twice_is_one():
    assert value("energy", "0C 06 34 12 00 00 04 06 D2 04 00 00") == 1234


def test_of_two_units_the_one_that_converts_is_taken():
    assert value("energy", "0C 0E 34 12 00 00 0C 06 34 12 00 00") == 1234


def test_an_encrypted_telegram_says_so():
    with pytest.raises(Unfit, match="encrypted"):
        value("energy", "A7" * 16, header=HEADER[:-5] + "10 05")


@pytest.mark.parametrize(
    "at", ["", "enrgy", "steam:energy", "energy/hot", "raw=0", "energy/tariff=x"]
)
def test_what_names_no_register_is_refused_in_words(at):
    with pytest.raises(ValueError, match=r"quantity|medium|is not storage="):
        parse(at)


@given(st.text(max_size=40))
def test_any_text_is_a_register_or_refused(text):
    with suppress(ValueError):
        assert parse(text) == parse(text)


@pytest.mark.parametrize("name", [name for name in profiles() if name.startswith("mbus")])
def test_a_profile_reads_what_its_source_says_and_the_number(name):
    made = profile(name)
    header = HEADER[:21] + f"{made.test['medium']:02X}" + HEADER[23:]
    said = [telegram(made.test["records"], header=header)]
    assert made.test["reads"].keys() >= set(made.defaults)
    for quantity, expected in made.test["reads"].items():
        offer = made.points[quantity]
        assert registers.point_value(parse(offer.at), said, offer.unit) == Decimal(str(expected))
    assert registers.point_value(parse(made.serial.at), said, "1") == "12345678"


@pytest.mark.parametrize(
    ("records", "above"),
    [
        ("0C 06 67 45 23 01 4C 06 68 45 23 01", ["energy"]),
        ("0C 06 67 45 23 01 4C 06 67 45 23 01", []),
        ("0C 13 67 45 23 01 4C 13 00 00 24 01", ["volume"]),
        # the index may have rolled over since
        ("0C 06 05 00 00 00 4C 06 90 99 99 99", []),
        # other tariff, other due date, a maximum: not the same index
        ("0C 06 67 45 23 01 CC 10 06 68 45 23 01", None),
        ("0C 06 67 45 23 01 8C 01 06 68 45 23 01", None),
    ],
)
def test_an_index_at_the_last_due_date_must_not_be_above_the_present_one(records, above):
    assert registers.odd([telegram(records)]).get("month_end") == above


@pytest.mark.parametrize(
    ("supply", "back", "flow", "hotter"),
    [("40", "50", "0B 3B 34 12 00", True), ("50", "40", "0B 3B 34 12 00", False),
     ("40", "50", "0B 3B 00 00 00", None), ("40", "42", "", None), ("40", "44", "", True)],
)  # fmt: skip
def test_a_heat_meter_tells_whether_its_return_is_hotter_than_its_supply(
    supply, back, flow, hotter
):
    records = f"0A 5B {supply} 00 0A 5F {back} 00 {flow}"
    assert registers.odd([telegram(records)]).get("hotter") is hotter

"""Every combinable VIFE of EN 13757-3: what it says, and what it makes of the value."""

from __future__ import annotations

from decimal import Decimal

import pytest

from agent.drivers.mbus.blocks import COMBINABLE_PAGE, ERROR_CODES
from tests.unit.drivers.mbus.wire import one

WORDS = """
12 average
14 relative deviation
1D standard conform data content
3A uncorrected
3B positive contributions only
3C negative contributions only, absolute
3D non-metric units
3E at base conditions
3F OBIS declaration
40 lower limit
48 upper limit
68 during lower limit exceed
6C during upper limit exceed
69 leakage
6D overflow
7E future value
FC01 phase L1
FC02 phase L2
FC03 phase L3
FC04 neutral
FC05 between L1 and L2
FC06 between L2 and L3
FC07 between L3 and L1
FC08 quadrant Q1
FC09 quadrant Q2
FC0A quadrant Q3
FC0B quadrant Q4
FC0C import minus export
FC0D non-metric units
FC0E secondary sensor
FC0F higher resolution
FC10 absolute value of both contributions
"""


@pytest.mark.parametrize("line", WORDS.strip().splitlines())
def test_a_vife_that_only_qualifies_leaves_value_and_unit(line):
    vife, _, words = line.partition(" ")
    record = one(f"02 93 {vife} D2 04")
    assert record.modifiers == (words,)
    assert (record.quantity, record.unit, record.value) == ("volume", "m3", Decimal("1.234"))


UNITS = """
20 per second|m3/s
21 per minute|m3/min
22 per hour|m3/h
23 per day|m3/d
24 per week|m3/week
25 per month|m3/month
26 per year|m3/year
27 per revolution|m3/rev
28 per input pulse on channel 0|m3/pulse
29 per input pulse on channel 1|m3/pulse
2A per output pulse on channel 0|m3/pulse
2B per output pulse on channel 1|m3/pulse
2C per litre|m3/l
2D per m3|m3/m3
2E per kg|m3/kg
2F per K|m3/K
30 per kWh|m3/kWh
31 per GJ|m3/GJ
32 per kW|m3/kW
33 per K and litre|m3/(K.l)
34 per V|m3/V
35 per A|m3/A
36 multiplied by s|m3.s
37 multiplied by s/V|m3.s/V
38 multiplied by s/A|m3.s/A
"""


@pytest.mark.parametrize("line", UNITS.strip().splitlines())
def test_a_vife_that_relates_changes_the_unit_of_the_value(line):
    vife, _, rest = line.partition(" ")
    words, _, unit = rest.partition("|")
    record = one(f"02 93 {vife} D2 04")
    assert record.modifiers == (words,)
    assert (record.vif_unit, record.unit, record.value) == ("m3", unit, Decimal("1.234"))


DURATIONS = {
    0x50: "duration of first lower limit exceed",
    0x54: "duration of last lower limit exceed",
    0x58: "duration of first upper limit exceed",
    0x5C: "duration of last upper limit exceed",
    0x60: "duration of first",
    0x64: "duration of last",
}


@pytest.mark.parametrize(("first", "words"), list(DURATIONS.items()))
@pytest.mark.parametrize(("n", "unit"), [(0, "s"), (1, "min"), (2, "h"), (3, "d")])
def test_a_duration_is_in_its_own_unit_and_not_scaled(first, words, n, unit):
    record = one(f"02 93 {first + n:02X} D2 04")
    assert record.modifiers == (words,)
    assert (record.vif_unit, record.unit, record.value) == ("m3", unit, 1234)


DATES = {
    0x39: "start of",
    0x42: "begin of first lower limit exceed",
    0x43: "end of first lower limit exceed",
    0x46: "begin of last lower limit exceed",
    0x47: "end of last lower limit exceed",
    0x4A: "begin of first upper limit exceed",
    0x4B: "end of first upper limit exceed",
    0x4E: "begin of last upper limit exceed",
    0x4F: "end of last upper limit exceed",
    0x6A: "begin of first",
    0x6B: "end of first",
    0x6E: "begin of last",
    0x6F: "end of last",
}


@pytest.mark.parametrize(("vife", "words"), list(DATES.items()))
def test_a_date_of_something_is_a_date(vife, words):
    record = one(f"02 93 {vife:02X} BC 19")
    assert (record.modifiers, record.unit, record.value) == ((words,), "", "2013-09-28")


@pytest.mark.parametrize(("vife", "limit"), [("41", "lower"), ("49", "upper")])
def test_a_count_of_exceeds_is_a_number_of_its_own(vife, limit):
    record = one(f"01 93 {vife} FF")
    assert record.modifiers == (f"exceeds of {limit} limit",)
    assert (record.unit, record.value) == ("1", 255)


@pytest.mark.parametrize("n", range(8))
def test_a_multiplicative_correction_is_a_power_of_ten(n):
    assert one(f"02 93 {0x70 + n:02X} D2 04").value == Decimal("1.234").scaleb(n - 6)


def test_a_correction_by_thousand():
    assert one("02 93 7D D2 04").value == 1234


def test_corrections_add_up():
    assert one("02 93 FD 74 D2 04").value == Decimal("12.34")


@pytest.mark.parametrize(("n", "constant"), [(0, "0.001"), (1, "0.01"), (2, "0.1"), (3, "1")])
def test_an_additive_correction_adds_to_the_value_in_its_unit(n, constant):
    assert one(f"02 93 {0x78 + n:02X} D2 04").value == Decimal("1.234") + Decimal(constant)


ERRORS = """
01 too many DIFEs
02 storage number not implemented
03 subunit not implemented
04 tariff not implemented
05 function not implemented
06 data class not implemented
07 data size not implemented
0B too many VIFEs
0C illegal VIF group
0D illegal VIF exponent
0E VIF does not fit DIF
0F action not implemented
15 no data available
16 data overflow
17 data underflow
18 data error
1C premature end of record
08 reserved error code 08h
10 reserved error code 10h
1B reserved error code 1Bh
"""


@pytest.mark.parametrize("line", ERRORS.strip().splitlines())
def test_a_record_error_is_no_value(line):
    vife, _, words = line.partition(" ")
    record = one(f"02 93 {vife} 00 00")
    assert (record.value, record.error) == (None, words)


def test_no_error_is_none():
    record = one("02 93 00 D2 04")
    assert (record.value, record.error, record.modifiers) == (Decimal("1.234"), None, ())


def test_the_phase_of_the_manufacturer_stays_in_the_identity():
    records = [one(f"02 FD C8 FF {phase:02X} D1 08") for phase in (1, 2, 3)]
    assert [r.modifiers for r in records] == [(f"manufacturer 0{n}",) for n in (1, 2, 3)]
    assert len({r.identity for r in records}) == 3
    assert {(r.quantity, r.value) for r in records} == {("voltage", Decimal("225.7"))}


def test_data_may_be_told_to_be_unsigned():
    assert one("01 93 FC 11 FF").value == Decimal("0.255")
    assert one("01 93 FC 12 80").value == Decimal("0.128")


@pytest.mark.parametrize("vife", ["44", "45", "4C", "4D"])
def test_a_reserved_vife_is_said_to_be_so(vife):
    assert one(f"02 93 {vife} D2 04").modifiers == (f"reserved VIFE {vife}h",)


def test_an_extension_without_its_code_is_said_to_be_reserved():
    assert one("02 93 7C D2 04").modifiers == ("reserved VIFE 7Ch",)
    assert one("02 93 FC 13 D2 04").modifiers == ("reserved VIFE FC 13h",)


def test_every_code_is_either_told_in_words_or_a_correction():
    silent = {code for code, vife in enumerate(COMBINABLE_PAGE) if not vife.text}
    assert silent == {0x00, 0x7D, *range(0x70, 0x78)}
    assert all(vife.effect == "error" for vife in COMBINABLE_PAGE[0x01:0x12])
    assert list(ERROR_CODES) == list(range(32))

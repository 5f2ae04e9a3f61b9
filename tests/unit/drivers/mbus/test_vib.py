"""Every VIF of EN 13757-3, by the code ranges of its tables: first code, last code, first value.

The numbers are the standard's own exponents at the first code of a range; each next code of a
range is ten times as much, or the next unit where units are named.
"""

from __future__ import annotations

from decimal import Decimal

import pytest

from agent.drivers.mbus.blocks import meaning
from agent.drivers.mbus.tables import FB_PAGE, FD_PAGE, FDFD_PAGE, PRIMARY_PAGE, RESERVED
from tests.unit.drivers.mbus.wire import one

SECONDS = "s min h d"
HOURS = "h d month year"

PRIMARY = """
00 07 Wh 0.001 energy
08 0F J 1 energy
10 17 m3 0.000001 volume
18 1F kg 0.001 mass
20 23 time s on time
24 27 time s operating time
28 2F W 0.001 power
30 37 J/h 1 power
38 3F m3/h 0.000001 volume flow
40 47 m3/min 0.0000001 volume flow
48 4F m3/s 0.000000001 volume flow
50 57 kg/h 0.001 mass flow
58 5B Cel 0.001 flow temperature
5C 5F Cel 0.001 return temperature
60 63 K 0.001 temperature difference
64 67 Cel 0.001 external temperature
68 6B bar 0.001 pressure
6E 6E 1 1 HCA units
70 73 time s averaging duration
74 77 time s actuality duration
7A 7A - 1 bus address
"""

FB = """
00 01 Wh 100000 energy
02 03 varh 1000 reactive energy
04 05 VAh 1000 apparent energy
08 09 J 100000000 energy
0C 0F cal 100000 energy
10 11 m3 100 volume
14 17 var 1 reactive power
18 19 kg 100000 mass
1A 1B %RH 0.1 relative humidity
20 20 ft3 1 volume
21 21 ft3 0.1 volume
22 23 gal 0.1 volume
24 24 gal/min 0.001 volume flow
25 25 gal/min 1 volume flow
26 26 gal/h 1 volume flow
28 29 W 100000 power
2A 2A deg 0.1 phase U-U
2B 2B deg 0.1 phase U-I
2C 2F Hz 0.001 frequency
30 31 J/h 100000000 power
34 37 VA 1 apparent power
58 5B degF 0.001 flow temperature
5C 5F degF 0.001 return temperature
60 63 degF 0.001 temperature difference
64 67 degF 0.001 external temperature
68 68 1 0.000244140625 resulting rating factor K
69 69 W 1 thermal output rating factor KQ
6A 6A 1 0.000244140625 overall thermal coupling rating factor KC
6B 6B 1 0.000244140625 room side thermal coupling rating factor KCR
6C 6C 1 0.000244140625 heater side thermal coupling rating factor KCH
6D 6D 1 0.000244140625 low temperature rating factor KT
6E 6E 1 0.000244140625 display output scaling factor KD
70 73 degF 0.001 temperature limit
74 77 Cel 0.001 temperature limit
78 7F W 0.001 cumulated maximum of power
"""

FD = """
00 03 currency 0.001 credit
04 07 currency 0.001 debit
08 08 - 1 access number
09 09 - 1 device type
0A 0A - 1 manufacturer
0B 0B - 1 parameter set identification
0C 0C - 1 model version
0D 0D - 1 hardware version
0E 0E - 1 firmware version
0F 0F - 1 software version
10 10 - 1 customer location
11 11 - 1 customer
12 12 - 1 access code of user
13 13 - 1 access code of operator
14 14 - 1 access code of system operator
15 15 - 1 access code of developer
16 16 - 1 password
17 17 - 1 error flags
18 18 - 1 error mask
1A 1A - 1 digital output
1B 1B - 1 digital input
1C 1C Bd 1 baud rate
1D 1D bit_times 1 response delay time
1E 1E 1 1 retries
1F 1F - 1 remote control
20 20 - 1 first storage number
21 21 - 1 last storage number
22 22 1 1 size of storage block
23 23 - 1 descriptor of tariff and subunit
24 27 time s storage interval
28 28 month 1 storage interval
29 29 year 1 storage interval
2B 2B s 1 time point, second
2C 2F time s time since last readout
31 33 time min duration of tariff
34 37 time s period of tariff
38 38 month 1 period of tariff
39 39 year 1 period of tariff
3A 3A 1 1 dimensionless
3C 3F time s period of nominal transmission
40 4F V 0.000000001 voltage
50 5F A 0.000000000001 current
60 60 1 1 reset counter
61 61 1 1 cumulation counter
62 62 - 1 control signal
63 63 - 1 day of week
64 64 - 1 week number
66 66 - 1 state of parameter activation
67 67 - 1 supplier information
68 6B long h time since last cumulation
6C 6F long h battery operating time
71 71 dBm 1 RF level
74 74 d 1 remaining battery life
75 75 1 1 meter stops
"""

FDFD = """
00 00 - 1 selected application
02 02 month 1 remaining battery life
03 03 year 1 remaining battery life
"""

TIMES = {"time": SECONDS.split(), "long": HOURS.split()}


def vectors(prefix, table):
    for line in table.strip().splitlines():
        first, last, unit, start, quantity = line.split(" ", 4)
        for n, code in enumerate(range(int(first, 16), int(last, 16) + 1)):
            vib = f"{prefix}{code:02X}"
            if unit in TIMES:
                units = TIMES[unit]
                yield vib, quantity, units[units.index(start) + n], Decimal(1)
            else:
                said = "" if unit == "-" else unit.replace("_", " ")
                yield vib, quantity, said, Decimal(start) * 10**n


PAGES = (("", PRIMARY), ("FB", FB), ("FD", FD), ("FDFD", FDFD))
ALL = [vector for prefix, table in PAGES for vector in vectors(prefix, table)]


@pytest.mark.parametrize(("vib", "quantity", "unit", "scale"), ALL, ids=[v[0] for v in ALL])
def test_a_vif_means_what_the_standard_says(vib, quantity, unit, scale):
    record = one(f"02 {vib} D2 04")
    assert (record.quantity, record.unit, record.value) == (quantity, unit, 1234 * scale)
    assert record.modifiers == ()
    assert record.error is None


NOT_NUMBERS = {
    "": {0x6C, 0x6D, 0x78, 0x79, 0x7E, 0x7F},
    "FD": {0x19, 0x2A, 0x30, 0x3B, 0x65, 0x70, 0x72, 0x73, 0x76},
}


@pytest.mark.parametrize(
    ("prefix", "table", "page"),
    [
        ("", PRIMARY, PRIMARY_PAGE),
        ("FB", FB, FB_PAGE),
        ("FD", FD, FD_PAGE),
        ("FDFD", FDFD, FDFD_PAGE),
    ],
)
def test_no_code_of_a_page_is_known_without_a_vector(prefix, table, page):
    told = {int(vib[-2:], 16) for vib, *_ in vectors(prefix, table)}
    known = {code for code, row in enumerate(page) if row is not RESERVED}
    assert known - NOT_NUMBERS.get(prefix, set()) == told


@pytest.mark.parametrize("vib", ["6F", "7B", "7D", "FB06", "FB32", "FD77", "FDFD04"])
def test_what_no_table_knows_is_reserved_and_keeps_its_number(vib):
    record = one(f"02 {vib} D2 04")
    assert (record.quantity, record.unit, record.value) == ("reserved", "", 1234)


def test_the_third_extension_is_reserved_with_its_code():
    record = one("01 EF 05 07")
    assert (record.quantity, record.value, record.vib) == ("reserved", 7, b"\xef\x05")


@pytest.mark.parametrize("vib", ["6C", "6D", "FD30", "FD70", "FD65"])
def test_time_points_are_dates_by_their_length(vib):
    assert one(f"02 {vib} BC 19").value == "2013-09-28"
    assert one(f"04 {vib} 1A 2F 65 11").value == "2011-01-05T15:26"


@pytest.mark.parametrize(
    ("vib", "quantity"),
    [
        ("FD19", "security key"),
        ("FD2A", "operator specific data"),
        ("FD3B", "wireless M-Bus container"),
        ("FD72", "daylight saving"),
        ("FD73", "listening window"),
        ("FD76", "manufacturer's container"),
    ],
)
def test_containers_are_shown_byte_by_byte(vib, quantity):
    record = one(f"0D {vib} E3 01 02 FE")
    assert (record.quantity, record.value) == (quantity, "01 02 FE")


@pytest.mark.parametrize("vib", ["78", "79"])
def test_identifications_keep_their_zeros_and_their_letters(vib):
    assert one(f"0C {vib} 78 56 34 02").value == "02345678"
    assert one(f"0C {vib} 78 56 34 A2").value == "A2345678"
    assert one(f"04 {vib} 10 00 00 00").value == 16
    assert one(f"0D {vib} 03 33 32 41").value == "A23"


def test_flags_are_not_negative_numbers():
    assert one("02 FD 17 01 80").value == 0x8001
    assert one("02 FD 17 00 80").value == 0x8000


def test_manufacturer_vifs_are_kept_and_never_interpreted():
    record = one("02 FF E1 FF 01 00 01")
    assert record.quantity == "manufacturer specific"
    assert record.modifiers == ("manufacturer E1 FF 01",)
    assert record.value == 256
    assert record.identity == bytes.fromhex("02 FF E1 FF 01")


def test_a_meaning_never_raises_whatever_its_codes():
    for first in range(256):
        for second in (0x00, 0x3A, 0x7F, 0xFC, 0xFD, 0xFF):
            codes = bytes((first, second, 0x00))
            assert meaning(codes, "").quantity

"""The fixed data structure of EN 1434-3."""

from __future__ import annotations

from decimal import Decimal

import pytest

from agent.drivers.mbus.decode import decode
from tests.unit.drivers.mbus.wire import long_frame

WATER = "78 56 34 12 0A 00 E9 7E 01 00 00 00 35 01 00 00"


def fixed(payload, ci=0x73):
    return decode(long_frame(bytes.fromhex(payload), ci))


def test_two_counters_and_who_counts():
    found = fixed(WATER)
    assert (found.id, found.access, found.status, found.medium) == ("12345678", 10, 0, 7)
    assert found.manufacturer is found.version is None
    now, historic = found.records
    assert (now.quantity, now.unit, now.value) == ("volume", "m3", Decimal("0.001"))
    assert (historic.unit, historic.value) == ("m3", Decimal("0.135"))
    assert (now.storage, historic.storage) == (0, 1)
    assert now.identity != historic.identity


def test_binary_counters_are_signed():
    now, historic = fixed(WATER.replace("0A 00 E9", "0A 01 E9")).records
    assert (now.value, historic.value) == (Decimal("0.001"), Decimal("0.309"))
    negative = fixed("78 56 34 12 0A 01 05 05 FF FF FF FF 00 00 00 80").records
    assert [r.value for r in negative] == [-1000, None]
    assert "not available" in negative[1].error


def test_counters_stored_at_a_fixed_date():
    assert [r.storage for r in fixed(WATER.replace("0A 00 E9 7E", "0A 02 E9 69")).records] == [1, 1]


def test_error_digits_are_no_value():
    now, _ = fixed("78 56 34 12 0A 00 E9 7E 0A 00 00 00 35 01 00 00").records
    assert now.value is None
    assert "BCD error digits" in now.error


def test_mode_2_has_the_most_significant_byte_first():
    swapped = "12 34 56 78 0A 00 E9 7E 00 00 00 01 00 00 01 35"
    found = fixed(swapped, ci=0x77)
    assert found.id == "12345678"
    assert [r.value for r in found.records] == [Decimal("0.001"), Decimal("0.135")]


@pytest.mark.parametrize(
    ("first", "last", "unit", "start"),
    [
        (0x02, 0x0A, "Wh", 1),
        (0x0B, 0x13, "J", 1000),
        (0x14, 0x1C, "W", 1),
        (0x1D, 0x25, "J/h", 1000),
        (0x26, 0x2E, "m3", Decimal("0.000001")),
        (0x2F, 0x37, "m3/h", Decimal("0.000001")),
        (0x38, 0x38, "Cel", Decimal("0.001")),
        (0x39, 0x39, "1", 1),
        (0x3F, 0x3F, "1", 1),
        (0x00, 0x01, "", 1),
        (0x3A, 0x3D, "", 1),
    ],
)
def test_every_unit_code(first, last, unit, start):
    for n, code in enumerate(range(first, last + 1)):
        now, _ = fixed(f"78 56 34 12 0A 00 {code:02X} 3F 07 00 00 00 00 00 00 00").records
        assert (now.unit, now.value) == (unit, 7 * start * (10**n if unit else 1))


@pytest.mark.parametrize(
    ("coded", "medium"), [(3, 3), (8, 8), (9, 15), (10, 3), (11, 4), (12, 6), (13, 7), (14, 8)]
)
def test_media_of_mode_2_are_the_same_media(coded, medium):
    first, second = (coded & 3) << 6 | 5, (coded >> 2) << 6 | 5
    payload = f"78 56 34 12 0A 00 {first:02X} {second:02X} 07 00 00 00 00 00 00 00"
    assert fixed(payload).medium == medium

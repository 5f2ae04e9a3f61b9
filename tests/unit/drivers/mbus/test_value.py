from __future__ import annotations

import struct
from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.drivers.mbus.value import exact, scaled, shortest
from tests.unit.drivers.mbus.wire import one


@pytest.mark.parametrize(
    ("record", "value"),
    [
        ("01 13 FF", "-0.001"),
        ("02 13 D2 04", "1.234"),
        ("03 13 FF FF 7F", "8388.607"),
        ("04 13 FE FF FF FF", "-0.002"),
        ("06 13 FF FF FF FF FF 7F", "140737488355.327"),
        ("07 13 FF FF FF FF FF FF FF 7F", "9223372036854775.807"),
        ("09 13 99", "0.099"),
        ("0A 13 34 12", "1.234"),
        ("0B 13 56 34 12", "123.456"),
        ("0C 13 78 56 34 12", "12345.678"),
        ("0E 13 12 90 78 56 34 12", "123456789.012"),
        ("09 13 F5", "-0.005"),
        ("0C 13 78 56 34 F2", "-2345.678"),
        ("0D 13 C2 34 12", "1.234"),
        ("0D 13 D2 34 12", "-1.234"),
        ("0D 13 E3 FF FF FF", "-0.001"),
        ("0D 13 C9 01 00 00 00 00 00 00 00 12", "120000000000000.001"),
        ("05 13 00 00 20 41", "0.010"),
        ("04 06 01 00 00 00", "1000"),
    ],
)
def test_numbers_are_exact_decimals(record, value):
    assert one(record).value == Decimal(value)
    assert one(record).error is None


@pytest.mark.parametrize(
    ("record", "error"),
    [
        ("01 13 80", "not available"),
        ("02 13 00 80", "not available"),
        ("03 13 00 00 80", "not available"),
        ("04 13 00 00 00 80", "not available"),
        ("06 13 00 00 00 00 00 80", "not available"),
        ("07 13 00 00 00 00 00 00 00 80", "not available"),
        ("0D 13 E2 00 80", "not available"),
        ("0C 2A DD B4 EB DD", "BCD error digits DDEBB4DD"),
        ("0C 13 FF FF FF FF", "BCD error digits FFFFFFFF"),
        ("0A 13 0A 00", "BCD error digits 000A"),
        ("0A 13 34 A2", "BCD error digits A234"),
        ("0D 13 C1 0F", "BCD error digits 0F"),
        ("05 13 00 00 C0 7F", "not a number"),
        ("05 13 00 00 80 7F", "not a number"),
        ("05 13 00 00 80 FF", "not a number"),
        ("00 13", "no data"),
        ("08 13", "no data"),
        ("0D 13 C0", "no data"),
        ("0D 13 E0", "no data"),
        ("0D 6D E0", "no data"),
        ("0C 6D 01 01 01 01", "BCD data is no date"),
        ("05 6D 00 00 20 41", "real data is no date"),
        ("0D 6D E5 01 01 01 01 01", "5 bytes are not a date"),
    ],
)
def test_where_there_is_no_value_an_error_says_why(record, error):
    found = one(record)
    assert found.value is None
    assert error in found.error


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ("0D FD 0B 06 35 33 32 44 56 52", "RVD235"),
        ("0D FD 0B 00", ""),
        ("0D FD 10 03 B3 6D 20", "m³"),
        ("0D FD 10 05 00 00 63 62 61", "abc"),
        ("0D 13 03 33 32 31", "123"),
    ],
)
def test_texts_have_their_last_character_first(record, text):
    assert one(record).value == text


def test_long_binary_data_is_shown_and_not_made_a_number():
    assert one("0D FD 3A E9 01 02 03 04 05 06 07 08 09").value == "01 02 03 04 05 06 07 08 09"
    assert one("0D FD 3A F0" + "01" * 16).value == " ".join(["01"] * 16)
    assert one("0D FD 3A F5" + "02" * 48).data == b"\x02" * 48
    assert one("0D FD 3A F6" + "03" * 64).data == b"\x03" * 64


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (123456.78, "123456.78"),
        (0.1, "0.1"),
        (-170.721784, "-170.72179"),
        (1e-45, "1E-45"),
        (3.4028235e38, "3.4028235E+38"),
        (16777216.0, "16777216"),
        (-0.0, "0"),
        (21.5, "21.5"),
    ],
)
def test_a_float_is_the_shortest_decimal_that_reads_back(number, text):
    (single,) = struct.unpack("<f", struct.pack("<f", number))
    digits, exponent = shortest(single)
    assert Decimal(f"{digits}E{exponent}") == Decimal(text)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_no_float_loses_anything_and_none_has_a_digit_too_many(number):
    digits, exponent = shortest(number)
    packed = struct.pack("<f", number)
    again = float(f"{digits}E{exponent}")
    assert again == number == 0 or struct.pack("<f", again) == packed
    length = len(str(abs(digits)))
    assert length <= 9
    if length > 1:
        shorter = f"{number:.{length - 2}e}"
        assert number == 0 or _packs_differently(shorter, packed)


def _packs_differently(text, packed):
    try:
        return struct.pack("<f", float(text)) != packed
    except OverflowError:
        return True


def test_a_float_is_scaled_by_its_exponent():
    record = one("05 14 AE 47 E1 7A")
    assert record.value == exact(*shortest(struct.unpack("<f", record.data)[0])).scaleb(-2)
    assert one("05 16 52 06 F1 47").value == Decimal("123404.64")


@given(st.integers(-(2**63) + 1, 2**63 - 1), st.integers(-12, 9))
def test_no_digit_is_lost_even_in_a_poor_context(digits, exponent):
    with localcontext(prec=3):
        number = scaled(digits, exponent)
        text = format(number, "f")
    assert Decimal(text) == Decimal(f"{digits}E{exponent}")
    assert "E" not in str(exact(digits, max(exponent, 0)))


@given(st.integers(-(2**63) + 1, 2**63 - 1), st.integers(-12, 9), st.integers(-3, 0))
def test_an_added_constant_is_exact_too(digits, exponent, add):
    with localcontext(prec=3):
        number = scaled(digits, exponent, add)
    assert Fraction(number) == digits * Fraction(10) ** exponent + Fraction(10) ** add

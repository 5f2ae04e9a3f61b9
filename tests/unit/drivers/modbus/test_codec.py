"""Every register pattern becomes exactly the number it stands for, or a reason why it is none."""

from __future__ import annotations

import math
import struct
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.drivers.modbus.codec import FORMATS, RegisterRange, decode, parse, place, shortest32

FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
SIZES = {"16": 16, "32": 32, "64": 64}


def cells(kind: str, number: float, *, little: bool = False) -> list[int]:
    raw = struct.pack(">" + FORMATS[kind], number)
    words = list(struct.unpack(f">{len(raw) // 2}H", raw))
    return words[::-1] if little else words


def bits_of(number: float) -> bytes:
    return struct.pack(">f", number)


@given(FLOAT32)
@example(0.0)
@example(-0.0)
@example(2.0**-149)
@example(2.0**-126)
@example(2.0**53)  # a power of two: below it float32 is twice as dense
@example(3.4028234663852886e38)
def test_every_float32_reads_back_from_its_decimal(number: float) -> None:
    """Rule R1."""
    assert bits_of(float(shortest32(number))) == bits_of(number)


@given(FLOAT32)
@example(2.0**-149)
@example(2.0**90)
@example(2.0**-44)
@example(16777216.0)
def test_no_shorter_decimal_reads_back_as_the_same_float32(number: float) -> None:
    """Rule R1."""
    figures = len(shortest32(number).normalize().as_tuple().digits)
    if figures == 1:
        return
    exact = Decimal(number)
    step = Decimal(1).scaleb(exact.adjusted() - figures + 2)
    below = (exact / step).to_integral_value(rounding="ROUND_FLOOR") * step
    for shorter in (below, below + step):
        if abs(shorter) < Decimal("3.4e38"):
            assert bits_of(float(shorter)) != bits_of(number)


@given(st.integers(1, 999_999), st.integers(-6, 3))
def test_what_a_meter_shows_in_six_figures_is_what_we_write(figures: int, exponent: int) -> None:
    shown = Decimal(figures).scaleb(exponent)
    number = struct.unpack(">f", bits_of(float(shown)))[0]
    assert shortest32(number) == shown


def test_an_index_is_written_without_an_exponent() -> None:
    assert str(shortest32(1200.0)) == "1200"
    assert str(shortest32(struct.unpack(">f", bits_of(1234.567))[0])) == "1234.567"
    assert str(decode(parse("input/0/float64"), cells("float64", 100.0))) == "100"


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if "int" in kind])
@given(data=st.data(), little=st.booleans())
def test_every_integer_is_exact(kind: str, data: st.DataObject, little: bool) -> None:
    size = int(kind.lstrip("uint"))
    low, high = (0, 2**size - 1) if kind[0] == "u" else (-(2 ** (size - 1)), 2 ** (size - 1) - 1)
    number = data.draw(st.integers(low, high))
    spot = parse(f"holding/7/{kind}" + ("/little" if little else ""))
    assert decode(spot, cells(kind, number, little=little)) == Decimal(number)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float64_reads_back_from_its_decimal(number: float) -> None:
    value = decode(parse("input/0/float64"), cells("float64", number))
    assert struct.pack(">d", float(value)) == struct.pack(">d", number)


@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused_in_words(kind: str, number: float) -> None:
    with pytest.raises(ValueError, match="not a number"):
        decode(parse(f"input/0/{kind}"), cells(kind, number))


def test_text_loses_its_padding_and_nothing_else() -> None:
    spot = parse("holding/10/string8")
    assert decode(spot, [0x4142, 0x3132, 0x2000, 0]) == "AB12"
    for nonsense in ([0, 0, 0, 0], [0xFFFF] * 4, [0x410A, 0x4200, 0, 0]):
        with pytest.raises(ValueError, match="not text"):
            decode(spot, nonsense)


def test_a_bit_is_nought_or_one() -> None:
    assert decode(parse("coil/3"), [True]) == Decimal(1)
    assert decode(parse("discrete/3"), [False]) == Decimal(0)


@pytest.mark.parametrize(
    ("at", "spot"),
    [
        ("input/72/float32", RegisterRange("input", 72, 2, "float32")),
        ("holding/0/int32/little", RegisterRange("holding", 0, 2, "int32", "little")),
        ("holding/65535/uint16/big", RegisterRange("holding", 65535, 1, "uint16")),
        ("holding/50058/string16", RegisterRange("holding", 50058, 8, "string")),
        ("holding/1/string7", RegisterRange("holding", 1, 4, "string")),
        ("coil/9", RegisterRange("coil", 9, 1, "bit")),
    ],
)
def test_the_notation_says_table_address_and_type(at: str, spot: RegisterRange) -> None:
    assert parse(at) == spot


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ("", "not TABLE/ADDRESS/TYPE"),
        ("72", "not TABLE/ADDRESS/TYPE"),
        ("input/-1/uint16", "not TABLE/ADDRESS/TYPE"),
        ("input/72/float32/little/x", "not TABLE/ADDRESS/TYPE"),
        ("input/٧/uint16", "not TABLE/ADDRESS/TYPE"),
        ("inputs/72/float32", '"inputs" is not a Modbus table'),
        ("input/72", "the type is missing"),
        ("input/72/float", '"float" is not a type'),
        ("input/72/string0", '"string0" is not a type'),
        ("input/72/string251", '"string251" is not a type'),
        ("input/72/float32/middle", '"middle" is not a byte order'),
        ("input/65535/float32", "beyond the last address"),
        ("coil/65536", "beyond the last address"),
        ("coil/5/uint16", "a coil is one bit"),
    ],
)
def test_bad_notation_is_refused_in_words(at: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse(at)


@pytest.mark.parametrize(
    ("at", "cells", "expected"),
    [
        ("holding/0/string14", [0x4B58, 0x3132, 0x3334, 0, 0, 0, 0], "KX1234"),
        ("holding/0/string14", [0x32, 0x33, 0x35, 0x34, 0x31, 0x31, 0x57], "235411W"),
        ("holding/0/bcd8", [0x1296, 0x0042], "12960042"),
        ("holding/0/bcd6", [0x0012, 0x9600], "00129600"),
    ],
)
def test_a_number_that_is_text_is_read_in_each_form_in_which_meters_send_it(at, cells, expected):
    assert decode(parse(at), cells) == expected


def test_digits_that_are_no_decimal_digits_are_refused():
    with pytest.raises(ValueError, match="not decimal digits"):
        decode(parse("holding/0/bcd8"), [0x129A, 0x0042])


@pytest.mark.parametrize("block", ["20-30", "5-11", "10", "10-70000", "a-b"])
def test_a_block_has_the_value_in_it(block):
    with pytest.raises(ValueError, match="is not an address option"):
        place(f"holding/10/uint64 block={block}")
    assert place("holding/10/uint64 block=8-13").spots[0].width == 6

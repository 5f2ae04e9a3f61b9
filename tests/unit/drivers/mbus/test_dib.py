from __future__ import annotations

import pytest

from agent.drivers.mbus.blocks import Function, lvar, read
from tests.unit.drivers.mbus.wire import one


@pytest.mark.parametrize(
    ("dif", "function"),
    [
        ("04", Function.INSTANTANEOUS),
        ("14", Function.MAXIMUM),
        ("24", Function.MINIMUM),
        ("34", Function.ERROR),
    ],
)
def test_two_bits_tell_the_function(dif, function):
    assert one(f"{dif} 13 01 00 00 00").function is function


@pytest.mark.parametrize(
    ("dib", "storage", "tariff", "subunit"),
    [
        ("04", 0, 0, 0),
        ("44", 1, 0, 0),
        ("84 01", 2, 0, 0),
        ("C4 01", 3, 0, 0),
        ("84 0F", 30, 0, 0),
        ("84 8F 01", 62, 0, 0),
        ("84 10", 0, 1, 0),
        ("84 30", 0, 3, 0),
        ("84 80 10", 0, 4, 0),
        ("84 40", 0, 0, 1),
        ("84 80 40", 0, 0, 2),
        ("84 C0 40", 0, 0, 3),
        ("C4 FF FF 7F", 0x1FFF, 63, 7),
    ],
)
def test_storage_tariff_and_subunit_grow_with_each_dife(dib, storage, tariff, subunit):
    found = read(bytes.fromhex(dib))
    assert (found.storage, found.tariff, found.subunit) == (storage, tariff, subunit)


def test_ten_difes_are_read_to_the_last_bit():
    found = read(b"\xc4" + b"\xff" * 9 + b"\x7f")
    assert (found.storage, found.tariff, found.subunit) == (2**41 - 1, 2**20 - 1, 2**10 - 1)


@pytest.mark.parametrize(
    ("dif", "name", "length"),
    [
        (0x00, "none", 0),
        (0x01, "integer", 1),
        (0x02, "integer", 2),
        (0x03, "integer", 3),
        (0x04, "integer", 4),
        (0x05, "real", 4),
        (0x06, "integer", 6),
        (0x07, "integer", 8),
        (0x08, "selection", 0),
        (0x09, "BCD", 1),
        (0x0A, "BCD", 2),
        (0x0B, "BCD", 3),
        (0x0C, "BCD", 4),
        (0x0E, "BCD", 6),
    ],
)
def test_four_bits_tell_the_coding(dif, name, length):
    assert read(bytes((dif,))).coding == (name, length)


@pytest.mark.parametrize(
    ("byte", "name", "length"),
    [
        (0x00, "text", 0),
        (0xBF, "text", 191),
        (0xC0, "BCD", 0),
        (0xC9, "BCD", 9),
        (0xD0, "negative BCD", 0),
        (0xD9, "negative BCD", 9),
        (0xE0, "integer", 0),
        (0xEF, "integer", 15),
        (0xF0, "integer", 16),
        (0xF4, "integer", 32),
        (0xF5, "integer", 48),
        (0xF6, "integer", 64),
    ],
)
def test_lvar_tells_the_coding_of_variable_data(byte, name, length):
    assert lvar(byte) == (name, length)


@pytest.mark.parametrize("byte", range(0xF7, 0x100))
def test_reserved_lvars_are_unknown(byte):
    assert lvar(byte) is None

"""Values by the examples of the standard (135-2020, 20.2), and bytes that are none."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.drivers.bacnet import codec
from agent.drivers.bacnet.codec import (
    CLOSE,
    OPEN,
    GarbledError,
    ObjectId,
    Ref,
    Refusal,
    context,
    item,
    items,
    object_id,
    tags,
    write_tag,
)


@pytest.mark.parametrize(
    ("hexed", "value"),
    [
        ("00", None),  # 20.2.2
        ("10", Decimal(0)),  # 20.2.3: FALSE
        ("11", Decimal(1)),
        ("2148", Decimal(72)),  # 20.2.4
        ("3148", Decimal(72)),  # 20.2.5
        ("31b8", Decimal(-72)),
        ("4442900000", Decimal(72)),  # 20.2.6
        ("55084052000000000000", Decimal(72)),  # 20.2.7
        ("631234ff", "1234ff"),  # 20.2.8
        ("75190054686973206973206120424143 6e6574 20737472696e6721", "This is a BACnet string!"),
        ("750a0054 6c c3a9 20 e282ac", "Tlé €"),
        ("8205a8", "101"),  # 20.2.10
        ("9100", Decimal(0)),  # 20.2.11
        ("a45b011804", "1991-01-24"),  # 20.2.12
        ("a4ff01ff04", "****-01-**"),
        ("b411232d11", "17:35:45.17"),  # 20.2.13
        ("c400c0000f", ObjectId(3, 15)),  # 20.2.14
        ("443f99999a", Decimal("1.2")),
        ("443dcccccd", Decimal("0.1")),
        ("2548ffffffffffffff", None),
    ],
)
def test_values_are_read_as_the_standard_writes_them(hexed, value):
    data = bytes.fromhex(hexed)
    if hexed.startswith("2548"):
        with pytest.raises(GarbledError):
            tags(data)
        return
    if hexed.startswith("750a"):
        data = bytes([0x75, len(data) - 2]) + data[2:]
    (tag,) = tags(data)
    assert item(tag) == value


def test_long_values_and_extended_tags_are_taken_apart():
    long = b"\x75\xfe\x01\x2c\x00" + b"a" * 299
    (tag,) = tags(long)
    assert item(tag) == "a" * 299
    (huge,) = tags(b"\x65\xff\x00\x01\x00\x00" + bytes(65536))
    assert len(huge.data) == 65536
    (extended,) = tags(b"\xf9\x29\x07")
    assert (extended.number, extended.context, extended.data) == (0x29, True, b"\x07")
    assert [tag.kind for tag in tags(b"\x3e\x21\x01\x3f")] == [OPEN, 0, CLOSE]


@given(st.binary(max_size=80))
def test_any_bytes_are_taken_apart_or_refused(data):
    try:
        found = tags(data)
    except GarbledError:
        return
    for one in items(found):
        assert one is None or isinstance(one, (Decimal, str, ObjectId, Refusal))


@given(st.binary(max_size=120))
def test_no_answer_makes_a_reader_raise_anything_else(data):
    asked = Ref(ObjectId(0, 1), 85)
    readers = (
        codec.read_multiple_answer,
        codec.i_am,
        codec.notification,
        lambda bytes_: codec.read_answer(bytes_, asked),
    )
    for reader in readers:
        try:
            reader(data)
        except GarbledError:
            continue
    assert codec.error(data).reason


def test_what_is_written_is_read_back():
    assert tags(
        context(2, 300) + object_id(1, ObjectId(5, 70000)) + write_tag(7, b"\0" + b"x" * 90)
    )
    (number, of, text) = tags(
        context(2, 300) + object_id(1, ObjectId(5, 70000)) + write_tag(7, b"\0" + b"x" * 90)
    )
    assert int.from_bytes(number.data, "big") == 300
    assert of.data == (5 << 22 | 70000).to_bytes(4, "big")
    assert item(text) == "x" * 90

"""How a meter is named, and whose telegram is whose."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.drivers.mbus import frame
from agent.drivers.mbus.frame import MeterAddress, parse
from tests.unit.drivers.mbus.wire import telegram


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0", MeterAddress(0)),
        ("250", MeterAddress(250)),
        ("7@300", MeterAddress(7, baudrate=300)),
        ("45120042", MeterAddress(id="45120042")),
        ("4512a0c2", MeterAddress(id="4512A0C2")),
        ("45120042-KAM-1B-04", MeterAddress(None, "45120042", "KAM", 0x1B, 4)),
        (
            "45120042-KAM+00000017@9600",
            MeterAddress(None, "45120042", "KAM", fabrication="00000017", baudrate=9600),
        ),
        ("45120042/2", MeterAddress(id="45120042", input=2)),
    ],
)  # fmt: skip
def test_an_address_is_a_number_on_the_plate_or_a_primary_address(text, address):
    assert parse(text) == address


@pytest.mark.parametrize(
    "text", ["", "251", "4512", "4512004F", "45120042-kam", "45120042@1234", "45120042 ", "1/x"]
)
def test_what_is_no_address_is_refused_in_words(text):
    with pytest.raises(ValueError, match=f'"{text}"'):
        parse(text)


@pytest.mark.parametrize("text", ["12345678", "12345678-KAM", "12345678-KAM-01-04", "1"])
def test_a_telegram_is_the_addressed_meter_s(text):
    assert parse(text).fits(telegram(""))


@pytest.mark.parametrize(
    "text", ["12345679", "12345678-ABB", "12345678-KAM-02", "12345678-KAM-01-07", "2"]
)
def test_a_telegram_of_another_meter_is_not(text):
    assert not parse(text).fits(telegram(""))


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_refused(text):
    try:
        found = parse(text)
    except ValueError:
        return
    assert found.station.split("@", maxsplit=1)[0]


@pytest.mark.parametrize(
    ("frame", "bits"),
    [
        (frame.reset(5), "10 40 05 45 16"),
        (frame.ask(5, fcb=True), "10 7B 05 80 16"),
        (frame.ask(0xFD, fcb=False), "10 5B FD 58 16"),
        (
            frame.select(parse("12345678")),
            "68 0B 0B 68 73 FD 52 78 56 34 12 FF FF FF FF D2 16",
        ),
        (
            frame.select(parse("12345678-KAM-01-04")),
            "68 0B 0B 68 73 FD 52 78 56 34 12 2D 2C 01 04 34 16",
        ),
        (
            frame.select(parse("12345678+00000017")),
            "68 11 11 68 73 FD 52 78 56 34 12 FF FF FF FF 0C 78 17 00 00 00 6D 16",
        ),
    ],
)
def test_what_the_master_sends_is_the_standard_s_byte_for_byte(frame, bits):
    assert frame.hex(" ").upper() == bits

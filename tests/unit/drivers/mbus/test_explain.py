from __future__ import annotations

import re

import pytest

from agent.drivers.mbus.decode import MbusError
from agent.drivers.mbus.explain import explained
from tests.unit.drivers.mbus.test_anything import VALID
from tests.unit.drivers.mbus.wire import HEADER, long_frame

WATER = bytes.fromhex("78 56 34 12 0A 00 E9 7E 01 00 00 00 35 01 00 00")


def told(lines):
    """The bytes that the lines show, in their order."""
    return bytes.fromhex("".join(re.match(r"((?:[0-9A-F]{2} ?)*)", line)[1] for line in lines))


@pytest.mark.parametrize(
    "frame",
    [
        VALID,
        long_frame(bytes.fromhex(HEADER + "2F 2F 01 13 05 2F 02 13 01 00 2F")),
        long_frame(bytes.fromhex(HEADER + "01 13 05 0D 13 09 41")),
        long_frame(bytes.fromhex(HEADER + "01 13 05 0F")),
        long_frame(WATER, ci=0x73),
        long_frame(bytes.fromhex("55 00 00 00 01 13 05"), ci=0x7A),
        long_frame(bytes.fromhex("01 13 05"), ci=0x78),
        long_frame(bytes.fromhex(HEADER + "00 13")),
    ],
)
def test_every_byte_is_told_once_and_in_order(frame):
    assert told(explained(frame)) == frame


def test_a_record_is_told_in_words():
    text = "\n".join(explained(long_frame(bytes.fromhex(HEADER + "94 10 FB 00 D2 04 00 00"))))
    assert "DIF: integer of 4 bytes, maximum, tariff 1" in text
    assert "VIF: energy" in text
    assert "= 123400000 Wh" in text
    assert "id 12345678" in text


def test_data_of_variable_length_and_of_the_manufacturer_is_told():
    text = "\n".join(explained(long_frame(bytes.fromhex(HEADER + "0D FD 10 02 42 41 1F 07"))))
    assert "DIF: variable, instantaneous" in text
    assert "LVAR: 2 bytes" in text
    assert "= AB" in text
    assert "the rest is the manufacturer's, another telegram follows" in text
    assert "follows" not in "".join(explained(long_frame(bytes.fromhex(HEADER + "0F 07"))))


def test_what_could_be_told_comes_before_the_error():
    lines = []
    with pytest.raises(MbusError, match="application error"):
        lines.extend(explained(long_frame(b"\x08", ci=0x70)))
    shown = explained(long_frame(b"\x08", ci=0x70))
    assert "start" in next(shown)

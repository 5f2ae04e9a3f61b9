from __future__ import annotations

import pytest

from agent.drivers.mbus.telegram import medium, status

DEVICE_TYPES = """
00 other
01 oil
02 electricity
03 gas
04 heat
05 steam
06 warm water
07 water
08 heat cost allocator
09 compressed air
0A cooling (outlet)
0B cooling (inlet)
0C heat (inlet)
0D heat and cooling
0E bus or system component
0F unknown
10 irrigation water
11 water data logger
12 gas data logger
13 gas converter
14 calorific value
15 hot water
16 cold water
17 dual water
18 pressure
19 A/D converter
1A smoke detector
1B room sensor
1C gas detector
20 breaker (electricity)
21 valve (gas or water)
25 customer unit
28 waste water
29 garbage
31 communication controller
32 unidirectional repeater
33 bidirectional repeater
36 radio converter (system side)
37 radio converter (meter side)
"""


def test_every_device_type_has_its_word():
    told = dict(line.split(" ", 1) for line in DEVICE_TYPES.strip().splitlines())
    for code in range(256):
        assert medium(code) == told.get(f"{code:02X}", f"reserved ({code:02X}h)")


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0x04, "heat"),
        (0x07, "water"),
        (0x16, "cold water"),
        (0xEE, "reserved (EEh)"),
        (None, "unknown"),
    ],
)
def test_a_medium_is_told_in_words(code, text):
    assert medium(code) == text


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0x00, "no error"),
        (0x01, "application busy"),
        (0x02, "application error"),
        (0x03, "alarm"),
        (0x04, "power low"),
        (0x1C, "power low, permanent error, temporary error"),
        (0x2A, "application error, permanent error, manufacturer's bits 20h"),
        (None, "not given"),
    ],
)
def test_a_status_is_told_in_words(code, text):
    assert status(code) == text

from __future__ import annotations

import pytest

from agent.drivers.mbus.words import medium, status


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
        (None, "not told"),
    ],
)
def test_a_status_is_told_in_words(code, text):
    assert status(code) == text

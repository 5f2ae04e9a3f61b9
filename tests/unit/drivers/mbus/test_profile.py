"""Compact profiles (EN 13757-3 annex F): a list of values in one record."""

from __future__ import annotations

import pytest

from tests.unit.drivers.mbus.wire import one


@pytest.mark.parametrize(
    ("record", "modifier", "value"),
    [
        (
            "0D 93 1F 05 61 01 0C 0D FF",
            "compact profile",
            "increments every 1 h: 0.012 0.013 0.255",
        ),
        ("0D 93 1F 06 32 01 0C 00 00 80", "compact profile", "values every 1 d: 0.012 -"),
        (
            "0D 93 13 04 D1 0F FF 80",
            "inverse compact profile",
            "differences every 15 min: -0.001 -",
        ),
        ("0D 93 1F 04 8A 05 34 12", "compact profile", "decrements every 5 s: 1.234"),
        ("0D 93 1F 06 05 01 00 00 20 41", "compact profile", "values every 1 s: 0.01"),
        (
            "0D 93 1E 05 FB FE 56 34 12",
            "register numbers",
            "differences every part of a month (code 254): 123.456",
        ),
    ],
)
def test_a_profile_is_told_value_by_value(record, modifier, value):
    found = one(record)
    assert modifier in found.modifiers[0]
    assert (found.value, found.error) == (value, None)


@pytest.mark.parametrize(
    "record",
    ["0D 93 1F 01 61", "0D 93 1F 05 62 01 0C 0D 0E", "0D 93 1F 03 60 01 00"],
)
def test_a_profile_that_is_none_is_no_value(record):
    found = one(record)
    assert found.value is None
    assert "profile" in found.error

"""Exact factors between units. Rule R2."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.quantities import channels, factor, units

ANY = st.sampled_from(sorted(units()))


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [
        ("Wh", "kWh", "0.001"),
        ("MWh", "kWh", "1000"),
        ("kW", "W", "1000"),
        ("mW", "MW", "0.000000001"),
        ("l", "m3", "0.001"),
        ("kWh", "MJ", "3.6"),
        ("l/min", "m3/h", "0.06"),
        ("bar", "kPa", "100"),
        ("%", "1", "0.01"),
        ("Cel", "Cel", "1"),
    ],
)
def test_a_factor_is_exact(here, there, expected):
    assert factor(here, there) == Decimal(expected)


@pytest.mark.parametrize(
    ("here", "there"),
    [("GJ", "kWh"), ("Cel", "K"), ("kWh", "kW"), ("kWh", "kvarh"), ("kwh", "kWh"), ("x", "x")],
)
def test_there_is_no_factor_between_what_is_not_the_same_or_not_exact(here, there):
    assert factor(here, there) is None


@given(ANY, ANY)
def test_back_and_forth_is_exactly_one(here, there):
    forth, back = factor(here, there), factor(there, here)
    if forth is not None and back is not None:
        assert forth * back == Decimal(1)


def test_every_channel_is_in_a_unit_that_is_known():
    """Rule R3."""
    assert {channel.unit for channel in channels().values()} <= set(units())

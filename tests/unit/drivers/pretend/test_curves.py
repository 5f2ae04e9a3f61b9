"""The pretend dwellings: believable, repeatable, and their index is the integral of their power."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.curves import DAY, Load, load
from hil.meter import serial_of

BEGAN = 1_795_478_400.0
"""a midnight"""


@given(st.integers(1, 99), st.integers(0, 3), st.integers(1, 15))
def test_the_same_seed_draws_the_same_dwelling(seed: int, line: int, unit: int) -> None:
    assert load(seed, line, unit, BEGAN) == load(seed, line, unit, BEGAN)


@given(st.integers(1, 99), st.floats(0, DAY))
def test_the_index_is_the_integral_of_the_power(seed: int, after: float) -> None:
    dwelling = load(seed, 0, 1, BEGAN)
    begin, steps, step = BEGAN + after, 600, 1.0
    summed = sum(dwelling.power(begin + (n + 0.5) * step) for n in range(steps)) * step / 3.6e6
    risen = dwelling.energy(begin + steps * step) - dwelling.energy(begin)
    # a cycle's edge may fall inside one step of the sum, twice in ten minutes for each of two
    assert risen == pytest.approx(summed, abs=4 * 2200 / 3.6e6)


@pytest.mark.parametrize("unit", range(1, 16))
def test_the_float32_index_rises_every_second_of_the_day(unit: int) -> None:
    dwelling = load(1, 0, unit, BEGAN)
    for second in range(0, DAY, 977):
        shown = [struct.pack(">f", dwelling.energy(BEGAN + second + n)) for n in range(3)]
        assert shown[0] < shown[1] < shown[2]


def mean(dwelling: Load, begin: float, end: float) -> float:
    return (dwelling.energy(BEGAN + end) - dwelling.energy(BEGAN + begin)) / (end - begin) * 3.6e6


def test_evenings_draw_more_than_nights_and_nobody_draws_like_a_factory() -> None:
    dwellings = [load(1, line, unit, BEGAN) for line in range(4) for unit in range(1, 16)]
    night = sum(mean(d, 1 * 3600, 4 * 3600) for d in dwellings) / 60
    evening = sum(mean(d, 17 * 3600, 20 * 3600) for d in dwellings) / 60
    assert 80 < night < 400
    assert evening > 2.5 * night
    assert all(d.power(BEGAN + s) < 9000 for d in dwellings for s in range(0, DAY, 3600))


def test_no_two_meters_of_a_building_have_one_serial_number() -> None:
    serials = {serial_of(1, line, unit) for line in range(16) for unit in range(1, 248)}
    assert len(serials) == 16 * 247
    assert all(len(str(serial)) == 8 for serial in serials)

from decimal import Decimal

import pytest
from hypothesis import given

from agent.buffer.batch import extent, pack, unpack
from tests.unit.buffer.rows import NOON, exact, reading, series, some_rows


def numbered(rows):
    return {of: number for number, of in enumerate({row.series for row in rows}, 1)}


@given(some_rows)
def test_a_block_gives_back_every_row_digit_for_digit_and_in_order(rows):
    numbers = numbered(rows)
    back = unpack(pack(rows, numbers), {number: of for of, number in numbers.items()})
    assert exact(back) == exact(rows)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-sNaN", "1" * 65])
def test_a_value_that_json_cannot_carry_is_refused(value):
    rows = [reading(value=value)]
    with pytest.raises(ValueError, match="a value"):
        pack(rows, numbered(rows))


@pytest.mark.parametrize(
    "other",
    [
        {"quality": "VV"},
        {"quality": ""},
        {"value": None, "span": 0},
        {"value": "1", "span": 2},
        {"slot": -NOON},
        {"slot": 2**40},
    ],
)
def test_a_row_that_no_batch_could_carry_is_refused(other):
    rows = [reading(**other)]
    with pytest.raises(ValueError, match=r"^(a|only a) "):
        pack(rows, numbered(rows))


def test_a_span_counts_at_its_last_slot():
    rows = [reading(slot=3, value=None, span=5), reading(slot=4)]
    assert extent(rows) == (NOON + 4 * 60, NOON + 7 * 60, 2, 6)


def test_a_poll_of_500_meters_takes_less_than_8_bytes_a_reading():
    rows = [reading(n, value=Decimal(7919 * n + 104_729).scaleb(-3)) for n in range(500)]
    assert len(pack(rows, {series(n): n for n in range(500)})) < 8 * 500

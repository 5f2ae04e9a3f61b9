"""What a unit owes decides how it may be asked."""

from __future__ import annotations

import pytest

from agent.core.clock import monotonic
from agent.drivers.modbus.rtu import framed
from agent.drivers.modbus.wire import OWED_FOR, LateResponses


def read(start: int, count: int, function: int = 3) -> bytes:
    return bytes([function]) + start.to_bytes(2, "big") + count.to_bytes(2, "big")


@pytest.mark.parametrize(
    ("wanted", "longer"),
    [
        (read(0, 2), read(0, 3)),
        (read(0, 125), None),  # no longer read is allowed
        (read(0xFFFE, 2), None),  # there is no register behind it
        (read(0, 8, function=1), read(0, 16, function=1)),  # a byte more, not a bit
        (b"\x06\0\0\0\1", None),  # a write is never made longer
    ],
)
def test_one_cell_more_is_read_where_there_is_one(wanted: bytes, longer: bytes | None) -> None:
    owed = LateResponses()
    owed.asked(7, wanted, monotonic())
    assert owed.longer(7, wanted) == longer


def test_a_unit_that_refuses_one_cell_more_is_not_asked_for_it_again() -> None:
    owed = LateResponses()
    owed.refused_more(7)
    assert owed.longer(7, read(0, 2)) is None
    assert owed.longer(8, read(0, 2)) == read(0, 3)


def test_what_comes_late_is_owed_no_longer_and_makes_us_more_patient() -> None:
    owed = LateResponses()
    owed.asked(7, read(0, 1), monotonic() - 20)
    owed.asked(8, read(0, 1), monotonic())
    assert owed.patience(1.0) == 10
    assert owed.settle(b"noise" + framed(7, b"\3\2\0\5"))
    assert (owed.of(7), list(owed.of(8))) == ({}, [4])
    assert 40 < owed.patience(1.0) < 41
    assert not owed.settle(b"noise")


def test_after_a_minute_nothing_is_feared() -> None:
    owed = LateResponses()
    owed.asked(7, read(0, 1), monotonic() - OWED_FOR - 1)
    assert owed.of(7) == {}


def test_a_refusal_answers_one_question_the_oldest_of_its_function() -> None:
    owed, now = LateResponses(), monotonic()
    for age, one in ((3, read(0, 2)), (2, read(0, 3)), (4, read(0, 4, function=4))):
        owed.asked(7, one, now - age)
    assert owed.settle(framed(7, b"\x83\x04"))
    assert sorted(at for at, _ in owed.of(7).values()) == [now - 4, now - 2]

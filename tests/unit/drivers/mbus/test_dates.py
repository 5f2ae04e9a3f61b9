"""Types F, G, I and J of EN 13757-3 annex A, bit by bit."""

from __future__ import annotations

import pytest

from agent.drivers.mbus.telegram import NoValue
from agent.drivers.mbus.value import date_or_time


def type_g(year, month, day):
    return bytes((day | (year & 7) << 5, month | (year >> 3) << 4))


def type_f(date, hour, minute, **bits):
    century, invalid, summer = (bits.get(name, 0) for name in ("century", "invalid", "summer"))
    first = bytes((minute | invalid << 7, hour | century << 5 | summer << 7))
    return first + type_g(*date)


def type_i(date, time, invalid=0, flags=0):
    hour, minute, second = time
    head = bytes((second | flags << 6, minute | invalid << 7, hour | 3 << 5))
    return head + type_g(*date) + b"\x2a"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (type_g(13, 9, 28), "2013-09-28"),
        (type_g(0, 1, 31), "2000-01-31"),
        (type_g(80, 12, 31), "2080-12-31"),
        (type_g(81, 1, 1), "1981-01-01"),
        (type_g(99, 2, 28), "1999-02-28"),
        (type_g(24, 2, 29), "2024-02-29"),
        (type_f((11, 1, 5), 15, 26, century=1), "2011-01-05T15:26"),
        (type_f((11, 1, 5), 15, 26), "2011-01-05T15:26"),
        (type_f((11, 7, 5), 15, 26, summer=1), "2011-07-05T15:26"),
        (type_f((99, 12, 31), 23, 59), "1999-12-31T23:59"),
        (type_f((99, 12, 31), 23, 59, century=1), "2099-12-31T23:59"),
        (type_f((1, 1, 1), 0, 0, century=2), "2101-01-01T00:00"),
        (type_i((24, 10, 31), (0, 0, 9)), "2024-10-31T00:00:09"),
        (type_i((24, 2, 29), (23, 59, 59), flags=3), "2024-02-29T23:59:59"),
        (b"\x1e\x0f\x0c", "12:15:30"),
        (b"\x00\x00\x00", "00:00:00"),
    ],
)
def test_a_moment_is_iso_8601(data, text):
    assert date_or_time(data) == text


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x00\x00", "empty"),
        (b"\x00\x00\x00\x00", "empty"),
        (bytes(6), "empty"),
        (b"\xff\xff", "every year"),
        (type_g(127, 9, 28), "every year"),
        (type_g(100, 9, 28), "year 100"),
        (type_g(126, 9, 28), "year 126"),
        (type_g(13, 15, 28), "impossible or recurring"),
        (type_g(13, 0, 28), "impossible or recurring"),
        (type_g(13, 9, 0), "impossible or recurring"),
        (type_g(23, 2, 29), "impossible or recurring"),
        (type_f((11, 1, 5), 15, 26, invalid=1), "invalid"),
        (type_f((127, 1, 5), 15, 26), "every year"),
        (type_f((11, 1, 5), 31, 26), "every hour"),
        (type_f((11, 1, 5), 15, 63), "every hour"),
        (type_f((11, 1, 5), 24, 0), "impossible or recurring"),
        (type_f((11, 1, 5), 15, 60), "impossible or recurring"),
        (type_i((24, 2, 29), (23, 59, 59), invalid=1), "invalid"),
        (type_i((24, 2, 29), (23, 59, 63)), "every hour"),
        (b"\xff\xff\xff", "every hour"),
        (b"\x01", "1 bytes are not a date"),
        (bytes(8), "8 bytes are not a date|empty"),
    ],
)
def test_what_is_no_moment_is_no_value(data, why):
    with pytest.raises(NoValue, match=why):
        date_or_time(data)


def test_any_two_bytes_are_a_date_or_no_value():
    for number in range(0x10000):
        try:
            year, month, day = date_or_time(number.to_bytes(2, "little")).split("-")
        except NoValue:
            continue
        assert type_g(int(year) % 100, int(month), int(day)) == number.to_bytes(2, "little")

"""Dates and times, types F, G, I and J of EN 13757-3 annex A: to ISO 8601, in the meter's time."""

from __future__ import annotations

from datetime import date, time

from agent.drivers.mbus.novalue import NoValue

EVERY_YEAR, LAST_YEAR = 127, 99
EVERY_HOUR, EVERY_MINUTE = 31, 63
INVALID = 0x80
PIVOT = 80
"""two-digit years 0 to 80 are 2000 to 2080 (EN 13757-3, annex A)"""
CENTURY = 100
TIME_OF_DAY = 3
"""bytes of a type J; all zero is midnight, not an empty date"""


def date_or_time(data: bytes) -> str:
    """The date or time in ISO 8601 without a zone, by the meter's own clock.

    Two bytes are a date (type G), three a time of day (J), four a date with minutes (F), six a date
    with seconds (I). Raises NoValue with a reason for an empty, impossible or recurring date, and
    for any other length.
    """
    if len(data) != TIME_OF_DAY and not any(data):
        raise NoValue("empty date")
    reader = _READERS.get(len(data))
    if reader is None:
        raise NoValue(f"{len(data)} bytes are not a date")
    try:
        return reader(data)
    except NoValue:
        raise
    except ValueError:
        raise NoValue(f"impossible or recurring date {data[::-1].hex().upper()}h") from None


def _day(low: int, high: int, century: int | None = None) -> date:
    """The date in two bytes. Raises NoValue for a date that recurs.

    century: hundreds of years after 1900, if the type has them; type I counts from 2000.
    """
    year, month, day = low >> 5 | (high & 0xF0) >> 1, high & 0x0F, low & 0x1F
    if year == EVERY_YEAR:
        raise NoValue("the date recurs every year")
    if year > LAST_YEAR:
        raise NoValue(f"the year {year} is not valid in a date")
    if century:
        return date(1900 + CENTURY * century + year, month, day)
    return date((2000 if year <= PIVOT else 1900) + year, month, day)


def _g(data: bytes) -> str:
    return _day(data[0], data[1]).isoformat()


def _f(data: bytes) -> str:
    if data[0] & INVALID:
        raise NoValue("the meter marks its time as invalid")
    day = _day(data[2], data[3], data[1] >> 5 & 3)
    return f"{day.isoformat()}T{_time(data[1], data[0]).isoformat('minutes')}"


def _i(data: bytes) -> str:
    if data[1] & INVALID:
        raise NoValue("the meter marks its time as invalid")
    day = _day(data[3], data[4], 1)
    return f"{day.isoformat()}T{_time(data[2], data[1], data[0]).isoformat()}"


def _j(data: bytes) -> str:
    return _time(data[2], data[1], data[0]).isoformat()


def _time(hour: int, minute: int, second: int = 0) -> time:
    hour, minute, second = hour & 0x1F, minute & 0x3F, second & 0x3F
    if hour == EVERY_HOUR or EVERY_MINUTE in (minute, second):
        raise NoValue("the time recurs every hour, minute or second")
    return time(hour, minute, second)


_READERS = {2: _g, 3: _j, 4: _f, 6: _i}

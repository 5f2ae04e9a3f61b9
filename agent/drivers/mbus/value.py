"""Convert the bytes of a record to its value: exact decimal, text or date (EN 13757-3, annex A)."""

from __future__ import annotations

import struct
from datetime import date, time
from decimal import Decimal
from math import isfinite
from typing import TYPE_CHECKING

from agent.core.i18n import Text
from agent.drivers.mbus.blocks import CODINGS, Coding, lvar
from agent.drivers.mbus.telegram import NoValue

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.drivers.mbus.blocks import Meaning

UNSIGNED = "CD"
COMMON, COUNTING = frozenset({"integer", "BCD"}), frozenset({"B", "C", "D"})
"""codings and kinds of VIF of plain numbers, which nearly all records are"""
WIDEST = 8
"""bytes of the longest integer that is a number; a longer one is shown as bytes"""
SMALLEST_NORMAL = 2.0**-126
FLOAT = struct.Struct("<f")
EVERY_YEAR, LAST_YEAR = 127, 99
EVERY_HOUR, EVERY_MINUTE = 31, 63
INVALID = 0x80
PIVOT = 80
"""two-digit years 0 to 80 are 2000 to 2080 (EN 13757-3, annex A)"""
CENTURY = 100
TIME_OF_DAY = 3
"""bytes of a type J; all zero is midnight, not an empty date"""
MODES = ("values", "increments", "decrements", "differences")
UNITS = ("s", "min", "h", "d")
SIGNED = ("values", "differences")
CONTROL = 2
"""bytes before the elements: spacing control and spacing value"""
LONGEST_SPACING = 250
"""higher codes mean parts of months"""


def value(coding: Coding, data: bytes, meaning: Meaning, mark: int) -> Decimal | str:
    """The value of a record; `meaning` is its decoded VIB, `mark` its LVAR byte or -1.

    Numbers are exact decimals in `meaning.unit`; dates, texts and bytes are texts. Raises NoValue
    with a reason if the data holds no value; a 0 never takes its place.
    """
    name = coding.name if mark < 0 else _variable(mark)
    # The common case first: all other kinds are rare.
    if (
        name in COMMON
        and meaning.kind in COUNTING
        and meaning.add is None
        and 0 < len(data) <= WIDEST
    ):
        signed = meaning.kind == "B"
        number = bcd(data) if name == "BCD" else integer(data, signed=signed)
        return exact(number * meaning.factor, meaning.exponent)
    if meaning.kind == "P":
        return _list(data, meaning)
    if name == "text":
        return _text(data)
    if meaning.kind in _KINDS and data:
        return _KINDS[meaning.kind](name, data, meaning)
    if len(data) > WIDEST and name == "integer":
        return _bytes(name, data, meaning)
    return _number(name, data, meaning)


def _variable(mark: int) -> str:
    known = lvar(mark)
    return known.name if known else "none"


def _number(name: str, data: bytes, meaning: Meaning) -> Decimal:
    digits, exponent = _real(data) if name == "real" else (_NUMBERS[name](data, meaning), 0)
    return scaled(digits * meaning.factor, exponent + meaning.exponent, meaning.add)


def scaled(digits: int, exponent: int, add: int | None = None) -> Decimal:
    """Digits x 10^exponent + 10^add, computed with integers, so that it is exact."""
    if add is None:
        return exact(digits, exponent)
    least = min(exponent, add)
    return exact(digits * 10 ** (exponent - least) + 10 ** (add - least), least)


def exact(digits: int, exponent: int) -> Decimal:
    """Digits x 10^exponent with all its digits, whatever the decimal context."""
    if exponent >= 0:
        return Decimal(digits * 10**exponent)
    return Decimal(f"{digits}E{exponent}")


def integer(data: bytes, *, signed: bool) -> int:
    """An integer of type B, C or D. Raises NoValue for a signed 80…00h, "not available"."""
    number = int.from_bytes(data, "little", signed=signed)
    # Meters without a reading send this; as an index it would be a huge negative number.
    if signed and number == -(1 << (8 * len(data) - 1)):
        raise NoValue(Text("not available (80…00h)"))
    return number


def bcd(data: bytes) -> int:
    """A number of type A. A highest digit F is a minus sign. Raises NoValue for other digits above
    9.
    """
    digits = data[::-1].hex()
    if digits.isdecimal():
        return int(digits)
    if digits[:1] == "f" and digits[1:].isdecimal():
        return -int(digits[1:])
    raise NoValue(
        Text("BCD error digits {value}", value=digits.upper()) if data else Text("no data")
    )


def shortest(number: float) -> tuple[int, int]:
    """The shortest decimal that reads back as the same float32: digits and exponent.

    Six digits always survive the conversion to float32 and back, so the search begins there. A
    subnormal number has fewer.
    """
    if number == 0:
        return 0, 0
    text, packed = "", FLOAT.pack(number)
    for digits in range(5 if abs(number) >= SMALLEST_NORMAL else 0, 9):
        text = f"{number:.{digits}e}"
        if FLOAT.pack(float(text)) == packed:
            break
    mantissa, _, exponent = text.partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = fraction.rstrip("0")
    return int(whole + fraction), int(exponent) - len(fraction)


def _real(data: bytes) -> tuple[int, int]:
    number: float = FLOAT.unpack(data)[0]
    if not isfinite(number):
        raise NoValue(Text("not a number"))
    return shortest(number)


def _integer(data: bytes, meaning: Meaning) -> int:
    if not data:
        raise NoValue(Text("no data"))
    return integer(data, signed=meaning.kind not in UNSIGNED)


def _none(data: bytes, meaning: Meaning) -> int:
    del data, meaning
    raise NoValue(Text("no data"))


_NUMBERS: dict[str, Callable[[bytes, Meaning], int]] = {
    "integer": _integer,
    "BCD": lambda data, _: bcd(data),
    "negative BCD": lambda data, _: -bcd(data),
    "none": _none,
    "selection": _none,
}


def _text(data: bytes) -> str:
    """ISO 8859-1, the last character first; NULs and blanks around it are padding."""
    return data[::-1].decode("latin-1").strip("\0 ")


def _date(name: str, data: bytes, meaning: Meaning) -> str:
    del meaning
    if name != "integer":
        raise NoValue(Text("{name} data is no date", name=name))
    return date_or_time(data)


def _identification(name: str, data: bytes, meaning: Meaning) -> Decimal | str:
    """Digits as printed on the meter, zeros in front kept; letters occur in the field."""
    if name == "BCD":
        return data[::-1].hex().upper()
    return _number(name, data, meaning)


def _bytes(name: str, data: bytes, meaning: Meaning) -> str:
    del name, meaning
    return data.hex(" ").upper()


def _list(data: bytes, meaning: Meaning) -> str:
    def element(coding: Coding, part: bytes, signed: bool) -> str:
        kind = "B" if signed else "C"
        try:
            return format(_number(coding.name, part, meaning._replace(kind=kind)), "f")
        except NoValue:
            return "-"

    return as_text(data, element)


_KINDS = {"T": _date, "I": _identification, "X": _bytes}


def date_or_time(data: bytes) -> str:
    """The date or time in ISO 8601 without a zone, by the meter's own clock.

    Two bytes are a date (type G), three a time of day (J), four a date with minutes (F), six a date
    with seconds (I). Raises NoValue with a reason for an empty, impossible or recurring date, and
    for any other length.
    """
    if len(data) != TIME_OF_DAY and not any(data):
        raise NoValue(Text("empty date"))
    reader = _READERS.get(len(data))
    if reader is None:
        raise NoValue(Text("{number} bytes are not a date", number=len(data)))
    try:
        return reader(data)
    except NoValue:
        raise
    except ValueError:
        raise NoValue(
            Text("impossible or recurring date {value}h", value=data[::-1].hex().upper())
        ) from None


def _day(low: int, high: int, century: int | None = None) -> date:
    """The date in two bytes. Raises NoValue for a date that recurs.

    century: hundreds of years after 1900, if the type has them; type I counts from 2000.
    """
    year, month, day = low >> 5 | (high & 0xF0) >> 1, high & 0x0F, low & 0x1F
    if year == EVERY_YEAR:
        raise NoValue(Text("the date recurs every year"))
    if year > LAST_YEAR:
        raise NoValue(Text("the year {year} is not valid in a date", year=year))
    if century:
        return date(1900 + CENTURY * century + year, month, day)
    return date((2000 if year <= PIVOT else 1900) + year, month, day)


def _g(data: bytes) -> str:
    return _day(data[0], data[1]).isoformat()


def _f(data: bytes) -> str:
    if data[0] & INVALID:
        raise NoValue(Text("the meter marks its time as invalid"))
    day = _day(data[2], data[3], data[1] >> 5 & 3)
    return f"{day.isoformat()}T{_time(data[1], data[0]).isoformat('minutes')}"


def _i(data: bytes) -> str:
    if data[1] & INVALID:
        raise NoValue(Text("the meter marks its time as invalid"))
    day = _day(data[3], data[4], 1)
    return f"{day.isoformat()}T{_time(data[2], data[1], data[0]).isoformat()}"


def _j(data: bytes) -> str:
    return _time(data[2], data[1], data[0]).isoformat()


def _time(hour: int, minute: int, second: int = 0) -> time:
    hour, minute, second = hour & 0x1F, minute & 0x3F, second & 0x3F
    if hour == EVERY_HOUR or EVERY_MINUTE in (minute, second):
        raise NoValue(Text("the time recurs every hour, minute or second"))
    return time(hour, minute, second)


_READERS = {2: _g, 3: _j, 4: _f, 6: _i}


def as_text(data: bytes, element: Callable[[Coding, bytes, bool], str]) -> str:
    """The list as text: `increments every 1 h: 12 13 -`.

    element: converts one element of this coding, signed or not, to text. The time of the first
    value is in the record with the same storage number. Raises NoValue if the data is not such a
    list.
    """
    if len(data) < CONTROL:
        raise NoValue(Text("a profile without spacing"))
    control, spacing = data[:CONTROL]
    coding = CODINGS[control & 0x0F]
    rest = data[CONTROL:]
    if coding.length <= 0 or len(rest) % coding.length:
        raise NoValue(
            Text(
                "a profile of {number} bytes, not a multiple of {length}",
                number=len(rest),
                length=coding.length,
            )
        )
    mode = MODES[control >> 6]
    parts = (rest[at : at + coding.length] for at in range(0, len(rest), coding.length))
    elements = " ".join(element(coding, part, mode in SIGNED) for part in parts)
    return f"{mode} every {_spacing(control >> 4 & 3, spacing)}: {elements}"


def _spacing(unit: int, spacing: int) -> str:
    if spacing > LONGEST_SPACING:
        return f"part of a month (code {spacing})"
    return f"{spacing} {UNITS[unit]}"

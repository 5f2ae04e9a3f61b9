"""Convert the bytes of a record to its value: exact decimal, text or date (EN 13757-3, annex A)."""

from __future__ import annotations

import struct
from decimal import Decimal
from math import isfinite
from typing import TYPE_CHECKING

from agent.drivers.mbus.dates import date_or_time
from agent.drivers.mbus.dib import Coding, lvar
from agent.drivers.mbus.novalue import NoValue
from agent.drivers.mbus.profile import as_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.drivers.mbus.vib import Meaning

UNSIGNED = "CD"
COMMON, COUNTING = frozenset({"integer", "BCD"}), frozenset({"B", "C", "D"})
"""codings and kinds of VIF of plain numbers, which nearly all records are"""
WIDEST = 8
"""bytes of the longest integer that is a number; a longer one is shown as bytes"""
SMALLEST_NORMAL = 2.0**-126
FLOAT = struct.Struct("<f")


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
        raise NoValue("not available (80…00h)")
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
    raise NoValue(f"BCD error digits {digits.upper()}" if data else "no data")


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
        raise NoValue("not a number")
    return shortest(number)


def _integer(data: bytes, meaning: Meaning) -> int:
    if not data:
        raise NoValue("no data")
    return integer(data, signed=meaning.kind not in UNSIGNED)


def _none(data: bytes, meaning: Meaning) -> int:
    del data, meaning
    raise NoValue("no data")


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
        raise NoValue(f"{name} data is no date")
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

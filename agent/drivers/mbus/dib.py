"""The data information block (DIB): which value of the meter it is, and how it is coded."""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple


class Function(StrEnum):
    """The kind of value (EN 13757-3, function field)."""

    INSTANTANEOUS = "instantaneous"
    MAXIMUM = "maximum"
    MINIMUM = "minimum"
    ERROR = "error"
    """value during error state"""


FUNCTIONS = tuple(Function)


class Coding(NamedTuple):
    """The coding in a data field: its name and its length in bytes."""

    name: str
    length: int
    """-1: the first byte of the data gives it"""


CODINGS = (
    Coding("none", 0),
    Coding("integer", 1),
    Coding("integer", 2),
    Coding("integer", 3),
    Coding("integer", 4),
    Coding("real", 4),
    Coding("integer", 6),
    Coding("integer", 8),
    Coding("selection", 0),
    Coding("BCD", 1),
    Coding("BCD", 2),
    Coding("BCD", 3),
    Coding("BCD", 4),
    Coding("variable", -1),
    Coding("BCD", 6),
    Coding("special", 0),
)


class Dib(NamedTuple):
    """A decoded DIB."""

    function: Function
    storage: int
    tariff: int
    subunit: int
    coding: Coding


@lru_cache(maxsize=1024)
def read(dib: bytes) -> Dib:
    """Decode a DIF and its DIFEs (EN 13757-3, 6.3). Cached, since meters repeat them."""
    dif = dib[0]
    storage, tariff, subunit = dif >> 6 & 1, 0, 0
    for n, dife in enumerate(dib[1:]):
        storage |= (dife & 0x0F) << 1 + 4 * n
        tariff |= (dife >> 4 & 3) << 2 * n
        subunit |= (dife >> 6 & 1) << n
    return Dib(FUNCTIONS[dif >> 4 & 3], storage, tariff, subunit, CODINGS[dif & 0x0F])


class Lvar(NamedTuple):
    """The coding that the first byte of variable-length data gives."""

    name: str
    length: int


_RANGES = (
    (0x00, 0xBF, "text", lambda lvar: lvar),
    # editions before 2018 go on to CF and DF with the same lengths
    (0xC0, 0xCF, "BCD", lambda lvar: lvar - 0xC0),
    (0xD0, 0xDF, "negative BCD", lambda lvar: lvar - 0xD0),
    (0xE0, 0xEF, "integer", lambda lvar: lvar - 0xE0),
    (0xF0, 0xF4, "integer", lambda lvar: 4 * (lvar - 0xEC)),
    (0xF5, 0xF5, "integer", lambda _: 48),
    (0xF6, 0xF6, "integer", lambda _: 64),
)


def lvar(byte: int) -> Lvar | None:
    """The coding of an LVAR byte; None for the reserved F7 to FF."""
    for first, last, name, length in _RANGES:
        if first <= byte <= last:
            return Lvar(name, length(byte))
    return None

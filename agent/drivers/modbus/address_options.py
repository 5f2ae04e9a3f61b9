"""Options after an address: how the value is interpreted, and how its device is read.

    na=7fff          this raw value (hexadecimal) means "no value"; several: na=7fff|8000
    sf@6             the int16 at this address is the power of ten to multiply by (SunSpec)
    unit@100:0=0.001,1=1   the uint16 at this address is a unit code; the factor for each code
    write@5004/uint16      where the value is written, if not where it is read
    most=60          the most registers that the device returns in one answer
    pause=100ms      the shortest time between two requests to the device
    alone            the device accepts only one value in a request
    never=100-119    registers that no request may include

The last four apply to the whole device, whichever of its points has them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from functools import lru_cache

from agent.core.i18n import _
from agent.core.settings import duration
from agent.drivers.modbus.codec import RegisterRange, parse

NOTE = re.compile(r"^([a-z]*)([=@]?)(.*)$", re.ASCII | re.DOTALL)
HEX = re.compile(r"(?:[0-9a-f]{2})+", re.ASCII)


@dataclass(frozen=True, slots=True)
class PointNotes:
    """The address of a value, with its options."""

    spot: RegisterRange
    absent: frozenset[bytes] = frozenset()
    """raw bytes that mean "no value\""""
    exponent: RegisterRange | None = None
    """the power of ten to multiply by"""
    code: RegisterRange | None = None
    """the unit code"""
    factors: tuple[tuple[int, Decimal], ...] = ()
    """by unit code, the factor to multiply by"""
    written: RegisterRange | None = None
    """where the value is written, if not where it is read"""
    most: int = 0
    """registers in one answer of the device; 0: as many as Modbus allows"""
    pause: float = 0.0
    """seconds between two requests"""
    alone: bool = False
    """only one value in a request"""
    never: tuple[int, int] | None = None
    """first and last register that no request may include"""

    @property
    def spots(self) -> tuple[RegisterRange, ...]:
        """All registers that must be read to know the value."""
        return tuple(spot for spot in (self.spot, self.exponent, self.code) if spot)


@lru_cache(maxsize=8192)
def place(at: str) -> PointNotes:
    """Parse an address with its options. Raises ValueError with a message for its author."""
    if not at.strip():
        raise ValueError(_("the address of the value is missing, such as input/72/float32"))
    where, *texts = at.split()
    options = PointNotes(parse(where))
    for text in texts:
        try:
            options = _with_option(options, text)
        except (ValueError, InvalidOperation) as error:
            known = "na= sf@ unit@ write@ most= pause= alone never="
            raise ValueError(
                _(
                    '"{option}" is not an address option, or its value is wrong; the options are'
                    " {known}",
                    option=text,
                    known=known,
                )
            ) from error
    return options


def _with_option(options: PointNotes, text: str) -> PointNotes:  # noqa: PLR0911 -- one a note
    key, mark, setting = NOTE.findall(text)[0]
    table = options.spot.table
    match key + mark:
        case "na=":
            return replace(options, absent=frozenset(map(_hex, setting.split("|"))))
        case "sf@":
            return replace(options, exponent=parse(f"{table}/{setting}/int16"))
        case "unit@":
            address, _, codes = setting.partition(":")
            return replace(
                options, code=parse(f"{table}/{address}/uint16"), factors=_factors(codes)
            )
        case "write@":
            return replace(options, written=parse(f"{table}/{setting}"))
        case "most=" if 1 <= int(setting) <= 125:  # noqa: PLR2004 -- Modbus' own limit
            return replace(options, most=int(setting))
        case "pause=":
            return replace(options, pause=duration(setting))
        case "alone" if not setting:
            return replace(options, alone=True)
        case "never=":
            first, _, last = setting.partition("-")
            return replace(options, never=(int(first), int(last)))
    raise ValueError(text)


def _hex(text: str) -> bytes:
    if not HEX.fullmatch(text):
        raise ValueError(text)
    return bytes.fromhex(text)


def _factors(codes: str) -> tuple[tuple[int, Decimal], ...]:
    pairs = (pair.split("=") for pair in codes.split(","))
    return tuple((int(code), Decimal(factor)) for code, factor in pairs)

"""Where a value stands in a Modbus device, and what its registers say.

`input/72/float32` is the notation: table, address as on the wire (0-based), type; a third slash
where the device sends its low word first (`/little`), each word's low byte first (`/swapped`), or
both (`/reversed`). `coil/5` and `discrete/5` are one bit. `sunspec-203/16/int16` counts from where
that SunSpec model begins. Behind it may stand, after a space, what `notes.py` says.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, ROUND_UP, Context, Decimal
from functools import lru_cache
from typing import TYPE_CHECKING

from agent.i18n import _

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.model import Value

ORDERS = ("big", "little", "swapped", "reversed")
FUNCTIONS = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
"""function code that reads each table (Modbus Application Protocol V1.1b3, 6.1 to 6.4)"""

FORMATS = {
    "uint16": "H",
    "int16": "h",
    "uint32": "I",
    "int32": "i",
    "uint64": "Q",
    "int64": "q",
    "float32": "f",
    "float64": "d",
}
ADDRESSES = 0x10000
SUNSPEC = "sunspec-"
"""begins the name of a table that counts from where a SunSpec model begins"""
NOTATION = re.compile(
    r"(?P<table>[a-z]+(?:-[0-9]{1,5})?)/(?P<address>[0-9]{1,5})(?:/(?P<type>[a-z0-9]+)(?:/(?P<order>[a-z]+))?)?",
    re.ASCII,
)
STRING = re.compile(r"string([0-9]{1,3})", re.ASCII)
LONGEST_STRING = 250
"""characters: 125 registers of two"""

SMALLEST_NORMAL = 2.0**-126
MOST_FIGURES = 9
"""that a float32 ever needs"""
SURE_FIGURES = 6
"""that a normal float32 always keeps: no shorter decimal can be missed by beginning here"""
READABLE = 15
"""a number with more figures before the point keeps its exponent"""


@dataclass(frozen=True, slots=True)
class RegisterRange:
    """One value on a device: `width` cells (registers or bits) of `table` from `start` on."""

    table: str
    start: int
    width: int
    type: str
    order: str = "big"

    @property
    def end(self) -> int:
        """One past the last cell."""
        return self.start + self.width


@lru_cache(maxsize=4096)
def parse(at: str) -> RegisterRange:
    """Read the notation. Raises ValueError in words for the person who wrote it."""
    match = NOTATION.fullmatch(at)
    if not match:
        raise ValueError(_('"{at}" is not TABLE/ADDRESS/TYPE, such as input/72/float32', at=at))
    table, order = match["table"], match["order"] or "big"
    if table not in FUNCTIONS and not table.startswith(SUNSPEC):
        raise ValueError(
            _(
                '"{table}" is not a Modbus table; the tables are {functions}',
                table=table,
                functions=", ".join(FUNCTIONS),
            )
        )
    if order not in ORDERS:
        raise ValueError(
            _(
                '"{order}" is not a byte order; the orders are {orders}',
                order=order,
                orders=", ".join(ORDERS),
            )
        )
    bits = table in {"coil", "discrete"}
    kind, width = _bit(table, match["type"]) if bits else _registers(match["type"])
    spot = RegisterRange(table, int(match["address"]), width, kind, order)
    if spot.end > ADDRESSES:
        raise ValueError(
            _("{at} ends beyond the last address, {addresses}", at=at, addresses=ADDRESSES - 1)
        )
    return spot


def _bit(table: str, kind: str | None) -> tuple[str, int]:
    if kind is not None:
        raise ValueError(
            _("a {table} is one bit and has no type: write {table}/ADDRESS", table=table)
        )
    return "bit", 1


def _registers(kind: str | None) -> tuple[str, int]:
    if kind in FORMATS:
        return kind, struct.calcsize(FORMATS[kind]) // 2
    string = STRING.fullmatch(kind or "")
    if string and 1 <= (length := int(string[1])) <= LONGEST_STRING:
        return "string", (length + 1) // 2
    known = ", ".join(FORMATS)
    problem = _('"{kind}" is not a type', kind=kind) if kind else _("the type is missing")
    raise ValueError(
        _(
            "{problem}; the types are {known} and stringN (N characters)",
            problem=problem,
            known=known,
        )
    )


def decode(spot: RegisterRange, cells: Sequence[int]) -> Value:
    """Read the exact value out of `spot.width` registers or bits.

    A float32 becomes the shortest decimal that reads back as the same float32: the figures the
    meter shows. Raises ValueError where there is no number (NaN, infinity) or no text.
    """
    if spot.type == "bit":
        return Decimal(cells[0])
    raw = raw_of(spot, cells)
    if spot.type == "string":
        return _text(raw)
    (number,) = struct.unpack(f">{FORMATS[spot.type]}", raw)
    if isinstance(number, int):
        return Decimal(number)
    if not math.isfinite(number):
        raise ValueError(_("not a number ({number})", number=number))
    return shortest32(number) if spot.type == "float32" else plain(Decimal(repr(number)))


def encode(spot: RegisterRange, value: Decimal) -> list[int]:
    """Give the registers that read back as `value`, a float to its own precision.

    Raises ValueError, in words, on a number the type cannot hold, and on texts and bits.
    """
    if spot.type not in FORMATS:
        raise ValueError(_("a value of type {type} cannot be written", type=spot.type))
    whole = spot.type.startswith(("int", "uint"))
    if not value.is_finite() or (whole and value != value.to_integral_value()):
        raise ValueError(_("{value} is not a value of type {type}", value=value, type=spot.type))
    try:
        raw = struct.pack(f">{FORMATS[spot.type]}", int(value) if whole else float(value))
    except (struct.error, OverflowError) as error:
        raise ValueError(
            _("{value} does not fit into {type}", value=value, type=spot.type)
        ) from error
    registers = [int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2)]
    ordered = raw_of(spot, registers)
    return [int.from_bytes(ordered[at : at + 2], "big") for at in range(0, len(ordered), 2)]


def raw_of(spot: RegisterRange, cells: Sequence[int]) -> bytes:
    """Bring the bytes of registers into the usual order, high ones first."""
    registers = reversed(cells) if spot.order in {"little", "reversed"} else cells
    low_first = spot.order in {"swapped", "reversed"}
    return b"".join(
        register.to_bytes(2, "little" if low_first else "big") for register in registers
    )


def _text(raw: bytes) -> str:
    text = raw.rstrip(b"\0 ").decode("ascii", errors="replace")
    if not text or not text.isprintable() or "�" in text:
        raise ValueError(_("not text ({hex})", hex=raw.hex()))
    return text.strip()


ROUNDINGS = {
    figures: [Context(prec=figures, rounding=way) for way in (ROUND_HALF_EVEN, ROUND_UP)]
    for figures in range(1, MOST_FIGURES + 1)
}


def shortest32(number: float) -> Decimal:
    """Give the decimal of fewest figures that reads back as the float32 `number` (finite).

    Of several, the nearest. Away from zero is tried too: below a power of two float32 is twice as
    dense as above, so the nearest decimal may miss where one farther away still hits.
    """
    exact = Decimal(number)
    first = SURE_FIGURES if abs(number) >= SMALLEST_NORMAL else 1
    for figures in range(first, MOST_FIGURES + 1):
        for rounding in ROUNDINGS[figures]:
            short = rounding.create_decimal(exact)
            if _as_float32(short) == number:
                return plain(short)
    raise AssertionError(f"{number!r} is not a float32")


def _as_float32(short: Decimal) -> float:
    try:
        return float(struct.unpack(">f", struct.pack(">f", float(short)))[0])
    except OverflowError:  # rounded up beyond the largest float32
        return math.inf


def plain(number: Decimal) -> Decimal:
    """Write the same number without zeros at its end and, where readable, without an exponent."""
    number = number.normalize()
    if number.as_tuple().exponent > 0 and number.adjusted() < READABLE:  # type: ignore[operator]
        return number.quantize(Decimal(1))
    return number

"""The notation of Modbus addresses, the blocks to read, and registers to values and back. Pure.

The costs of a request and of a register differ between lines. Neighbouring points share a block,
including unused registers between them, only where that is cheaper than another request. No block
crosses a boundary at which the device refused a block before.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_EVEN, ROUND_UP, Context, Decimal, InvalidOperation
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

from agent.core.i18n import Text
from agent.core.settings import duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.core.model import Value

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
"""prefix of a table that counts from the beginning of a SunSpec model"""
NOTATION = re.compile(
    r"(?P<table>[a-z]+(?:-[0-9]{1,5})?)/(?P<address>[0-9]{1,5})(?:/(?P<type>[a-z0-9]+)(?:/(?P<order>[a-z]+))?)?",
    re.ASCII,
)
STRING = re.compile(r"string([0-9]{1,3})", re.ASCII)
BCD = re.compile(r"bcd([0-9]{1,2})", re.ASCII)
"""a number of so many digits, four in each register"""
LONGEST_STRING = 250
"""characters: 125 registers of two"""

SMALLEST_NORMAL = 2.0**-126
MOST_FIGURES = 9
"""significant digits that every float32 can be written with"""
SURE_FIGURES = 6
"""significant digits that every normal float32 keeps: the search for the shortest decimal can
begin here
"""
READABLE = 15
"""a number with more digits before the point is written with an exponent"""


ROUNDINGS = {
    figures: [Context(prec=figures, rounding=way) for way in (ROUND_HALF_EVEN, ROUND_UP)]
    for figures in range(1, MOST_FIGURES + 1)
}
NOTE = re.compile(r"^([a-z]*)([=@]?)(.*)$", re.ASCII | re.DOTALL)
HEX = re.compile(r"(?:[0-9a-f]{2})+", re.ASCII)
LONGEST = {"coil": 2000, "discrete": 2000, "holding": 125, "input": 125}
"""cells in one answer (Modbus Application Protocol V1.1b3, 6.1 to 6.4)"""
LONGEST_OF = {1: 2000, 2: 2000, 3: 125, 4: 125}
"""the same, by function code"""
BITS = frozenset({"coil", "discrete"})

Cut = tuple[str, int]
"""table and address of a boundary: no block holds both a value that begins before this address and
one that begins at it or after it
"""


Ways = list[tuple[float, int, tuple[int, ...]]]
"""the best plans so far: cost, number of blocks, and the end of each block"""


@dataclass(frozen=True, slots=True)
class RegisterRange:
    """The cells of one value: `width` registers or bits of `table`, from `start` on."""

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
    """Parse an address without options. Raises ValueError with a message for its author."""
    match = NOTATION.fullmatch(at)
    if not match:
        raise ValueError(Text('"{at}" is not TABLE/ADDRESS/TYPE, such as input/72/float32', at=at))
    table, order = match["table"], match["order"] or "big"
    if table not in FUNCTIONS and not table.startswith(SUNSPEC):
        raise ValueError(
            Text(
                '"{table}" is not a Modbus table; the tables are {functions}',
                table=table,
                functions=", ".join(FUNCTIONS),
            )
        )
    if order not in ORDERS:
        raise ValueError(
            Text(
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
            Text("{at} ends beyond the last address, {addresses}", at=at, addresses=ADDRESSES - 1)
        )
    return spot


def _bit(table: str, kind: str | None) -> tuple[str, int]:
    if kind is not None:
        raise ValueError(
            Text("a {table} is one bit and has no type: write {table}/ADDRESS", table=table)
        )
    return "bit", 1


def _registers(kind: str | None) -> tuple[str, int]:
    if kind in FORMATS:
        return kind, struct.calcsize(FORMATS[kind]) // 2
    string = STRING.fullmatch(kind or "")
    if string and 1 <= (length := int(string[1])) <= LONGEST_STRING:
        return "string", (length + 1) // 2
    if (digits := BCD.fullmatch(kind or "")) and int(digits[1]):
        return "bcd", (int(digits[1]) + 3) // 4
    known = ", ".join(FORMATS)
    problem = Text('"{kind}" is not a type', kind=kind) if kind else Text("the type is missing")
    raise ValueError(
        Text(
            "{problem}; the types are {known}, stringN (N characters) and bcdN (N digits)",
            problem=problem,
            known=known,
        )
    )


def decode(spot: RegisterRange, cells: Sequence[int]) -> Value:
    """The exact value in `spot.width` registers or bits.

    A float32 becomes the shortest decimal that reads back as the same float32, which is what the
    meter displays. Raises ValueError if the registers hold no number (NaN, infinity) or no text.
    """
    if spot.type == "bit":
        return Decimal(cells[0])
    raw = raw_of(spot, cells)
    if spot.type == "string":
        return _text(raw)
    if spot.type == "bcd":
        return _digits(raw)
    (number,) = struct.unpack(f">{FORMATS[spot.type]}", raw)
    if isinstance(number, int):
        return Decimal(number)
    if not math.isfinite(number):
        raise ValueError(Text("not a number ({number})", number=number))
    return shortest32(number) if spot.type == "float32" else plain(Decimal(repr(number)))


def encode(spot: RegisterRange, value: Decimal) -> list[int]:
    """The registers that read back as `value`, for a float as precisely as its type allows.

    Raises ValueError with a message if the type cannot hold the number, and for texts and bits.
    """
    if spot.type not in FORMATS:
        raise ValueError(Text("a value of type {type} cannot be written", type=spot.type))
    whole = spot.type.startswith(("int", "uint"))
    # Never rounded: what is read back must be equal to what was ordered.
    if not value.is_finite() or (whole and value != value.to_integral_value()):
        raise ValueError(Text("{value} is not a value of type {type}", value=value, type=spot.type))
    try:
        raw = struct.pack(f">{FORMATS[spot.type]}", int(value) if whole else float(value))
    except (struct.error, OverflowError) as error:
        raise ValueError(
            Text("{value} does not fit into {type}", value=value, type=spot.type)
        ) from error
    registers = [int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2)]
    ordered = raw_of(spot, registers)
    return [int.from_bytes(ordered[at : at + 2], "big") for at in range(0, len(ordered), 2)]


def raw_of(spot: RegisterRange, cells: Sequence[int]) -> bytes:
    """The bytes of registers in the usual order, the high byte and word first."""
    registers = reversed(cells) if spot.order in {"little", "reversed"} else cells
    low_first = spot.order in {"swapped", "reversed"}
    return b"".join(
        register.to_bytes(2, "little" if low_first else "big") for register in registers
    )


def _text(raw: bytes) -> str:
    if not any(raw[::2]):  # one character in each register
        raw = raw[1::2]
    text = raw.rstrip(b"\0 ").decode("ascii", errors="replace")
    if not text or not text.isprintable() or "�" in text:
        raise ValueError(Text("not text ({hex})", hex=raw.hex()))
    return text.strip()


def _digits(raw: bytes) -> str:
    if not raw.hex().isdecimal():
        raise ValueError(Text("not decimal digits ({hex})", hex=raw.hex()))
    return raw.hex()


def shortest32(number: float) -> Decimal:
    """The decimal with the fewest digits that reads back as the finite float32 `number`.

    Of several, it is the nearest one. Rounding away from zero is tried too: float32 numbers are
    twice as dense below a power of two as above it, so the nearest decimal of a length may read
    back as a neighbour while one farther away reads back as `number`.
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
    """The same number without trailing zeros and, up to READABLE digits, without an exponent."""
    number = number.normalize()
    if number.as_tuple().exponent > 0 and number.adjusted() < READABLE:  # type: ignore[operator]
        return number.quantize(Decimal(1))
    return number


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
    block: RegisterRange | None = None
    """the registers that the device answers only as a whole, with the value in them"""

    @property
    def spots(self) -> tuple[RegisterRange, ...]:
        """All registers that must be read to know the value."""
        return tuple(spot for spot in (self.block or self.spot, self.exponent, self.code) if spot)


@lru_cache(maxsize=8192)
def place(at: str) -> PointNotes:
    """Parse an address with its options. Raises ValueError with a message for its author."""
    if not at.strip():
        raise ValueError(Text("the address of the value is missing, such as input/72/float32"))
    where, *texts = at.split()
    options = PointNotes(parse(where))
    for text in texts:
        try:
            options = _with_option(options, text)
        except (ValueError, InvalidOperation) as error:
            known = "na= sf@ unit@ write@ most= pause= alone never= block="
            raise ValueError(
                Text(
                    '"{option}" is not an address option, or its value is wrong; the options are'
                    " {known}",
                    option=text,
                    known=known,
                )
            ) from error
    return options


def _with_option(options: PointNotes, text: str) -> PointNotes:  # noqa: C901, PLR0911 -- one a note
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
        case "block=":
            first, last = (int(at) for at in setting.split("-"))
            if not first <= options.spot.start < options.spot.end <= last + 1 < ADDRESSES:
                raise ValueError(text)
            return replace(options, block=RegisterRange(table, first, last - first + 1, "block"))
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


@dataclass(frozen=True, slots=True)
class Tariff:
    """The costs of reading a device on its line, in any unit, and the limit of one answer."""

    request: float = 10_000.0
    register: float = 1.0
    """the defaults are for Ethernet, 0.2 µs a register and some ms a request: few requests are
    best
    """
    most: int = 125
    """registers in one answer"""

    def cost(self, table: str, count: int) -> float:
        """The cost of one request for `count` cells."""
        return self.request + self.register * (count / 16 if table in BITS else count)


NETWORK = Tariff()


@dataclass(frozen=True, slots=True)
class ReadBlock:
    """One read request, and the points that it covers."""

    table: str
    start: int
    count: int
    points: tuple[int, ...] = ()
    """indexes into the spots that were planned, ordered by address"""


@lru_cache(maxsize=1024)
def plan(
    spots: tuple[RegisterRange, ...], cuts: frozenset[Cut] = frozenset(), tariff: Tariff = NETWORK
) -> tuple[ReadBlock, ...]:
    """The cheapest blocks that cover each spot whole and exactly once; of equal plans, the one with
    the fewest blocks. Pure.

    Dynamic programming over the spots in order of address. Only runs of neighbours need be tried:
    if a spot begins inside a block and is too long for it, it covers the block's remaining spots,
    which are then cheaper in its own block.
    """
    order = sorted(range(len(spots)), key=lambda i: (spots[i].table, spots[i].start))
    best: Ways = [(0.0, 0, ())]
    for last in range(len(order)):
        run = [spots[i] for i in order[: last + 1]]
        best.append(min(_endings(run, best, cuts, tariff)))
    bounds = (0, *best[-1][2])
    groups = [order[a:b] for a, b in pairwise(bounds)]
    return tuple(block(spots, group) for group in groups)


def _endings(run: list[RegisterRange], best: Ways, cuts: frozenset[Cut], tariff: Tariff) -> Ways:
    """All ways to cover a run of spots whose last block holds the last spot, each at least cost."""
    ways: Ways = []
    last, end, table, latest = len(run) - 1, 0, run[-1].table, run[-1].start
    boundary = max((at for t, at in cuts if t == table and at <= latest), default=-1)
    for first in range(last, -1, -1):
        spot = run[first]
        if spot.table != table or spot.start < boundary:
            break
        end = max(end, spot.end)
        # A single spot is planned even if it is too long: it cannot be divided, and the exception
        # of the device is the clearest message.
        if first < last and end - spot.start > _most(table, tariff):
            if latest - spot.start > _most(table, tariff):
                break
            continue
        cost, number, bounds = best[first]
        more = tariff.cost(table, end - spot.start)
        ways.append((round(cost + more, 9), number + 1, (*bounds, last + 1)))
    return ways


def _most(table: str, tariff: Tariff) -> int:
    # The table of a SunSpec model is not in LONGEST: it lies in the holding registers.
    return LONGEST[table] if table in BITS else min(LONGEST["holding"], tariff.most)


def block(spots: tuple[RegisterRange, ...], group: list[int]) -> ReadBlock:
    """The block that reads a group of spots of one table, ordered by address."""
    first = spots[group[0]]
    end = max(spots[i].end for i in group)
    return ReadBlock(first.table, first.start, end - first.start, tuple(group))


def cut(spots: tuple[RegisterRange, ...], refused: ReadBlock) -> Cut:
    """Where to divide a block that the device refused.

    At its widest gap, since devices mostly refuse unused registers; if there is no gap, in the
    middle. At least two of its spots must begin at different addresses.
    """
    starts = [spots[i].start for i in refused.points]
    ends = [spots[i].end for i in refused.points]
    middle = len(starts) / 2
    places = [i for i in range(1, len(starts)) if starts[i] > starts[i - 1]]
    best = max(
        places,
        key=lambda i: (max(0, starts[i] - max(ends[:i])), -abs(i - middle)),
    )
    return refused.table, starts[best]

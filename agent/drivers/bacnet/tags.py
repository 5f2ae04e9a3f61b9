"""Encode and decode BACnet values: tags and their contents (ANSI/ASHRAE 135-2020, clause 20.2).

Pure. A value that cannot be decoded becomes a Refusal in its place. Only bytes that cannot be split
into tags raise GarbledError. Numbers keep the device's own digits.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from agent.drivers.modbus.codec import plain, shortest32

if TYPE_CHECKING:
    from collections.abc import Sequence

NULL, BOOLEAN, UNSIGNED, SIGNED, REAL, DOUBLE, OCTETS, TEXT, BITS, ENUM, DATE, TIME, OBJECT = range(
    13
)
VALUE, OPEN, CLOSE = range(3)
EXTENDED, LONG, OPENING, TWO_BYTES = 15, 5, 6, 254
"""special numbers and lengths in a tag's first byte (20.2.1)"""
UNUSED_BITS, ANY, OBJECT_SIZE = 7, 255, 4
CHARSETS = {0: "utf-8", 3: "utf-32-be", 4: "utf-16-be", 5: "iso-8859-1"}
"""character sets (20.2.9); 1 is followed by a code page, 2 (JIS X 0208) is used in Japan only"""
FLOAT_SCALE, INTEGER_SCALE = 0, 1
GREATEST_POWER = 12
"""greatest power of ten in an accumulator's scale; a greater one is an error"""
LONGEST_NUMBER = 8
"""bytes of an integer; the standard has no limit, devices use four"""


class GarbledError(ValueError):
    """The bytes are not valid BACnet."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no value: a reason for people, and the code of the device's error."""

    reason: str
    code: int | None = None


class ObjectId(NamedTuple):
    """Type and instance of an object."""

    type: int
    instance: int


Item = Decimal | str | ObjectId | Refusal | None
"""one value; None is BACnet's NULL"""


class Tag(NamedTuple):
    """One tag and its contents."""

    number: int
    context: bool
    kind: int
    """VALUE, OPEN or CLOSE"""
    data: bytes
    length: int
    """length of the contents; for an application boolean, its value"""


def tags(data: bytes) -> list[Tag]:
    """Split bytes into tags. Raises GarbledError if one is incomplete."""
    parsed, at, end = [], 0, len(data)
    try:
        while at < end:
            first = data[at]
            at += 1
            number, context, length = first >> 4, bool(first & 8), first & 7
            if number == EXTENDED:
                number, at = data[at], at + 1
            if context and length > LONG:
                parsed.append(Tag(number, context, OPEN if length == OPENING else CLOSE, b"", 0))
                continue
            if length == LONG:
                length, at = _long(data, at)
            size = 0 if number == BOOLEAN and not context else length
            if at + size > end:
                raise GarbledError("a value is cut short")
            parsed.append(Tag(number, context, VALUE, data[at : at + size], length))
            at += size
    except IndexError:
        raise GarbledError("a tag is cut short") from None
    return parsed


def _long(data: bytes, at: int) -> tuple[int, int]:
    length = data[at]
    if length < TWO_BYTES:
        return length, at + 1
    size = 2 if length == TWO_BYTES else 4
    if at + 1 + size > len(data):
        raise GarbledError("a length is cut short")
    return int.from_bytes(data[at + 1 : at + 1 + size], "big"), at + 1 + size


def item(tag: Tag) -> Item:
    """The value in an application tag; a Refusal if it cannot be decoded."""
    reader = READERS.get(tag.number)
    if tag.context or tag.kind != VALUE or reader is None:
        return Refusal("a value of a type that gardien does not read")
    try:
        return reader(tag)
    except (ValueError, struct.error) as error:
        return Refusal(f"not readable ({error})")


def _null(_: Tag) -> None:
    return None


def _boolean(tag: Tag) -> Decimal:
    return Decimal(min(tag.length, 1))


def _unsigned(tag: Tag) -> Decimal:
    if not 1 <= len(tag.data) <= LONGEST_NUMBER:
        raise ValueError(f"an integer of {len(tag.data)} bytes")
    return Decimal(int.from_bytes(tag.data, "big"))


def _signed(tag: Tag) -> Decimal:
    if not 1 <= len(tag.data) <= LONGEST_NUMBER:
        raise ValueError(f"an integer of {len(tag.data)} bytes")
    return Decimal(int.from_bytes(tag.data, "big", signed=True))


def _real(tag: Tag) -> Item:
    (number,) = struct.unpack(">f", tag.data)
    return shortest32(number) if math.isfinite(number) else Refusal(f"not a number ({number})")


def _double(tag: Tag) -> Item:
    (number,) = struct.unpack(">d", tag.data)
    if not math.isfinite(number):
        return Refusal(f"not a number ({number})")
    return plain(Decimal(repr(number)))


def scale(tag: Tag) -> Item:
    """The factor in an accumulator's `scale`: a float (context 0) or a power of ten (context 1)
    (21, BACnetScale).
    """
    try:
        if tag.context and tag.kind == VALUE and tag.number == FLOAT_SCALE:
            return _real(tag)
        if tag.context and tag.kind == VALUE and tag.number == INTEGER_SCALE:
            power = int(_signed(tag))
            if abs(power) <= GREATEST_POWER:
                return plain(Decimal(1).scaleb(power))
            return Refusal(f"a scale of ten to the power of {power}")
    except (ValueError, struct.error) as error:
        return Refusal(f"not readable ({error})")
    return Refusal("a scale of a type that gardien does not read")


def _octets(tag: Tag) -> str:
    return tag.data.hex()


def _text(tag: Tag) -> str:
    if not tag.data:
        return ""
    charset, raw = tag.data[0], tag.data[1:]
    if charset == 1:  # a DBCS with the number of its code page
        name, raw = f"cp{int.from_bytes(raw[:2], 'big')}", raw[2:]
    else:
        name = CHARSETS.get(charset, "")
    try:
        return raw.decode(name).rstrip("\0")
    except LookupError:
        raise ValueError(f"text in character set {charset}") from None
    except UnicodeDecodeError:
        if charset == 0:  # many old devices announce UTF-8 and send Windows code page 1252
            return raw.decode("cp1252", errors="replace").rstrip("\0")
        raise


def _bits(tag: Tag) -> str:
    if not tag.data or tag.data[0] > UNUSED_BITS:
        raise ValueError("bits without a length")
    bits = "".join(f"{byte:08b}" for byte in tag.data[1:])
    return bits[: len(bits) - tag.data[0]] if tag.data[0] else bits


def _date(tag: Tag) -> str:
    year, month, day, _ = tag.data
    return f"{_part(year, 4, 1900)}-{_part(month)}-{_part(day)}"


def _time(tag: Tag) -> str:
    hour, minute, second, hundredth = tag.data
    return f"{_part(hour)}:{_part(minute)}:{_part(second)}.{_part(hundredth)}"


def _part(number: int, width: int = 2, base: int = 0) -> str:
    return "*" * width if number == ANY else f"{number + base:0{width}d}"


def _object(tag: Tag) -> ObjectId:
    (packed,) = struct.unpack(">I", tag.data)
    return ObjectId(packed >> 22, packed & 0x3FFFFF)


READERS = {
    NULL: _null,
    BOOLEAN: _boolean,
    UNSIGNED: _unsigned,
    SIGNED: _signed,
    REAL: _real,
    DOUBLE: _double,
    OCTETS: _octets,
    TEXT: _text,
    BITS: _bits,
    ENUM: _unsigned,
    DATE: _date,
    TIME: _time,
    OBJECT: _object,
}


def items(sequence: Sequence[Tag]) -> tuple[Item, ...]:
    """The values in a list of tags; a constructed value becomes one Refusal."""
    made: list[Item] = []
    depth = 0
    for tag in sequence:
        if tag.kind == OPEN:
            depth += 1
        elif tag.kind == CLOSE:
            depth -= 1
            if depth == 0:
                made.append(Refusal("a constructed value, which gardien does not read"))
        elif depth == 0:
            made.append(item(tag))
    return tuple(made)


def number_of(tag: Tag) -> int:
    """The whole number in a tag whose type follows from its position. Raises GarbledError."""
    if tag.kind != VALUE or not 1 <= len(tag.data) <= LONGEST_NUMBER:
        raise GarbledError("a number was expected")
    return int.from_bytes(tag.data, "big")


def object_of(tag: Tag) -> ObjectId:
    """The object identifier in a tag whose type follows from its position. Raises GarbledError."""
    if tag.kind != VALUE or len(tag.data) != OBJECT_SIZE:
        raise GarbledError("an object identifier was expected")
    return _object(tag)


def write(number: int, data: bytes, *, context: bool = False) -> bytes:
    """A tag with at most 253 bytes of contents; tag numbers up to 14."""
    length = len(data)
    first = number << 4 | (8 if context else 0)
    if length < LONG:
        return bytes([first | length]) + data
    return bytes([first | 5, length]) + data


def context(number: int, value: int) -> bytes:
    """A whole number under a context tag."""
    return write(number, unsigned(value), context=True)


def object_id(number: int, of: ObjectId) -> bytes:
    """An object identifier under a context tag."""
    return write(number, struct.pack(">I", of.type << 22 | of.instance), context=True)


def opening(number: int) -> bytes:
    """The tag that opens a constructed value."""
    return bytes([number << 4 | 0x0E])


def closing(number: int) -> bytes:
    """The tag that closes a constructed value."""
    return bytes([number << 4 | 0x0F])


def unsigned(value: int) -> bytes:
    """A whole number in as few bytes as possible, at least one."""
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")

"""BACnet's names and bytes (ANSI/ASHRAE 135-2020, clauses 12 to 21). Pure.

Requests are encoded; answers and values are decoded.

Only those numbers have names that occur in buildings. Any other object or property can be written
as its number.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from agent.core.i18n import N_, Text
from agent.core.quantities import spoken
from agent.drivers.modbus.codec import plain, shortest32

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

OBJECTS = MappingProxyType(
    {
        "analog-input": 0, "analog-output": 1, "analog-value": 2, "binary-input": 3,
        "binary-output": 4, "binary-value": 5, "calendar": 6, "command": 7, "device": 8,
        "event-enrollment": 9, "file": 10, "group": 11, "loop": 12, "multi-state-input": 13,
        "multi-state-output": 14, "notification-class": 15, "program": 16, "schedule": 17,
        "averaging": 18, "multi-state-value": 19, "trend-log": 20, "life-safety-point": 21,
        "life-safety-zone": 22, "accumulator": 23, "pulse-converter": 24, "event-log": 25,
        "global-group": 26, "trend-log-multiple": 27, "load-control": 28, "structured-view": 29,
        "access-door": 30, "timer": 31, "bitstring-value": 39, "characterstring-value": 40,
        "date-value": 42, "datetime-value": 44, "integer-value": 45, "large-analog-value": 46,
        "octetstring-value": 47, "positive-integer-value": 48, "time-value": 50,
        "notification-forwarder": 51, "channel": 53, "lighting-output": 54,
        "binary-lighting-output": 55, "network-port": 56, "elevator-group": 57, "escalator": 58,
        "lift": 59, "staging": 60,
    }
)  # fmt: skip

PROPERTIES = MappingProxyType(
    {
        "active-text": 4, "apdu-timeout": 11, "application-software-version": 12,
        "cov-increment": 22, "description": 28, "event-state": 36, "firmware-revision": 44,
        "inactive-text": 46,
        "local-date": 56, "local-time": 57, "location": 58, "max-apdu-length-accepted": 62,
        "max-pres-value": 65, "min-pres-value": 69, "model-name": 70, "number-of-states": 74,
        "object-identifier": 75, "object-list": 76, "object-name": 77, "object-type": 79,
        "out-of-service": 81, "present-value": 85, "priority-array": 87, "reliability": 103,
        "relinquish-default": 104, "segmentation-supported": 107, "state-text": 110,
        "status-flags": 111, "system-status": 112, "units": 117, "vendor-identifier": 120,
        "vendor-name": 121, "scale": 187, "minimum-on-time": 67, "minimum-off-time": 66,
        "serial-number": 372,
    }
)  # fmt: skip

PRESENT_VALUE = PROPERTIES["present-value"]
STATUS_FLAGS = PROPERTIES["status-flags"]
PRIORITY_ARRAY = PROPERTIES["priority-array"]
RELINQUISH_DEFAULT = PROPERTIES["relinquish-default"]
OBJECT_LIST = PROPERTIES["object-list"]
OBJECT_NAME = PROPERTIES["object-name"]
DESCRIPTION = PROPERTIES["description"]
UNITS = PROPERTIES["units"]
SCALE = PROPERTIES["scale"]
MAX_APDU = PROPERTIES["max-apdu-length-accepted"]
DEVICE = OBJECTS["device"]
ACCUMULATOR = OBJECTS["accumulator"]


UNRECOGNIZED_SERVICE = 9
REJECTED = -1
"""a reject for reason n has the code REJECTED - n, so that it differs from the codes of errors"""
REJECTS = (
    N_("reject: other"), N_("buffer overflow"),
    N_("inconsistent parameters"), N_("invalid parameter datatype"),
    N_("invalid tag"), N_("missing required parameter"),
    N_("parameter out of range"), N_("too many arguments"),
    N_("undefined enumeration"), N_("unrecognized service"),
)  # fmt: skip
ABORTS = (
    N_("abort: other"), N_("buffer overflow"), N_("invalid in this state"), N_("preempted"),
    N_("segmentation not supported"), N_("security error"), N_("insufficient security"),
    N_("window size out of range"),
    N_("application exceeded reply time"), N_("out of resources"), N_("timed out"), N_("too long"),
)  # fmt: skip
ERRORS = MappingProxyType(
    {
        0: N_("other error"), 2: N_("configuration in progress"),
        3: N_("device busy"), 9: N_("invalid data type"),
        13: N_("invalid parameter data type"),
        20: N_("no space to write"), 25: N_("operational problem"),
        27: N_("read access denied"), 29: N_("service request denied"), 30: N_("timeout"),
        31: N_("unknown object"), 32: N_("unknown property"), 36: N_("unsupported object type"),
        37: N_("value out of range"),
        40: N_("write access denied"), 41: N_("character set not supported"),
        42: N_("invalid array index"), 43: N_("subscription failed"), 44: N_("not a COV property"),
        45: N_("not supported"),
        47: N_("datatype not supported"), 50: N_("property is not an array"),
        19: N_("no space for another subscription"), 72: N_("value not initialized"),
        79: N_("unknown subscription"), 82: N_("busy"),
        83: N_("communication disabled"), 85: N_("access denied"),
        132: N_("not configured"), 133: N_("out of memory"), 138: N_("invalid value in this state"),
    }
)  # fmt: skip
UNKNOWN_OBJECT, UNKNOWN_PROPERTY = 31, 32

ENGINEERING_UNITS = MappingProxyType(
    {
        3: "A", 2: "mA", 5: "V", 124: "mV", 6: "kV", 7: "MV",
        47: "W", 132: "mW", 48: "kW", 49: "MW", 18: "Wh", 19: "kWh", 146: "MWh", 16: "J",
        17: "kJ", 126: "MJ", 8: "VA", 9: "kVA",
        10: "MVA", 11: "var", 12: "kvar", 13: "Mvar", 203: "varh", 204: "kvarh", 205: "Mvarh",
        242: "varh", 243: "kvarh", 244: "Mvarh", 239: "VAh", 240: "kVAh", 241: "MVAh",
        27: "Hz", 129: "kHz", 130: "MHz", 53: "Pa", 133: "mbar",  # a hectopascal
        54: "kPa", 134: "mbar", 55: "bar", 80: "m3", 82: "l", 197: "ml", 135: "m3/h",
        136: "l/h", 88: "l/min", 87: "l/s", 73: "s", 72: "min", 71: "h", 95: "1", 98: "%",
        96: "ppm", 97: "ppb", 29: "%RH", 37: "lx", 199: "dB", 62: "Cel", 63: None, 121: "K",
        90: "deg", 14: "deg", 15: "1",
    }
)  # fmt: skip
"""by BACnet's number of an engineering unit, the unit in gardien; None: no exact conversion"""
NO_UNITS = 95
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
CONFIRMED_COV, SUBSCRIBE_COV, READ, READ_MULTIPLE, WRITE = 1, 5, 12, 14, 15
I_AM, UNCONFIRMED_COV, WHO_IS = 0, 2, 8


SIZE_OF_OBJECT, SIZE_OF_VALUE = 7, 9
"""bytes of an object and of a real value in an answer. Texts are longer: if an answer does not fit,
the device refuses, and the request is halved
"""
HEADER = 12
"""bytes of an answer before its values"""


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
                made.append(Refusal(Text("a constructed value, which gardien does not read")))
        elif depth == 0:
            made.append(item(tag))
    return tuple(made)


TYPE_NAMES = MappingProxyType({number: name for name, number in OBJECTS.items()})


PROPERTY_NAMES = MappingProxyType({number: name for name, number in PROPERTIES.items()})


def type_name(number: int) -> str:
    """The name of an object type, or its number if it has no name here."""
    return TYPE_NAMES.get(number, str(number))


def unit_name(number: int) -> str:
    """The name of an engineering unit for people, or its name in the standard."""
    from bacpypes3.basetypes import EngineeringUnits  # noqa: PLC0415 -- large, seldom needed

    ours = ENGINEERING_UNITS.get(number)
    if ours is None or ours == "1":
        return str(EngineeringUnits(number))
    return spoken(ours)


def reason_text(texts: tuple[str, ...], code: int) -> Text:
    """The text for the reason of a reject or abort."""
    return Text(texts[code]) if code < len(texts) else Text("reason {code}", code=code)


class GarbledError(ValueError):
    """The bytes are not valid BACnet."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no value: a reason for people, and the code of the device's error."""

    reason: Text
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
                raise GarbledError(Text("a value is cut short"))
            parsed.append(Tag(number, context, VALUE, data[at : at + size], length))
            at += size
    except IndexError:
        raise GarbledError(Text("a tag is cut short")) from None
    return parsed


def _long(data: bytes, at: int) -> tuple[int, int]:
    length = data[at]
    if length < TWO_BYTES:
        return length, at + 1
    size = 2 if length == TWO_BYTES else 4
    if at + 1 + size > len(data):
        raise GarbledError(Text("a length is cut short"))
    return int.from_bytes(data[at + 1 : at + 1 + size], "big"), at + 1 + size


def item(tag: Tag) -> Item:
    """The value in an application tag; a Refusal if it cannot be decoded."""
    reader = READERS.get(tag.number)
    if tag.context or tag.kind != VALUE or reader is None:
        return Refusal(Text("a value of a type that gardien does not read"))
    try:
        return reader(tag)
    except (ValueError, struct.error) as error:
        return Refusal(Text("not readable ({error})", error=error))


def _null(_: Tag) -> None:
    return None


def _boolean(tag: Tag) -> Decimal:
    return Decimal(min(tag.length, 1))


def _unsigned(tag: Tag) -> Decimal:
    if not 1 <= len(tag.data) <= LONGEST_NUMBER:
        raise ValueError(Text("an integer of {number} bytes", number=len(tag.data)))
    return Decimal(int.from_bytes(tag.data, "big"))


def _signed(tag: Tag) -> Decimal:
    if not 1 <= len(tag.data) <= LONGEST_NUMBER:
        raise ValueError(Text("an integer of {number} bytes", number=len(tag.data)))
    return Decimal(int.from_bytes(tag.data, "big", signed=True))


def _real(tag: Tag) -> Item:
    (number,) = struct.unpack(">f", tag.data)
    return (
        shortest32(number)
        if math.isfinite(number)
        else Refusal(Text("not a number ({number})", number=number))
    )


def _double(tag: Tag) -> Item:
    (number,) = struct.unpack(">d", tag.data)
    if not math.isfinite(number):
        return Refusal(Text("not a number ({number})", number=number))
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
            return Refusal(Text("a scale of ten to the power of {power}", power=power))
    except (ValueError, struct.error) as error:
        return Refusal(Text("not readable ({error})", error=error))
    return Refusal(Text("a scale of a type that gardien does not read"))


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
        raise ValueError(Text("text in character set {charset}", charset=charset)) from None
    except UnicodeDecodeError:
        if charset == 0:  # many old devices announce UTF-8 and send Windows code page 1252
            return raw.decode("cp1252", errors="replace").rstrip("\0")
        raise


def _bits(tag: Tag) -> str:
    if not tag.data or tag.data[0] > UNUSED_BITS:
        raise ValueError(Text("bits without a length"))
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


def number_of(tag: Tag) -> int:
    """The whole number in a tag whose type follows from its position. Raises GarbledError."""
    if tag.kind != VALUE or not 1 <= len(tag.data) <= LONGEST_NUMBER:
        raise GarbledError(Text("a number was expected"))
    return int.from_bytes(tag.data, "big")


def object_of(tag: Tag) -> ObjectId:
    """The object identifier in a tag whose type follows from its position. Raises GarbledError."""
    if tag.kind != VALUE or len(tag.data) != OBJECT_SIZE:
        raise GarbledError(Text("an object identifier was expected"))
    return _object(tag)


def write_tag(number: int, data: bytes, *, context: bool = False) -> bytes:
    """A tag with at most 253 bytes of contents; tag numbers up to 14."""
    length = len(data)
    first = number << 4 | (8 if context else 0)
    if length < LONG:
        return bytes([first | length]) + data
    return bytes([first | 5, length]) + data


def context(number: int, value: int) -> bytes:
    """A whole number under a context tag."""
    return write_tag(number, unsigned(value), context=True)


def object_id(number: int, of: ObjectId) -> bytes:
    """An object identifier under a context tag."""
    return write_tag(number, struct.pack(">I", of.type << 22 | of.instance), context=True)


def opening(number: int) -> bytes:
    """The tag that opens a constructed value."""
    return bytes([number << 4 | 0x0E])


def closing(number: int) -> bytes:
    """The tag that closes a constructed value."""
    return bytes([number << 4 | 0x0F])


def unsigned(value: int) -> bytes:
    """A whole number in as few bytes as possible, at least one."""
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")


Content = tuple[Item, ...] | Refusal
"""the values of a property (a simple property has one), or why there are none"""


class Ref(NamedTuple):
    """One property of one object, or one element of it."""

    object: ObjectId
    property: int
    element: int | None = None
    """index in an array, from 1; 0: the number of elements"""


class IAm(NamedTuple):
    """A device's announcement of itself."""

    instance: int
    max_apdu: int
    segmentation: int
    vendor: int


class Notification(NamedTuple):
    """A notification of a change of value, to which the gateway subscribed."""

    process: int
    device: int
    object: ObjectId
    values: Mapping[int, Content]


def read_request(ref: Ref) -> bytes:
    """A ReadProperty request (15.5)."""
    index = b"" if ref.element is None else context(2, ref.element)
    return object_id(0, ref.object) + context(1, ref.property) + index


def read_multiple(refs: Sequence[Ref]) -> bytes:
    """A ReadPropertyMultiple request (15.7); successive properties of an object share an entry."""
    parts: list[bytes] = []
    last = None
    for ref in refs:
        if ref.object != last:
            parts += [closing(1)] if last else []
            parts += [object_id(0, ref.object), opening(1)]
            last = ref.object
        parts.append(context(0, ref.property))
        if ref.element is not None:
            parts.append(context(1, ref.element))
    return b"".join([*parts, closing(1)])


def write_request(ref: Ref, value: bytes, priority: int | None) -> bytes:
    """A WriteProperty request (15.9); `value` has its tag already."""
    index = b"" if ref.element is None else context(2, ref.element)
    return (
        object_id(0, ref.object)
        + context(1, ref.property)
        + index
        + opening(3)
        + value
        + closing(3)
        + (b"" if priority is None else context(4, priority))
    )


def subscribe(process: int, of: ObjectId, lifetime: int | None) -> bytes:
    """A SubscribeCOV request for confirmed notifications (13.14); `lifetime` None: unsubscribe."""
    request = context(0, process) + object_id(1, of)
    return request if lifetime is None else request + context(2, 1) + context(3, lifetime)


def who_is(first: int, last: int) -> bytes:
    """A Who-Is for a range of device instances (16.10)."""
    return context(0, first) + context(1, last)


def read_answer(data: bytes, requested: Ref) -> Content:
    """The content of a ReadProperty answer. Raises GarbledError, also for another property."""
    ref, content = read_any(data)
    if ref != requested:
        raise GarbledError(Text("answer to another request"))
    return content


def read_any(data: bytes) -> tuple[Ref, Content]:
    """The property and the content of any ReadProperty answer. Raises GarbledError."""
    at = _TagReader(tags(data))
    return _property(at, object_of(at.next()), 1, 2, 3)


def read_multiple_answer(data: bytes) -> dict[Ref, Content]:
    """The contents of a ReadPropertyMultiple answer, by property. Raises GarbledError."""
    at, contents = _TagReader(tags(data)), {}
    while not at.ended:
        of = object_of(at.next())
        at.expect(OPEN, 1)
        while not at.closes(1):
            ref, content = _property(at, of, 2, 3, 4, error=5)
            contents[ref] = content
        at.expect(CLOSE, 1)
    return contents


def i_am(data: bytes) -> IAm:
    """Decode an I-Am. Raises GarbledError."""
    values = tags(data)
    if len(values) < len(IAm._fields):
        raise GarbledError(Text("an I-Am of fewer than four values"))
    device = object_of(values[0])
    return IAm(device.instance, *(number_of(tag) for tag in values[1:4]))


def notification(data: bytes) -> Notification:
    """Decode a COV notification (13.1). Raises GarbledError."""
    at = _TagReader(tags(data))
    process, device, of = number_of(at.next()), object_of(at.next()), object_of(at.next())
    number_of(at.next())  # remaining seconds: renewals follow the gateway's own clock
    at.expect(OPEN, 4)
    values = {}
    while not at.closes(4):
        ref, content = _property(at, of, 0, 1, 2)
        values[ref.property] = content
        if at.at(3):  # the priority at which it was commanded
            at.next()
    return Notification(process, device.instance, of, values)


def _meaning(code: int, of: int | None = None) -> Text:
    if code in ERRORS:
        return Text(ERRORS[code])
    if of is None:
        return Text("error {code}", code=code)
    return Text("error {code} of class {number}", code=code, number=of)


def error(data: bytes) -> Refusal:
    """The reason in an Error PDU, by its class and code (21, Error)."""
    try:
        numbers = [number_of(tag) for tag in tags(data) if tag.kind not in (OPEN, CLOSE)]
        code = numbers[1]
    except (GarbledError, IndexError):
        return Refusal(Text("refused, with an unreadable reason"))
    return Refusal(_meaning(code, numbers[0]), code)


class _TagReader:
    """Reads a list of tags in order. Reading beyond its end raises GarbledError."""

    def __init__(self, tag_list: Sequence[Tag]) -> None:
        self.tags, self.index = tag_list, 0

    @property
    def ended(self) -> bool:
        return self.index >= len(self.tags)

    def next(self) -> Tag:
        if self.ended:
            raise GarbledError(Text("an answer is cut short"))
        self.index += 1
        return self.tags[self.index - 1]

    def at(self, number: int) -> bool:
        """Whether a context value of this number comes next."""
        tag = None if self.ended else self.tags[self.index]
        return (
            tag is not None
            and tag.context
            and tag.kind not in (OPEN, CLOSE)
            and (tag.number == number)
        )

    def opens(self, number: int) -> bool:
        return self._is(OPEN, number)

    def closes(self, number: int) -> bool:
        if self.ended:
            raise GarbledError(Text("an answer is cut short"))
        return self._is(CLOSE, number)

    def expect(self, kind: int, number: int) -> None:
        if not self._is(kind, number):
            raise GarbledError(Text("a bracket is missing"))
        self.index += 1

    def inside(self, number: int) -> Sequence[Tag]:
        """The tags between two brackets of this number."""
        self.expect(OPEN, number)
        start, depth = self.index, 1
        while depth:
            kind = self.next().kind
            depth += 1 if kind == OPEN else -1 if kind == CLOSE else 0
        return self.tags[start : self.index - 1]

    def _is(self, kind: int, number: int) -> bool:
        if self.ended:
            return False
        tag = self.tags[self.index]
        return tag.kind == kind and tag.number == number


def _property(  # noqa: PLR0913 -- the numbers that three services give the same four things
    at: _TagReader, of: ObjectId, name: int, index: int, value: int, *, error: int = -1
) -> tuple[Ref, Content]:
    if not at.at(name):
        raise GarbledError(Text("a property was expected"))
    number = number_of(at.next())
    ref = Ref(of, number, number_of(at.next()) if at.at(index) else None)
    if at.opens(error):
        return ref, _refused(at.inside(error))
    value_tags = at.inside(value)
    # The scale of an accumulator is a choice, marked by context tags, which `items` cannot decode.
    if number == SCALE and of.type == ACCUMULATOR and len(value_tags) == 1:
        return ref, (scale(value_tags[0]),)
    return ref, items(value_tags)


def _refused(error_tags: Sequence[Tag]) -> Refusal:
    code = number_of(error_tags[1]) if len(error_tags) > 1 else 0
    return Refusal(_meaning(code), code)


def aborted(code: int) -> Refusal:
    """The reason in an Abort PDU."""
    return Refusal(Text(ABORTS[code] if code < len(ABORTS) else N_("abort {code}"), code=code))


def chunks(refs: Sequence[Ref], room: int) -> Iterator[tuple[Ref, ...]]:
    """Split properties into requests whose answers probably fit into `room` bytes.

    The properties of one object stay together.
    """
    chunk: list[Ref] = []
    for _, group in groupby(refs, key=attrgetter("object")):
        group_refs = list(group)
        if chunk and size([*chunk, *group_refs]) > room:
            yield tuple(chunk)
            chunk = []
        chunk += group_refs
    if chunk:
        yield tuple(chunk)


def size(refs: Sequence[Ref]) -> int:
    """The estimated bytes of an answer without its header."""
    return len({ref.object for ref in refs}) * SIZE_OF_OBJECT + len(refs) * SIZE_OF_VALUE

"""Encode requests and decode answers of the services in use (135-2020, 13, 15 and 16). Pure."""

from __future__ import annotations

from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from agent.drivers.bacnet.names import ABORTS, ACCUMULATOR, ERRORS, SCALE
from agent.drivers.bacnet.tags import (
    CLOSE,
    OPEN,
    GarbledError,
    Item,
    ObjectId,
    Refusal,
    Tag,
    closing,
    context,
    items,
    number_of,
    object_id,
    object_of,
    opening,
    scale,
    tags,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

CONFIRMED_COV, SUBSCRIBE_COV, READ, READ_MULTIPLE, WRITE = 1, 5, 12, 14, 15
I_AM, UNCONFIRMED_COV, WHO_IS = 0, 2, 8

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


def read(ref: Ref) -> bytes:
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


def write(ref: Ref, value: bytes, priority: int | None) -> bytes:
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
    parsed = tags(data)
    at = _TagReader(parsed)
    ref, content = _property(at, object_of(at.next()), 1, 2, 3)
    if ref != requested:
        raise GarbledError("answer to another request")
    return content


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
        raise GarbledError("an I-Am of fewer than four values")
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


def error(data: bytes) -> Refusal:
    """The reason in an Error PDU, by its class and code (21, Error)."""
    try:
        numbers = [number_of(tag) for tag in tags(data) if tag.kind not in (OPEN, CLOSE)]
        code = numbers[1]
    except (GarbledError, IndexError):
        return Refusal("refused, with an unreadable reason")
    return Refusal(ERRORS.get(code, f"error {code} of class {numbers[0]}"), code)


class _TagReader:
    """Reads a list of tags in order. Reading beyond its end raises GarbledError."""

    def __init__(self, tag_list: Sequence[Tag]) -> None:
        self.tags, self.index = tag_list, 0

    @property
    def ended(self) -> bool:
        return self.index >= len(self.tags)

    def next(self) -> Tag:
        if self.ended:
            raise GarbledError("an answer is cut short")
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
            raise GarbledError("an answer is cut short")
        return self._is(CLOSE, number)

    def expect(self, kind: int, number: int) -> None:
        if not self._is(kind, number):
            raise GarbledError("a bracket is missing")
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
        raise GarbledError("a property was expected")
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
    return Refusal(ERRORS.get(code, f"error {code}"), code)


def aborted(code: int) -> Refusal:
    """The reason in an Abort PDU."""
    return Refusal(ABORTS[code] if code < len(ABORTS) else f"abort {code}")


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


SIZE_OF_OBJECT, SIZE_OF_VALUE = 7, 9
"""bytes of an object and of a real value in an answer. Texts are longer: if an answer does not fit,
the device refuses, and the request is halved
"""
HEADER = 12
"""bytes of an answer before its values"""

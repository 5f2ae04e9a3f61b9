"""Search a BACnet network: devices, their objects, and what these probably measure."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from agent.core.clock import monotonic
from agent.core.errors import Refused
from agent.core.i18n import EMPTY, Text, text_of
from agent.drivers.bacnet import values, wire
from agent.drivers.bacnet.codec import (
    ACCUMULATOR,
    DESCRIPTION,
    DEVICE,
    OBJECT_LIST,
    OBJECT_NAME,
    PRESENT_VALUE,
    PRIORITY_ARRAY,
    PROPERTIES,
    SCALE,
    UNITS,
    UNKNOWN_PROPERTY,
    ObjectId,
    Ref,
    Refusal,
    unit_name,
)
from agent.drivers.bacnet.ede import VALUES, Thing, at_of, channel_of, name_of, points
from agent.drivers.bacnet.settings import LAST_INSTANCE
from agent.drivers.bacnet.wire import MISSING, NotAnsweredError, station
from agent.drivers.base import Found, Progress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from bacpypes3.pdu import Address

    from agent.drivers.bacnet.codec import Content, IAm
    from agent.drivers.bacnet.devices import Directory
    from agent.drivers.bacnet.wire import BacnetPort, Contents, Peer
    from agent.drivers.base import Wish

_T = TypeVar("_T")

MANY = 30
"""answers to one Who-Is above which some may be lost, so that each half of the range is asked again
"""
MOST_WAITS = 20
"""waits for further answers to one Who-Is; devices that come and go must not make it endless"""
OBJECTS_AT_ONCE = 40
MOST_OBJECTS = 20_000
MOST_DEVICES = 10_000
ASK_FOR_COMMANDS = 16
"""the slot that is read to learn whether an object has a priority array"""
ABOUT = ("object-name", "vendor-name", "model-name")


class Scan:
    """One search at a time."""

    def __init__(self, wire: BacnetPort, directory: Directory) -> None:
        self.wire, self.directory = wire, directory
        self._announced: dict[int, tuple[Address, IAm]] | None = None
        self._duplicates: set[int] = set()
        self._names: set[str] = set()

    def announced(self, address: Address, i_am: IAm) -> None:
        """Take an I-Am during a search."""
        if self._announced is None or len(self._announced) >= MOST_DEVICES:
            return
        other, _ = self._announced.setdefault(i_am.instance, (address, i_am))
        if station(other) != station(address):
            self._duplicates.add(i_am.instance)

    async def discover(self, wish: Wish) -> AsyncIterator[Found | Progress]:
        """Search; see `agent.drivers.base.Discovers`."""
        first, last = _instance(wish.first, 0), _instance(wish.last, LAST_INSTANCE)
        self._announced, self._duplicates, self._names = {}, set(), set()
        try:
            yield Progress(0, 1, Text("asking all devices for their numbers"))
            await self._who_is(first, last)
            devices = sorted(self._announced.items())
        finally:
            self._announced = None
        if not devices:
            text = Text(
                "no device answers; a broadcast does not cross an IP router: where there is one,"
                " name its BBMD in `bbmd` or its stations in `ask`"
            )
            yield Progress(1, 1, text, stays=True)
        for number, (instance, (address, i_am)) in enumerate(devices):
            yield Progress(number, len(devices), Text("device {instance}", instance=instance))
            peer = replace(self.directory.peer(instance, address, i_am.max_apdu))
            async for step in self._device(peer):
                yield step

    async def _who_is(self, first: int, last: int) -> None:
        """Send Who-Is for a range. If many devices answer, ask its halves until none is new."""
        assert self._announced is not None
        before = self._inside(first, last)
        await self.directory.who_is(first, last)
        await self._answers()
        now = self._inside(first, last)
        if len(now) > MANY and len(now) > len(before) and first < last:
            middle = min(max(now[len(now) // 2], first), last - 1)
            await self._who_is(first, middle)
            await self._who_is(middle + 1, last)

    async def _answers(self) -> None:
        """Wait for half a timeout, and on while devices answer that are not known yet."""
        assert self._announced is not None
        wait = self.wire.timeout / 2
        for _ in range(MOST_WAITS):
            known, began = len(self._announced), monotonic()
            await asyncio.sleep(wait)
            # a busy gateway, which wakes late, has perhaps not read the answers that lie there
            busy = monotonic() - began > wait * 1.5
            if len(self._announced) == known and not busy:
                return
            wait = self.wire.timeout / 6

    def _inside(self, first: int, last: int) -> list[int]:
        assert self._announced is not None
        return sorted(instance for instance in self._announced if first <= instance <= last)

    async def _device(self, peer: Peer) -> AsyncIterator[Found | Progress]:
        try:
            about = await self._about(peer)
            object_ids, warnings = await self._objects(peer)
            things: list[Thing] = []
            objects: list[dict[str, Any]] = []
            valued = [object_id for object_id in object_ids if object_id.type in VALUES]
            for group in _groups(valued):
                things += await self._things(peer, group, objects)
                text = Text("device {instance}: objects", instance=peer.instance)
                yield Progress(len(things), len(object_ids), text)
            for group in _groups([one for one in object_ids if one.type not in VALUES]):
                objects += await self._names_of(peer, group)
        except NotAnsweredError as error:
            yield self._result(peer, {}, [], [text_of(error)])
            return
        if peer.instance in self._duplicates:
            warnings.append(
                Text(
                    "two devices have the number {instance}: change one of them",
                    instance=peer.instance,
                )
            )
        if len(object_ids) >= MOST_OBJECTS:
            warnings.append(
                Text("only the first {most_objects} objects were read", most_objects=MOST_OBJECTS)
            )
        yield replace(self._result(peer, about, things, warnings), objects=tuple(objects))

    async def _about(self, peer: Peer) -> dict[str, str]:
        device = ObjectId(DEVICE, peer.instance)
        contents = await self._read(peer, [Ref(device, PROPERTIES[name]) for name in ABOUT])
        return {name: text(contents.get(Ref(device, PROPERTIES[name]))) for name in ABOUT}

    async def _objects(self, peer: Peer) -> tuple[list[ObjectId], list[Text]]:
        """The objects of a device: its whole list at once, or if it refuses, by index."""
        whole = Ref(ObjectId(DEVICE, peer.instance), OBJECT_LIST)
        async with peer.turn:
            content = await wire.read_property(self.wire, peer, whole)
        if not isinstance(content, Refusal):
            return _ids(content), []
        async with peer.turn:
            count = await wire.read_property(self.wire, peer, whole._replace(element=0))
        if isinstance(count, Refusal) or len(count) != 1 or not isinstance(count[0], Decimal):
            return [], [Text("the device does not list its objects")]
        object_ids: list[ObjectId] = []
        indexes = range(1, min(int(count[0]), MOST_OBJECTS) + 1)
        for group in _groups([whole._replace(element=n) for n in indexes]):
            contents = await self._read(peer, group)
            object_ids += [object_id for ref in group for object_id in _ids(contents.get(ref, ()))]
        return object_ids, []

    async def _names_of(self, peer: Peer, objects: Sequence[ObjectId]) -> list[dict[str, Any]]:
        """What is said of objects without a value, such as schedules."""
        contents = await self._read(peer, [Ref(of, OBJECT_NAME) for of in objects])
        return [
            {"at": at_of(of), "name": text(contents.get(Ref(of, OBJECT_NAME))), "value": None}
            for of in objects
        ]

    async def _things(
        self, peer: Peer, objects: Sequence[ObjectId], listed: list[dict[str, Any]]
    ) -> list[Thing]:
        """The objects with a value; `listed` receives all that is said of them."""
        refs = [
            ref
            for of in objects
            for ref in (
                Ref(of, OBJECT_NAME),
                Ref(of, DESCRIPTION),
                Ref(of, UNITS),
                Ref(of, PRESENT_VALUE),
                Ref(of, PRIORITY_ARRAY, ASK_FOR_COMMANDS),
                *((Ref(of, SCALE),) if of.type == ACCUMULATOR else ()),
            )
        ]
        contents = await self._read(peer, refs)
        things = [_thing(of, contents) for of in objects]
        listed += [_listed(thing, contents) for thing in things]
        return things

    async def _read(self, peer: Peer, refs: Sequence[Ref]) -> Contents:
        contents: Contents = {}
        async with peer.turn:
            await wire.read(self.wire, peer, refs, contents)
        return contents

    def _result(
        self, peer: Peer, about: dict[str, str], things: Sequence[Thing], warnings: Sequence[Text]
    ) -> Found:
        point_entries, point_warnings = points(things)
        name = about.get("object-name", "")
        rest = len(things) - len(point_entries)
        about_text = " ".join(
            part for part in (about.get("vendor-name"), about.get("model-name"), name) if part
        )
        return Found(
            name=name_of(name, peer.instance, self._names),
            entry={
                "address": str(peer.instance),
                **({"points": point_entries} if point_entries else {}),
            },
            about=Text(
                "{value} ({instance} at {address})",
                value=about_text or Text("BACnet device"),
                instance=peer.instance,
                address=peer.address,
            )
            + (Text(", {rest} further values", rest=rest) if rest else ""),
            warnings=(*warnings, *point_warnings),
        )


def _thing(of: ObjectId, contents: Contents) -> Thing:
    units = contents.get(Ref(of, UNITS), ())
    number = units[0] if not isinstance(units, Refusal) and units else None
    slot = contents.get(Ref(of, PRIORITY_ARRAY, ASK_FOR_COMMANDS), Refusal(EMPTY))
    return Thing(
        of,
        text(contents.get(Ref(of, OBJECT_NAME))),
        text(contents.get(Ref(of, DESCRIPTION))),
        int(number) if isinstance(number, Decimal) else None,
        not isinstance(slot, Refusal),
        _unscaled(contents.get(Ref(of, SCALE))),
    )


def _listed(thing: Thing, contents: Contents) -> dict[str, Any]:
    """All that an object says, for people; its value is raw, without the scale beside it."""
    entry: dict[str, Any] = {"at": at_of(thing.object), "name": thing.name}
    entry |= values.entry(contents.get(Ref(thing.object, PRESENT_VALUE), MISSING))
    if thing.units is not None:
        entry["unit"] = unit_name(thing.units)
    if thing.description:
        entry["description"] = thing.description
    factor = contents.get(Ref(thing.object, SCALE))
    if thing.object.type == ACCUMULATOR and factor and not isinstance(factor, Refusal):
        entry["scale"] = values.entry(factor)["value"]
    return entry | {"channel": channel_of(thing)}


def _unscaled(content: Content | None) -> str:
    """Why the scale of an accumulator is not known; empty: it is known, or there is none."""
    if isinstance(content, Refusal):
        return "" if content.code == UNKNOWN_PROPERTY else content.reason
    item = content[0] if content else None
    return item.reason if isinstance(item, Refusal) else ""


def text(content: Content | None) -> str:
    """A text property on one line; empty if there is none."""
    if content is None or isinstance(content, Refusal) or not content:
        return ""
    return " ".join(content[0].split())[:80] if isinstance(content[0], str) else ""


def _ids(content: Content) -> list[ObjectId]:
    return [] if isinstance(content, Refusal) else [i for i in content if isinstance(i, ObjectId)]


def _groups(everything: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for start in range(0, len(everything), OBJECTS_AT_ONCE):
        yield everything[start : start + OBJECTS_AT_ONCE]


def _instance(written: str, otherwise: int) -> int:
    if not written:
        return otherwise
    if not written.isdigit() or int(written) > LAST_INSTANCE:
        raise Refused(
            '"{written}" is not an instance number, 0 to {last_instance}',
            written=written,
            last_instance=LAST_INSTANCE,
        )
    return int(written)

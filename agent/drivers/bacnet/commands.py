"""Commands: write, read and empty the gateway's slots in priority arrays (135-2020, clause 19.2).

The gateway writes only into its own slots. NULL releases one slot and leaves the others in force.
Rule F6.
"""

from __future__ import annotations

import struct
from decimal import Decimal
from typing import TYPE_CHECKING

from agent.core.clock import monotonic
from agent.core.errors import Refused, WriteRefused
from agent.drivers.bacnet import notation, reading, services
from agent.drivers.bacnet.names import OBJECTS, PRESENT_VALUE, PRIORITY_ARRAY, type_name
from agent.drivers.bacnet.reading import read_property
from agent.drivers.bacnet.services import Ref
from agent.drivers.bacnet.tags import (
    DOUBLE,
    ENUM,
    NULL,
    REAL,
    SIGNED,
    UNSIGNED,
    ObjectId,
    Refusal,
    unsigned,
    write,
)
from agent.drivers.bacnet.wire import DeniedError, NotAnsweredError
from agent.drivers.base import PointSlots, Swept

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.core.model import Point, Value
    from agent.drivers.bacnet.conversion import OwnProperties
    from agent.drivers.bacnet.directory import Directory
    from agent.drivers.bacnet.reading import Peer
    from agent.drivers.bacnet.settings import Slots
    from agent.drivers.bacnet.tags import Item
    from agent.drivers.bacnet.wire import BacnetPort

PRIORITIES = 16
MINIMUM_ON_OFF = 6

KINDS = {
    **dict.fromkeys(("analog-output", "analog-value", "lighting-output"), REAL),
    **dict.fromkeys(("binary-output", "binary-value", "binary-lighting-output"), ENUM),
    **dict.fromkeys(
        ("multi-state-output", "multi-state-value", "positive-integer-value"), UNSIGNED
    ),
    "large-analog-value": DOUBLE,
    "integer-value": SIGNED,
}
"""by type of a commandable object, the type of its value"""
TAGS = {OBJECTS[name]: kind for name, kind in KINDS.items()}


class Commands:
    """Writes through an open port, into the configured slots."""

    def __init__(
        self, wire: BacnetPort, directory: Directory, slots: Slots, own: OwnProperties
    ) -> None:
        self.wire, self.directory, self.slots, self.own = wire, directory, slots, own

    async def write(self, point: Point, value: Value | None, slot: int | None) -> None:
        """Write a value, or NULL, into one of the gateway's slots.

        NULL is written whatever the unit of the object is, so that a release never fails for it.
        Raises WriteRefused if the device did not acknowledge, Refused if the slot or point must not
        be written or the object is in another unit than the point; LinkLost.
        """
        if slot not in self.slots.ours:
            raise Refused(f"priority {slot} is not configured for gardien: {self.slots.ours}")
        if not point.writable:
            raise Refused(f"{point.device}/{point.name} is not marked writable")
        ref = notation.at(point.at)
        asked = services.write(ref, encoded(ref, value), slot)
        # A number in another unit is a wrong command. NULL has no unit.
        if value is not None:
            await self._same_unit(point, ref)
        try:
            peer = await self._peer(point)
            async with peer.turn:
                await self.wire.ask(peer.address, services.WRITE, asked)
        except NotAnsweredError as error:
            raise WriteRefused(
                f"{point.device}/{point.name}: {error}; the value may be in force"
            ) from error
        except DeniedError as error:
            raise WriteRefused(f"{point.device}/{point.name}: {error}") from error

    async def _same_unit(self, point: Point, ref: Ref) -> None:
        """Raise Refused if the object is in another unit, WriteRefused if it does not answer."""
        instance = notation.address(point.address).instance
        due = self.own.due(instance, [ref], monotonic())
        if due:
            contents: reading.Contents = {}
            try:
                peer = await self._peer(point)
                async with peer.turn:
                    await reading.read(self.wire, peer, due, contents)
            except NotAnsweredError as error:
                raise WriteRefused(f"{point.device}/{point.name}: {error}") from error
            self.own.take(instance, contents, monotonic())
        if fault := self.own.conversion(instance, ref, point).fault:
            raise Refused(f"{point.device}/{point.name} is not written: {fault}")

    async def held(self, point: Point) -> PointSlots:
        """The values in the priority array. Raises WriteRefused if it cannot be read."""
        ref = notation.at(point.at)
        try:
            peer = await self._peer(point)
            async with peer.turn:
                array = await read_property(self.wire, peer, Ref(ref.object, PRIORITY_ARRAY))
        except NotAnsweredError as error:
            raise WriteRefused(f"{point.device}/{point.name}: {error}") from error
        if isinstance(array, Refusal) or len(array) != PRIORITIES:
            reason = (
                array.reason
                if isinstance(array, Refusal)
                else "its priority array does not have 16 entries"
            )
            raise WriteRefused(f"{point.device}/{point.name} is not commandable: {reason}")
        standing = {n: _value(item) for n, item in enumerate(array, 1) if item is not None}
        return PointSlots(
            ours={slot: standing.pop(slot, None) for slot in self.slots.ours},
            minimum=standing.pop(MINIMUM_ON_OFF, None),
            others=standing,
        )

    async def sweep(self, points: Sequence[Point]) -> list[Swept]:
        """Empty each of the gateway's slots that holds a value, and read back.

        Returns an entry for each slot that held a value, and for each point that could not be read.
        Raises LinkLost.
        """
        return [entry for point in points for entry in await self._sweep(point)]

    async def _sweep(self, point: Point) -> list[Swept]:
        swept: list[Swept] = []
        try:
            held = await self.held(point)
            for slot, value in held.ours.items():
                if value is not None:
                    await self.write(point, None, slot)
                    left = (await self.held(point)).ours[slot]
                    swept.append(
                        Swept(
                            point,
                            slot,
                            value,
                            left is None,
                            "" if left is None else f"{left} stands there",
                        )
                    )
        except WriteRefused as error:
            swept.append(Swept(point, None, None, empty=False, detail=str(error)))
        return swept

    async def _peer(self, point: Point) -> Peer:
        of = notation.address(point.address)
        try:
            return await self.directory.find(of)
        except NotAnsweredError:
            self.directory.forget(of.instance)
            raise


def encoded(ref: Ref, value: Value | None) -> bytes:
    """A value in the encoding of the object's type. Raises Refused if the type cannot hold it."""
    if ref.property != PRESENT_VALUE or ref.object.type not in TAGS:
        raise Refused(f"an object of type {type_name(ref.object.type)} cannot be commanded")
    if value is None:
        return write(NULL, b"")
    kind = TAGS[ref.object.type]
    if not isinstance(value, Decimal) or not value.is_finite():
        raise Refused(f"{value} is not a number")
    if kind in (REAL, DOUBLE):
        return _floating(kind, value)
    if value != value.to_integral_value() or (kind != SIGNED and value < 0):
        raise Refused(f"{value} is not a whole number, 0 or more")
    number = int(value)
    if kind == SIGNED:
        return write(SIGNED, number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True))
    return write(kind, unsigned(number))


def _floating(kind: int, value: Decimal) -> bytes:
    try:
        return write(kind, struct.pack(">f" if kind == REAL else ">d", float(value)))
    except OverflowError as error:
        raise Refused(f"{value} is too large") from error


def _value(item: Item) -> Value:
    """The value of a slot. An unreadable value is returned as its reason: the slot is occupied."""
    if isinstance(item, Refusal):
        return item.reason
    return str(item) if isinstance(item, ObjectId) or item is None else item

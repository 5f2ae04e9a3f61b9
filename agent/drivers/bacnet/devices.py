"""Devices on the network: where they are, what they notify (COV), and commands to them."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from bacpypes3.pdu import Address

from agent.core.clock import monotonic
from agent.core.errors import LinkLost, Refused, WriteRefused
from agent.core.i18n import Text, text_of
from agent.core.tasks import end
from agent.drivers.bacnet import codec, settings, wire
from agent.drivers.bacnet.codec import (
    DEVICE,
    DOUBLE,
    ENUM,
    MAX_APDU,
    NULL,
    OBJECTS,
    PRESENT_VALUE,
    PRIORITY_ARRAY,
    REAL,
    SIGNED,
    STATUS_FLAGS,
    UNKNOWN_OBJECT,
    UNSIGNED,
    Content,
    IAm,
    ObjectId,
    Ref,
    Refusal,
    type_name,
    unsigned,
    write_tag,
)
from agent.drivers.bacnet.wire import DeniedError, NotAnsweredError, Peer, read_property, station
from agent.drivers.base import PointSlots, Swept

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.core.model import Point, Value
    from agent.drivers.bacnet.codec import Item, Notification
    from agent.drivers.bacnet.settings import BacnetAddress, Slots
    from agent.drivers.bacnet.values import OwnProperties
    from agent.drivers.bacnet.wire import BacnetPort

ASKED = 3
"""how often Who-Is is sent within the timeout"""
BELIEVED = 60.0
"""seconds for which a value counts without being repeated"""
AGAIN = 600.0
"""seconds after which a refused subscription is tried again"""
PAUSE = 2.0
"""least seconds between two subscriptions to one object, however often a device announces itself"""
PROCESS = 0x6A11
"""the gateway's process identifier at devices; the same at each start, so that an old subscription
is replaced and does not fill the device's table
"""
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


class Directory:
    """The devices that were found, by instance number."""

    def __init__(self, wire: BacnetPort, ask: Sequence[str] = ()) -> None:
        self.wire = wire
        self.ask = [Address(station) for station in ask]
        """stations that are asked directly, beside the broadcast"""
        self.peers: dict[int, Peer] = {}
        self._wanted: dict[int, asyncio.Future[tuple[Address, IAm]]] = {}
        self._lines: dict[int, asyncio.Lock] = {}

    async def find(self, where: BacnetAddress) -> Peer:
        """The device; it is looked for if it is not known.

        Raises NotAnsweredError, also if another device has its address; LinkLost.
        """
        known = self.peers.get(where.instance)
        if known is None:
            known = await (self._at(where) if where.station else self._look_for(where.instance))
            self.peers[where.instance] = known
        return known

    def forget(self, instance: int) -> None:
        """Look for a silent device again next time, since its address may have changed."""
        self.peers.pop(instance, None)

    def announced(self, address: Address, i_am: IAm) -> None:
        """Take an I-Am."""
        waiting = self._wanted.get(i_am.instance)
        if waiting is not None and not waiting.done():
            waiting.set_result((address, i_am))

    def peer(self, instance: int, address: Address, max_apdu: int) -> Peer:
        """A device at an address. All devices of one remote network share a lock, since they share
        a slow line.
        """
        peer = Peer(instance, address, max_apdu)
        if address.addrType == Address.remoteStationAddr:
            peer.turn = self._lines.setdefault(address.addrNet, asyncio.Lock())
        return peer

    async def _at(self, where: BacnetAddress) -> Peer:
        peer = self.peer(where.instance, Address(where.station), 0)
        ref = Ref(ObjectId(DEVICE, where.instance), MAX_APDU)
        async with peer.turn:
            content = await read_property(self.wire, peer, ref)
        if isinstance(content, Refusal) and content.code == UNKNOWN_OBJECT:
            raise NotAnsweredError(
                Text(
                    "the device at {station} is not {instance}",
                    station=where.station,
                    instance=where.instance,
                )
            )
        try:
            peer.room = int(content[0])  # type: ignore[index, arg-type] # anything else raises
        except (TypeError, ValueError, IndexError):
            # The device does not give its limit: assume that of a slow line (clause 20.1.2.5).
            peer.room = 480
        return peer

    async def _look_for(self, instance: int) -> Peer:
        waiting = self._wanted.get(instance)
        if waiting is None:
            waiting = self._wanted[instance] = asyncio.get_running_loop().create_future()
        try:
            for _ in range(ASKED):
                await self.who_is(instance, instance)
                try:
                    async with asyncio.timeout(self.wire.timeout / ASKED):
                        # Several reads may wait for the same device: the timeout of one must not
                        # cancel the future of the others.
                        address, i_am = await asyncio.shield(waiting)
                        return self.peer(instance, address, i_am.max_apdu)
                except TimeoutError:
                    continue
        finally:
            self._wanted.pop(instance, None)
        self.wire.there()
        raise NotAnsweredError(
            Text("device {instance} does not answer Who-Is", instance=str(instance))
        )

    async def who_is(self, first: int, last: int) -> None:
        """Send Who-Is for a range of numbers, as a broadcast and to each configured station."""
        question = codec.who_is(first, last)
        for to in (None, *self.ask):
            await self.wire.say(to, codec.WHO_IS, question)


@dataclass(slots=True)
class Subscription:
    """One object that is followed by change of value."""

    object: ObjectId
    until: float = 0.0
    """monotonic: when the subscription ends at the device"""
    due: float = 0.0
    """monotonic: when to subscribe next"""
    asked: float = float("-inf")
    """monotonic: the last subscription request"""
    heard: float = float("-inf")
    """monotonic: when the value was last notified or read"""
    values: Mapping[int, Content] | None = None
    refused: str = ""


class Following:
    """The followed objects of all devices."""

    def __init__(self, wire: BacnetPort, directory: Directory, lifetime: float) -> None:
        self.wire, self.directory, self.lifetime = wire, directory, lifetime
        self.pause, self.believed = PAUSE, BELIEVED
        self.notifications = 0
        self._subscriptions: dict[int, dict[ObjectId, Subscription]] = {}
        self._renewals: dict[int, asyncio.Task[None]] = {}
        self._woken: dict[int, asyncio.Event] = {}

    def follow(self, instance: int, ref: Ref) -> None:
        """Subscribe to an object as soon as possible, and keep the subscription."""
        subscriptions = self._subscriptions.setdefault(instance, {})
        if ref.object not in subscriptions:
            subscriptions[ref.object] = Subscription(ref.object)
            self._woken.setdefault(instance, asyncio.Event()).set()
        if instance not in self._renewals:
            self._renewals[instance] = asyncio.create_task(self._keep(instance))

    def known(self, instance: int, ref: Ref) -> Mapping[int, Content] | None:
        """The last values of an object, if they still count; else None."""
        subscription = self._subscriptions.get(instance, {}).get(ref.object)
        now = monotonic()
        if (
            subscription is None
            or now > subscription.until
            or now - subscription.heard > self.believed
        ):
            return None
        return subscription.values

    def read(self, instance: int, contents: Mapping[Ref, Content]) -> None:
        """Take values that were read from a device as the latest ones of its followed objects."""
        for of, subscription in self._subscriptions.get(instance, {}).items():
            value = contents.get(Ref(of, PRESENT_VALUE))
            if value is not None:
                flags = contents.get(Ref(of, STATUS_FLAGS), Refusal(Text("not read")))
                subscription.values = {PRESENT_VALUE: value, STATUS_FLAGS: flags}
                subscription.heard = now = monotonic()
                if now > subscription.until and not subscription.refused:
                    subscription.due = 0.0  # the device answers, but has no subscription
                    self._woken[instance].set()

    def silent(self, instance: int) -> None:
        """Note that a device does not answer: its values do not count any more."""
        for subscription in self._subscriptions.get(instance, {}).values():
            subscription.heard, subscription.until = float("-inf"), 0.0

    def notified(self, source: Address, notification: Notification) -> bool:
        """Take a notification. Returns False if it belongs to no subscription of the gateway."""
        subscription = self._subscriptions.get(notification.device, {}).get(notification.object)
        peer = self.directory.peers.get(notification.device)
        # Any host on the network can send a packet with this number: the sender must have the
        # address of the device.
        if (
            subscription is None
            or notification.process != PROCESS
            or peer is None
            or station(peer.address) != station(source)
        ):
            return False
        if PRESENT_VALUE in notification.values:
            self.notifications += 1
            subscription.values, subscription.heard = notification.values, monotonic()
        return True

    def announced(self, i_am: IAm) -> None:
        """Take an I-Am and subscribe again: a device that has just started has no subscriptions."""
        for subscription in self._subscriptions.get(i_am.instance, {}).values():
            if not subscription.refused:
                subscription.due = 0.0
        if i_am.instance in self._woken:
            self._woken[i_am.instance].set()

    def health(self) -> dict[str, int]:
        """The numbers of subscribed, refused and waiting objects, and of notifications."""
        now, every = (
            monotonic(),
            [
                subscription
                for subscriptions in self._subscriptions.values()
                for subscription in subscriptions.values()
            ],
        )
        return {
            "followed": sum(subscription.until > now for subscription in every),
            "refused": sum(bool(subscription.refused) for subscription in every),
            "waiting": sum(
                not subscription.refused and subscription.until <= now for subscription in every
            ),
            "notifications": self.notifications,
        }

    async def _keep(self, instance: int) -> None:
        """Renew the subscriptions at one device while the line is open."""
        subscriptions, woken = self._subscriptions[instance], self._woken[instance]
        while True:
            woken.clear()
            subscription = min(
                subscriptions.values(),
                key=lambda candidate: max(candidate.due, candidate.asked + self.pause),
            )
            try:
                async with asyncio.timeout(
                    max(subscription.due, subscription.asked + self.pause) - monotonic()
                ):
                    await woken.wait()
                continue
            except TimeoutError:
                pass
            try:
                await self._subscribe(instance, subscription)
            except LinkLost:
                return  # the next read reports it

    async def _subscribe(self, instance: int, subscription: Subscription) -> None:
        now, peer = monotonic(), self.directory.peers.get(instance)
        if peer is None:  # the address is not known: the next read looks for it
            subscription.due = now + self.believed
            return
        subscription.asked = now
        asked = codec.subscribe(PROCESS, subscription.object, int(self.lifetime))
        try:
            async with peer.turn:
                await self.wire.ask(peer.address, codec.SUBSCRIBE_COV, asked)
        except DeniedError as error:
            subscription.refused, subscription.until, subscription.due = (
                text_of(error),
                0.0,
                now + AGAIN,
            )
        except NotAnsweredError:
            subscription.due = now + self.believed
        else:
            subscription.refused = ""
            subscription.until, subscription.due = now + self.lifetime, now + self.lifetime / 2

    async def close(self) -> None:
        """End all renewals. The subscriptions at the devices expire by themselves."""
        await end(self._renewals.values())


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
            raise Refused(
                "priority {slot} is not configured for gardien: {ours}",
                slot=slot,
                ours=self.slots.ours,
            )
        if not point.writable:
            raise Refused(
                "{device}/{name} is not marked writable", device=point.device, name=point.name
            )
        ref = settings.at(point.at)
        asked = codec.write_request(ref, encoded(ref, value), slot)
        # A number in another unit is a wrong command. NULL has no unit.
        if value is not None:
            await self._same_unit(point, ref)
        try:
            peer = await self._peer(point)
            async with peer.turn:
                await self.wire.ask(peer.address, codec.WRITE, asked)
        except NotAnsweredError as error:
            raise WriteRefused(
                "{device}/{name}: {error}; the value may be in force",
                device=point.device,
                name=point.name,
                error=error,
            ) from error
        except DeniedError as error:
            raise WriteRefused(
                "{device}/{name}: {error}", device=point.device, name=point.name, error=error
            ) from error

    async def _same_unit(self, point: Point, ref: Ref) -> None:
        """Raise Refused if the object is in another unit, WriteRefused if it does not answer."""
        instance = settings.address(point.address).instance
        due = self.own.due(instance, [ref], monotonic())
        if due:
            contents: wire.Contents = {}
            try:
                peer = await self._peer(point)
                async with peer.turn:
                    await wire.read(self.wire, peer, due, contents)
            except NotAnsweredError as error:
                raise WriteRefused(
                    "{device}/{name}: {error}", device=point.device, name=point.name, error=error
                ) from error
            self.own.take(instance, contents, monotonic())
        if fault := self.own.conversion(instance, ref, point).fault:
            raise Refused(
                "{device}/{name} is not written: {fault}",
                device=point.device,
                name=point.name,
                fault=fault,
            )

    async def held(self, point: Point) -> PointSlots:
        """The values in the priority array. Raises WriteRefused if it cannot be read."""
        ref = settings.at(point.at)
        try:
            peer = await self._peer(point)
            async with peer.turn:
                array = await read_property(self.wire, peer, Ref(ref.object, PRIORITY_ARRAY))
        except NotAnsweredError as error:
            raise WriteRefused(
                "{device}/{name}: {error}", device=point.device, name=point.name, error=error
            ) from error
        if isinstance(array, Refusal) or len(array) != PRIORITIES:
            reason = (
                array.reason
                if isinstance(array, Refusal)
                else "its priority array does not have 16 entries"
            )
            raise WriteRefused(
                "{device}/{name} is not commandable: {reason}",
                device=point.device,
                name=point.name,
                reason=reason,
            )
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
            swept.append(Swept(point, None, None, empty=False, detail=text_of(error)))
        return swept

    async def _peer(self, point: Point) -> Peer:
        of = settings.address(point.address)
        try:
            return await self.directory.find(of)
        except NotAnsweredError:
            self.directory.forget(of.instance)
            raise


def encoded(ref: Ref, value: Value | None) -> bytes:
    """A value in the encoding of the object's type. Raises Refused if the type cannot hold it."""
    if ref.property != PRESENT_VALUE or ref.object.type not in TAGS:
        raise Refused(
            "an object of type {type_name} cannot be commanded",
            type_name=type_name(ref.object.type),
        )
    if value is None:
        return write_tag(NULL, b"")
    kind = TAGS[ref.object.type]
    if not isinstance(value, Decimal) or not value.is_finite():
        raise Refused("{value} is not a number", value=value)
    if kind in (REAL, DOUBLE):
        return _floating(kind, value)
    if value != value.to_integral_value() or (kind != SIGNED and value < 0):
        raise Refused("{value} is not a whole number, 0 or more", value=value)
    number = int(value)
    if kind == SIGNED:
        return write_tag(SIGNED, number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True))
    return write_tag(kind, unsigned(number))


def _floating(kind: int, value: Decimal) -> bytes:
    try:
        return write_tag(kind, struct.pack(">f" if kind == REAL else ">d", float(value)))
    except OverflowError as error:
        raise Refused("{value} is too large", value=value) from error


def _value(item: Item) -> Value:
    """The value of a slot. An unreadable value is returned as its reason: the slot is occupied."""
    if isinstance(item, Refusal):
        return item.reason
    return str(item) if isinstance(item, ObjectId) or item is None else item

"""Change of value (COV): subscriptions, and the values that devices notify.

A subscription is renewed at half its lifetime, which also makes the device send its value again. It
is renewed at once when a device announces that it has started. A value counts for one minute after
the device has notified it or it was read. After that the point is read as any other, which corrects
a lost notification. Rule F12.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.core.clock import monotonic
from agent.core.errors import LinkLost
from agent.core.tasks import end
from agent.drivers.bacnet import services
from agent.drivers.bacnet.names import PRESENT_VALUE, STATUS_FLAGS
from agent.drivers.bacnet.services import Content, Ref
from agent.drivers.bacnet.tags import Refusal
from agent.drivers.bacnet.wire import DeniedError, NotAnsweredError, station

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bacpypes3.pdu import Address

    from agent.drivers.bacnet.directory import Directory
    from agent.drivers.bacnet.services import IAm, Notification
    from agent.drivers.bacnet.tags import ObjectId
    from agent.drivers.bacnet.wire import BacnetPort

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
                flags = contents.get(Ref(of, STATUS_FLAGS), Refusal("not read"))
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
        asked = services.subscribe(PROCESS, subscription.object, int(self.lifetime))
        try:
            async with peer.turn:
                await self.wire.ask(peer.address, services.SUBSCRIBE_COV, asked)
        except DeniedError as error:
            subscription.refused, subscription.until, subscription.due = (
                str(error),
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

"""Change of value: what devices tell us by themselves, believed only while it is confirmed.

A subscription is renewed at half its lifetime, which also makes the device say its value again, and
at once when a device says that it has started. A value is believed for a minute after the last word
of it; then the point is read like any other, which is the slow poll that catches what got lost.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.clock import monotonic
from agent.drivers.bacnet import services
from agent.drivers.bacnet.names import PRESENT_VALUE, STATUS_FLAGS
from agent.drivers.bacnet.services import Content, Ref
from agent.drivers.bacnet.tags import Refusal
from agent.drivers.bacnet.wire import DeniedError, NotAnsweredError, station
from agent.errors import LinkLost
from agent.tasks import end

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bacpypes3.pdu import Address

    from agent.drivers.bacnet.directory import Directory
    from agent.drivers.bacnet.services import IAm, Notification
    from agent.drivers.bacnet.tags import ObjectId
    from agent.drivers.bacnet.wire import BacnetPort

BELIEVED = 60.0
"""seconds after which a value that nobody repeated is read again"""
AGAIN = 600.0
"""seconds after which a device that refused is asked once more"""
PAUSE = 2.0
"""seconds between two subscriptions to one object at least, whatever is announced"""
PROCESS = 0x6A11
"""our number at the device; the same at each start, so that what stands there is replaced"""


@dataclass(slots=True)
class Subscription:
    """One object that we follow."""

    object: ObjectId
    until: float = 0.0
    """monotonic: when the device forgets it"""
    due: float = 0.0
    """monotonic: when we subscribe next"""
    asked: float = float("-inf")
    heard: float = float("-inf")
    """monotonic: the last word of its value, notified or read"""
    values: Mapping[int, Content] | None = None
    refused: str = ""


class Following:
    """Every object that we follow, by device."""

    def __init__(self, wire: BacnetPort, directory: Directory, lifetime: float) -> None:
        self.wire, self.directory, self.lifetime = wire, directory, lifetime
        self.notifications = 0
        self._subscriptions: dict[int, dict[ObjectId, Subscription]] = {}
        self._renewals: dict[int, asyncio.Task[None]] = {}
        self._woken: dict[int, asyncio.Event] = {}

    def follow(self, instance: int, ref: Ref) -> None:
        """Subscribe as soon as may be, and keep it up."""
        mine = self._subscriptions.setdefault(instance, {})
        if ref.object not in mine:
            mine[ref.object] = Subscription(ref.object)
            self._woken.setdefault(instance, asyncio.Event()).set()
        if instance not in self._renewals:
            self._renewals[instance] = asyncio.create_task(self._keep(instance))

    def known(self, instance: int, ref: Ref) -> Mapping[int, Content] | None:
        """What it last said of an object, if that may still be believed."""
        subscription = self._subscriptions.get(instance, {}).get(ref.object)
        now = monotonic()
        if subscription is None or now > subscription.until or now - subscription.heard > BELIEVED:
            return None
        return subscription.values

    def read(self, instance: int, contents: Mapping[Ref, Content]) -> None:
        """Take what was read from a device as the latest word on what is followed."""
        for of, subscription in self._subscriptions.get(instance, {}).items():
            value = contents.get(Ref(of, PRESENT_VALUE))
            if value is not None:
                flags = contents.get(Ref(of, STATUS_FLAGS), Refusal("not read"))
                subscription.values = {PRESENT_VALUE: value, STATUS_FLAGS: flags}
                subscription.heard = now = monotonic()
                if now > subscription.until and not subscription.refused:
                    subscription.due = 0.0  # it is there, and does not tell us yet
                    self._woken[instance].set()

    def silent(self, instance: int) -> None:
        """It does not answer: believe nothing any more, and leave it alone until it does."""
        for subscription in self._subscriptions.get(instance, {}).values():
            subscription.heard, subscription.until = float("-inf"), 0.0

    def notified(self, source: Address, notification: Notification) -> bool:
        """Take a notification; False where we did not ask for it."""
        subscription = self._subscriptions.get(notification.device, {}).get(notification.object)
        peer = self.directory.peers.get(notification.device)
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
        """A device says that it is there; if it has just started it has forgotten us."""
        for subscription in self._subscriptions.get(i_am.instance, {}).values():
            if not subscription.refused:
                subscription.due = 0.0
        if i_am.instance in self._woken:
            self._woken[i_am.instance].set()

    def health(self) -> dict[str, int]:
        """How many objects are followed, and how many are only read because the device refused."""
        now, every = (
            monotonic(),
            [
                subscription
                for mine in self._subscriptions.values()
                for subscription in mine.values()
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
        """Keep up the subscriptions at one device, for as long as the line is open."""
        mine, woken = self._subscriptions[instance], self._woken[instance]
        while True:
            woken.clear()
            subscription = min(
                mine.values(), key=lambda candidate: max(candidate.due, candidate.asked + PAUSE)
            )
            try:
                async with asyncio.timeout(
                    max(subscription.due, subscription.asked + PAUSE) - monotonic()
                ):
                    await woken.wait()
                continue
            except TimeoutError:
                pass
            try:
                await self._subscribe(instance, subscription)
            except LinkLost:
                return  # the next read says so

    async def _subscribe(self, instance: int, subscription: Subscription) -> None:
        now, peer = monotonic(), self.directory.peers.get(instance)
        if peer is None:  # a read finds it first, in its own time
            subscription.due = now + BELIEVED
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
            subscription.due = now + BELIEVED
        else:
            subscription.refused = ""
            subscription.until, subscription.due = now + self.lifetime, now + self.lifetime / 2

    async def close(self) -> None:
        """Follow nothing any more; devices forget us by themselves."""
        await end(self._renewals.values())

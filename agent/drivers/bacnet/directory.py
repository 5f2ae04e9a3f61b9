"""The addresses of devices: found by Who-Is, or as configured."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bacpypes3.pdu import Address

from agent.drivers.bacnet import services
from agent.drivers.bacnet.names import DEVICE, MAX_APDU, UNKNOWN_OBJECT
from agent.drivers.bacnet.reading import Peer, read_property
from agent.drivers.bacnet.services import IAm, Ref
from agent.drivers.bacnet.tags import ObjectId, Refusal
from agent.drivers.bacnet.wire import NotAnsweredError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.drivers.bacnet.notation import BacnetAddress
    from agent.drivers.bacnet.wire import BacnetPort

ASKED = 3
"""how often Who-Is is sent within the timeout"""


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
            raise NotAnsweredError(f"the device at {where.station} is not {where.instance}")
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
        raise NotAnsweredError(f"device {instance} does not answer Who-Is")

    async def who_is(self, first: int, last: int) -> None:
        """Send Who-Is for a range of numbers, as a broadcast and to each configured station."""
        question = services.who_is(first, last)
        for to in (None, *self.ask):
            await self.wire.say(to, services.WHO_IS, question)

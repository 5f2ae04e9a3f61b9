"""The BACnet/IP driver: an open UDP port, and the devices that are read through it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

from agent.core import clock
from agent.core.i18n import EMPTY, Text, text_of
from agent.core.model import Sample, ValueKind, Why
from agent.core.quantities import channels
from agent.drivers.bacnet import settings, wire
from agent.drivers.bacnet.codec import PRESENT_VALUE, STATUS_FLAGS, Content, Ref
from agent.drivers.bacnet.devices import Commands, Directory, Following
from agent.drivers.bacnet.scan import Scan
from agent.drivers.bacnet.settings import BacnetSettings, station
from agent.drivers.bacnet.values import OwnProperties, own_refs, sample
from agent.drivers.bacnet.wire import NotAnsweredError, opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Container, Sequence

    from bacpypes3.pdu import Address

    from agent.core.model import Point, Value
    from agent.drivers.bacnet.codec import IAm
    from agent.drivers.bacnet.wire import BacnetPort
    from agent.drivers.base import Found, PointSlots, Progress, Swept, Wish
    from agent.drivers.trace import Record

FOLLOWED = 30
"""seconds: a point that is read less often is not subscribed, since one read of many points costs
no more than the renewal of one subscription
"""


class Bacnet:
    """An open BACnet/IP port. Its devices are instance numbers (`address`)."""

    Settings = BacnetSettings
    at_once = 8
    """devices that may be read at the same time"""

    def __init__(self, wire: BacnetPort, settings: BacnetSettings) -> None:
        self.wire, self.settings = wire, settings
        self.directory = Directory(wire, settings.ask)
        self.following = Following(wire, self.directory, settings.cov)
        self.scan = Scan(wire, self.directory)
        self.own = OwnProperties()
        self.commands = Commands(wire, self.directory, settings.slots, self.own)
        self._turns: dict[int, asyncio.Lock] = {}
        wire.announced, wire.notified = self._announced, self.following.notified

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: BacnetSettings) -> AsyncIterator[Self]:
        """Open the port; close it on leaving. Raises LinkLost if that fails."""
        at = station(settings.address, settings.port)
        async with opened(at, settings.timeout, settings.bbmd, int(settings.ttl)) as wire:
            bus = cls(wire, settings)
            try:
                yield bus
            finally:
                await bus.following.close()

    @staticmethod
    def check(point: Point) -> None:
        """Raise ValueError if `address` is not a device or `at` is not a property."""
        settings.address(point.address)
        settings.at(point.at)

    async def read(self, points: Sequence[Point]) -> list[Sample]:
        """Read points of one device; see `agent.drivers.base.Reads`.

        If all points have a recent notification, the device is not asked. Units and scale of the
        objects are read together with the values, at first and then daily.
        """
        of = settings.address(points[0].address)
        refs = [settings.at(point.at) for point in points]
        for point, ref in zip(points, refs, strict=True):
            if self.settings.cov and _followed(point, ref):
                self.following.follow(of.instance, ref)
        known = self._known(of.instance, refs)
        failure = EMPTY
        if known is None:
            known, failure = await self._ask(of, refs)
        now = clock.seconds()
        return [
            Sample(point, now, why=Why.SILENT, detail=failure)
            if failure and (ref not in known or not self.own.knows(of.instance, ref))
            else sample(
                point,
                now,
                known[ref],
                known.get(Ref(ref.object, STATUS_FLAGS)),
                self.own.conversion(of.instance, ref, point),
            )
            for point, ref in zip(points, refs, strict=True)
        ]

    def _known(self, instance: int, refs: Sequence[Ref]) -> dict[Ref, Content] | None:
        """The values that the device has notified; None if they do not cover all `refs`."""
        if self.own.due(instance, refs, clock.monotonic()):
            return None
        contents: dict[Ref, Content] = {}
        for ref in refs:
            notified = (
                self.following.known(instance, ref) if ref.property == PRESENT_VALUE else None
            )
            if notified is None:
                return None
            contents[ref] = notified[PRESENT_VALUE]
            if STATUS_FLAGS in notified:
                contents[Ref(ref.object, STATUS_FLAGS)] = notified[STATUS_FLAGS]
        return contents

    async def _ask(
        self, of: settings.BacnetAddress, refs: Sequence[Ref]
    ) -> tuple[dict[Ref, Content], Text]:
        """Read from the device. If it stops answering, the second item is the reason."""
        contents: dict[Ref, Content] = {}
        due = self.own.due(of.instance, refs, clock.monotonic())
        async with self._turns.setdefault(of.instance, asyncio.Lock()):
            try:
                peer = await self.directory.find(of)
                async with peer.turn:
                    wanted = _with_flags(refs)
                    wanted = _with_own(wanted, due) if due else wanted
                    await wire.read(self.wire, peer, wanted, contents)
            except NotAnsweredError as error:
                # The address may have changed, the subscriptions may be lost, and another program
                # may run in the device: all is looked up again.
                self.directory.forget(of.instance)
                self.following.silent(of.instance)
                self.own.take(of.instance, contents, clock.monotonic())
                self.own.ask_again(of.instance)
                return contents, text_of(error)
        self.own.take(of.instance, contents, clock.monotonic())
        self.following.read(of.instance, contents)
        return contents, EMPTY

    async def write(self, point: Point, value: Value | None, slot: int | None) -> None:
        """Write a value or NULL into one of the gateway's slots; see `base.Writes`."""
        await self.commands.write(point, value, slot)

    async def held(self, point: Point) -> PointSlots:
        """The values in the point's slots; see `agent.drivers.base.Writes`."""
        return await self.commands.held(point)

    async def sweep(self, points: Sequence[Point]) -> list[Swept]:
        """Empty the gateway's slots that hold a value; see `agent.drivers.base.Writes`."""
        return await self.commands.sweep(points)

    def discover(self, wish: Wish) -> AsyncIterator[Found | Progress]:
        """Search; see `agent.drivers.base.Discovers`."""
        return self.scan.discover(wish)

    def record_to(self, record: Record | None) -> None:
        """Pass on all bytes; see `agent.drivers.base.Traceable`."""
        self.wire.record = record

    def health(self) -> dict[str, Any]:
        """The state of the port; see `agent.drivers.base.ObservableBus`."""
        followed, bbmd = self.following.health(), self.wire.registration
        figures: dict[str, Any] = {**followed, "strays": self.wire.strays, "bbmd": bbmd}
        figures["words"] = Text(
            "{followed} values subscribed, {refused} subscriptions refused (these are read),"
            " {waiting} not subscribed yet",
            followed=followed["followed"],
            refused=followed["refused"],
            waiting=followed["waiting"],
        )
        if bbmd not in {"", "registered"}:
            address = self.settings.bbmd
            figures["worry"] = Text("the BBMD {address}: {state}", address=address, state=bbmd)
        return figures

    def _announced(self, address: Address, i_am: IAm) -> None:
        self.directory.announced(address, i_am)
        self.following.announced(i_am)
        self.scan.announced(address, i_am)


def _followed(point: Point, ref: Ref) -> bool:
    """Whether to subscribe to a point. Never to an index: it must be exact at its slot, and its
    last changes may be smaller than the COV increment.
    """
    kind = channels()[point.channel].kind if point.channel else None
    return (
        ref.property == PRESENT_VALUE and 0 < point.every <= FOLLOWED and kind is not ValueKind.REG
    )


def _with_flags(refs: Sequence[Ref]) -> list[Ref]:
    """The properties to read: each present value with its status flags, which show a fault."""
    wanted: dict[Ref, None] = {}
    for ref in refs:
        wanted[ref] = None
        if ref.property == PRESENT_VALUE:
            wanted[Ref(ref.object, STATUS_FLAGS)] = None
    return list(wanted)


def _with_own(refs: Sequence[Ref], due: Container[Ref]) -> list[Ref]:
    """The properties to read: each value with units and scale of its object, where they are due."""
    wanted: dict[Ref, None] = {}
    for ref in refs:
        wanted[ref] = None
        wanted.update((own, None) for own in own_refs(ref) if own in due)
    return list(wanted)

"""Readings of meters that the registry does not assign yet: kept, and released once they are
assigned.

They are released as late versions, each under the basis of its own time, once the registry knows
their place. Values without a basis at their time, and values that nobody has claimed in 60 days,
are destroyed (rule I21).
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from agent.buffer.unassigned_store import UnassignedValue
from agent.core.model import Flag, Sample
from agent.registry.consent_policy import LONGEST_UNSENT
from agent.registry.index import Unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from agent.acquisition.account import SlotAccount
    from agent.buffer.thread import OneThread
    from agent.buffer.unassigned_store import UnassignedStore
    from agent.core.model import Point, Reading
    from agent.registry.registry import Registry

MOST = 2_000
"""values of one device in memory that are written to the disk at once"""
KEPT_AT_MOST = 5 * MOST
"""values of one device kept in memory while the store fails: the latest"""


class UnassignedReadings:
    """Puts unassigned readings into their store, and releases them."""

    def __init__(self, registry: Registry, store: UnassignedStore, thread: OneThread) -> None:
        self._registry = registry
        self.store, self.thread = store, thread
        """replaced when the store is opened again"""
        self._held: dict[str, list[UnassignedValue]] = {}
        self.asked = -1
        """the registry's change after which `tend` last checked all values"""
        self.full = False
        """whether many values wait in memory, or the last write failed"""

    def note(self, slot: int, samples: Iterable[Sample], serial: str | None) -> None:
        """Keep the values that the registry cannot assign."""
        for sample in samples:
            point = sample.point
            if point.place is not None or point.channel is None or point.derived:
                continue
            if sample.why is not None or not isinstance(sample.value, Decimal):
                continue
            if self._whose(point, serial, slot):
                continue
            kept = UnassignedValue(
                point.device,
                point.name,
                point.every,
                slot,
                serial,
                str(sample.value),
                sample.at,
                sample.quality,
                sample.flags,
            )
            self._held.setdefault(point.device, []).append(kept)
            self.full |= len(self._held[point.device]) >= MOST
            # Bounded also while the store cannot be opened.
            del self._held[point.device][:-KEPT_AT_MOST]

    async def commit(self) -> None:
        """Write the values held in memory to the store; those that fail stay in memory."""
        held, self._held, self.full = self._held, {}, False
        try:
            for device in list(held):
                await self.thread.run(self.store.add, held[device])
                del held[device]
        except Exception:
            for device, values in held.items():
                # while the store cannot be opened, the latest values are kept
                self._held[device] = [*values, *self._held.get(device, ())][-KEPT_AT_MOST:]
            self.full = True
            raise

    async def tend(self, now: float, accounts: Sequence[SlotAccount], point_of: PointOf) -> int:
        """Release the values that the registry can assign since its last change, and destroy those
        that are too old. Return how many values were released or destroyed.

        Raises SpoolFull where a spool has no room: the values that it did not take stay in the
        store.
        """
        await self.commit()
        expired = await self.thread.run(self.store.expire, int(now - LONGEST_UNSENT))
        if self.asked == self._registry.revision:
            return expired
        asked = self._registry.revision
        lots = await self.thread.run(lambda: list(self.store.each()))
        released = 0
        for no, values in lots:
            released += await self._release(no, values, now, accounts, point_of)
        self.asked = asked
        return expired + released

    async def _release(
        self,
        number: int,
        values: list[UnassignedValue],
        now: float,
        accounts: Sequence[SlotAccount],
        point_of: PointOf,
    ) -> int:
        known = [(value, point) for value in values if (point := self._claimed(value, point_of))]
        if not known:
            return 0
        for ledger, ingest in accounts:
            rows: list[Reading] = []
            for value, point in known:
                key, sample = (value.device, value.step), _sample(value, point)
                rows += ledger.late(key, value.slot, [sample], value.serial, int(now))
            # An error leaves the values in the store. A kill before they are removed there sends
            # them again, as another version.
            await ingest.keep(rows)
        left = [value for value in values if not self._claimed(value, point_of)]
        await self.thread.run(self.store.put_back, number, {"": left} if left else {})
        return len(known)

    def _claimed(self, value: UnassignedValue, point_of: PointOf) -> Point | None:
        point = point_of(value.device, value.point)
        if point is None or not self._whose(point, value.serial, value.slot):
            return None
        return point

    def _whose(self, point: Point, serial: str | None, slot: int) -> bool:
        installation = self._registry.whose(point.device, serial, str(point.channel), slot)
        return not isinstance(installation, Unknown)


def _sample(value: UnassignedValue, point: Point) -> Sample:
    sample = Sample(point, value.at, Decimal(value.value), quality=value.quality)
    return replace(sample, flags=(*value.flags, Flag.EXCHANGED))


if TYPE_CHECKING:
    PointOf = Callable[[str, str], Point | None]
    """a configured point by device and name; None: it is no longer configured"""

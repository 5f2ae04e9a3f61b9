"""Readings of a meter of which nobody has said whose it is: kept, then given to whom they are.

Released as late versions, each by the basis of its own time, once the registry can answer for it;
what nobody may have then, and what nobody has claimed in 60 days, is destroyed (rule I21).
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from agent.buffer.unassigned_store import UnassignedValue
from agent.model import Flag, Sample
from agent.registry.consent_policy import LONGEST_UNSENT
from agent.registry.index import Unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from agent.buffer.thread import OneThread
    from agent.buffer.unassigned_store import UnassignedStore
    from agent.model import Point, Reading
    from agent.pipeline.account import SlotAccount
    from agent.registry.registry import Registry

MOST = 2_000
"""values of one device in memory before they are brought to the disk"""
KEPT_AT_MOST = 5 * MOST
"""values of one device in memory while they cannot be brought there: the latest"""


class UnassignedReadings:
    """The way onto the shelf, and back."""

    def __init__(self, registry: Registry, shelf: UnassignedStore, thread: OneThread) -> None:
        self._registry = registry
        self.shelf, self.thread = shelf, thread
        """others, where it was closed and opened anew"""
        self._held: dict[str, list[UnassignedValue]] = {}
        self.asked = -1
        """the registry's change after which it was last asked whose they are"""
        self.full = False
        """much waits in memory, or could not be brought to the disk the last time"""

    def note(self, slot: int, samples: Iterable[Sample], serial: str | None) -> None:
        """Keep the values among these of which nobody can say whose they are."""
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
            del self._held[point.device][:-KEPT_AT_MOST]

    async def commit(self) -> None:
        """Bring what is held in memory onto the shelf; what fails to be stays in memory."""
        held, self._held, self.full = self._held, {}, False
        try:
            for device in list(held):
                await self.thread.run(self.shelf.add, held[device])
                del held[device]
        except Exception:
            for device, values in held.items():
                # while the shelf cannot be opened the latest are kept
                self._held[device] = [*values, *self._held.get(device, ())][-KEPT_AT_MOST:]
            self.full = True
            raise

    async def tend(self, now: float, accounts: Sequence[SlotAccount], point_of: PointOf) -> int:
        """Give to whom they are what the registry can answer for since its last change, destroy
        what is too old; how many values were given or destroyed. Raises SpoolFull where a spool has
        no room: what it did not take stays on the shelf.
        """
        await self.commit()
        expired = await self.thread.run(self.shelf.expire, int(now - LONGEST_UNSENT))
        if self.asked == self._registry.revision:
            return expired
        asked = self._registry.revision
        lots = await self.thread.run(lambda: list(self.shelf.each()))
        released = 0
        for no, values in lots:
            released += await self._release(no, values, now, accounts, point_of)
        self.asked = asked
        return expired + released

    async def _release(
        self,
        no: int,
        values: list[UnassignedValue],
        now: float,
        accounts: Sequence[SlotAccount],
        point_of: PointOf,
    ) -> int:
        known = [(one, point) for one in values if (point := self._claimed(one, point_of))]
        if not known:
            return 0
        for ledger, intake in accounts:
            rows: list[Reading] = []
            for one, point in known:
                key, sample = (one.device, one.step), _sample(one, point)
                rows += ledger.late(key, one.slot, [sample], one.serial, int(now))
            await intake.keep(rows)  # or it stays on the shelf; a kill in between says it twice
        left = [one for one in values if not self._claimed(one, point_of)]
        await self.thread.run(self.shelf.put_back, no, {"": left} if left else {})
        return len(known)

    def _claimed(self, one: UnassignedValue, point_of: PointOf) -> Point | None:
        point = point_of(one.device, one.point)
        if point is None or not self._whose(point, one.serial, one.slot):
            return None
        return point

    def _whose(self, point: Point, serial: str | None, slot: int) -> bool:
        found = self._registry.whose(point.device, serial, str(point.channel), slot)
        return not isinstance(found, Unknown)


def _sample(one: UnassignedValue, point: Point) -> Sample:
    sample = Sample(point, one.at, Decimal(one.value), quality=one.quality)
    return replace(sample, flags=(*one.flags, Flag.EXCHANGED))


if TYPE_CHECKING:
    PointOf = Callable[[str, str], Point | None]
    """a configured point by device and name; None: it is configured no more"""

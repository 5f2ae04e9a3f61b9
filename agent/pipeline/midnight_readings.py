"""What the meters of dwellings showed at midnight, kept 62 days for a duty, for nobody else.

A change of occupant is often told after its midnight; the manager is then still owed the index of
it, and the month ends since of those who moved in. A register leaves for that alone, as a late
version; what no duty names any more is destroyed (rule P10).
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from agent.buffer.unassigned_store import UnassignedValue
from agent.channels import channels
from agent.model import Sample
from agent.pipeline.timetable import is_slot
from agent.registry.consent_policy import LONGEST_KEPT, register_kept
from agent.registry.dates import DAY
from agent.registry.index import Unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.buffer.thread import OneThread
    from agent.buffer.unassigned_store import UnassignedStore
    from agent.model import Point, Reading
    from agent.pipeline.account import SlotAccount
    from agent.pipeline.unassigned import PointOf
    from agent.registry.registry import Registry

KEPT_AT_MOST = 1_000
"""indexes of one dwelling in memory while they cannot be brought to the disk: the latest"""
QUARTER = 900
"""seconds: midnight is a multiple of it in every zone"""


class MidnightReadings:
    """The way onto a shelf of their own, and from there to the manager."""

    def __init__(self, registry: Registry, shelf: UnassignedStore, thread: OneThread) -> None:
        self._registry = registry
        self.shelf, self.thread = shelf, thread
        """others, where it was closed and opened anew"""
        self._held: dict[str, list[UnassignedValue]] = {}
        """by dwelling: on the shelf each has a key of its own"""
        self.asked = -1
        """the registry's change after which it was last asked which of them are owed"""
        self.full = False
        """what waits in memory could not be brought to the disk the last time"""

    def note(
        self,
        slot: int,
        samples: Iterable[Sample],
        serial: str | None,
        accounts: Sequence[SlotAccount],
    ) -> None:
        """Keep the indexes of a midnight among these that a duty may come to need, and that no
        recipient gets already.
        """
        if slot % QUARTER or not any(is_slot(slot, DAY, ledger.zone) for ledger, _ in accounts):
            return
        for sample in samples:
            point = sample.point
            if sample.why is not None or not isinstance(sample.value, Decimal) or point.derived:
                continue
            if (place := self._for_a_duty(point, serial, slot)) is None:
                continue
            if any(ledger.gate.boundary(point, serial, slot) for ledger, _ in accounts):
                continue
            said = (str(sample.value), sample.at, sample.quality, sample.flags)
            one = UnassignedValue(point.device, point.name, point.every, slot, serial, *said)
            self._held.setdefault(place, []).append(one)

    async def commit(self) -> None:
        """Bring what is held in memory onto the shelf; where that fails it stays in memory."""
        held, self._held, self.full = self._held, {}, False
        try:
            if held:
                await self.thread.run(self.shelf.add_each, held)
        except Exception:
            for place, values in held.items():
                self._held[place] = [*values, *self._held.get(place, ())][-KEPT_AT_MOST:]
            self.full = True
            raise

    async def of(self, place: str, point_of: PointOf) -> list[tuple[UnassignedValue, Point]]:
        """The indexes that are kept of a dwelling (by id), the oldest first."""
        await self.commit()
        found = []
        for _, values in await self.thread.run(lambda: list(self.shelf.each())):
            for one in values:
                point = point_of(one.device, one.point)
                if point is None or point.channel is None:
                    continue
                whose = self._registry.whose(point.device, one.serial, point.channel, one.slot)
                if not isinstance(whose, Unknown) and whose.place == place:
                    found.append((one, point))
        return sorted(found, key=lambda held: held[0].slot)

    async def tend(self, now: float, accounts: Sequence[SlotAccount], point_of: PointOf) -> int:
        """Give what has become owed since the registry's last change, destroy what is too old or
        of no duty; how many left the shelf. Raises SpoolFull where a spool has no room: what it did
        not take stays on the shelf.
        """
        await self.commit()
        gone = await self.thread.run(self.shelf.expire, int(now - LONGEST_KEPT))
        asked = self._registry.revision
        if self.asked != asked:
            for no, values in await self.thread.run(lambda: list(self.shelf.each())):
                left = await self._give(values, now, accounts, point_of)
                stay = sum(map(len, left.values()))
                if stay < len(values):
                    gone += len(values) - stay
                    await self.thread.run(self.shelf.put_back, no, left)
            self.asked = asked
        return gone

    async def _give(
        self,
        values: list[UnassignedValue],
        now: float,
        accounts: Sequence[SlotAccount],
        point_of: PointOf,
    ) -> dict[str, list[UnassignedValue]]:
        """Those of a lot that stay on the shelf, by dwelling."""
        left: dict[str, list[UnassignedValue]] = {}
        given: list[list[Reading]] = [[] for _ in accounts]
        for one in values:
            point = point_of(one.device, one.point)
            if point is None:
                continue
            if (place := self._for_a_duty(point, one.serial, one.slot)) is None:
                continue
            owed = False
            for (ledger, _), found in zip(accounts, given, strict=True):
                # made after the change that asks for it, which may have taken the same slot back
                rows = ledger.registers(one.slot, _sample(one, point), one.serial, int(now) + 1)
                found.extend(rows)
                owed |= bool(rows)
            if not owed:
                left.setdefault(place, []).append(one)
        for (_, intake), found in zip(accounts, given, strict=True):
            if found:
                await intake.keep(found)  # or it stays here; a kill in between says it twice
        return left

    def _for_a_duty(self, point: Point, serial: str | None, slot: int) -> str | None:
        """The dwelling for which a duty may need this; None: for none."""
        if point.channel is None or point.place is not None:
            return None
        found = self._registry.whose(point.device, serial, point.channel, slot)
        if isinstance(found, Unknown):
            return None
        kept = register_kept(self._registry, found.place, channels()[point.channel], slot)
        return found.place if kept else None


def _sample(one: UnassignedValue, point: Point) -> Sample:
    return Sample(point, one.at, Decimal(one.value), quality=one.quality, flags=one.flags)

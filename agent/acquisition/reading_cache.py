"""Indexes of the dwellings' meters at the ends of slots: of one day, in memory only.

Sums over dwellings are calculated from them. They are never written to the disk (rules P8, S13):
after a restart the sums of the affected slots are missing.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from agent.acquisition.slots import multiplier
from agent.acquisition.timetable import is_slot
from agent.core.model import Quality
from agent.registry.dates import DAY, slot_before
from agent.registry.records import EXACT, Installation

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from zoneinfo import ZoneInfo

    from agent.core.model import Sample
    from agent.registry.registry import Registry

GOOD = (Quality.MEASURED, Quality.RAW)
HOUR = 3600


class MeterIndex(NamedTuple):
    """The index of one meter."""

    meter: str
    """id of the installation: a difference needs two indexes of one meter"""
    value: Decimal


class ReadingCache:
    """The indexes of the last day and two more slots, by channel, slot and dwelling."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._steps: Mapping[str, int] = {}
        self._zone: ZoneInfo | None = None
        self._kept: dict[str, dict[int, dict[str, MeterIndex]]] = {}

    def set_steps(self, steps: Mapping[str, int], zone: ZoneInfo | None) -> None:
        """From now on keep the indexes of these channels, at slots of these steps (seconds)."""
        self._steps, self._zone = steps, zone
        self._kept = {channel: self._kept.get(channel, {}) for channel in steps}

    def note(self, slot: int, samples: Iterable[Sample], serial: str | None) -> None:
        """Keep the good indexes of dwellings' meters, the first of each slot."""
        for sample in samples:
            point = sample.point
            step = self._steps.get(point.channel or "")
            if step is None or point.derived or point.place is not None:
                continue
            if sample.why is not None or not isinstance(sample.value, Decimal):
                continue
            if sample.quality not in GOOD or not is_slot(slot, step, self._zone):
                continue
            whose = self._registry.whose(point.device, serial, str(point.channel), slot)
            if isinstance(whose, Installation) and whose.place[0] == "D":
                value = whose.measured(EXACT.multiply(sample.value, multiplier(point)))
                slots = self._kept[str(point.channel)]
                # The first value of a slot counts, as in the rows that are sent.
                slots.setdefault(slot, {}).setdefault(whose.place, MeterIndex(whose.id, value))
                # a slot is closed before the next one ends, and a day may have 25 hours
                for old_slot in [
                    kept_slot for kept_slot in slots if kept_slot < slot - DAY - 2 * step - HOUR
                ]:
                    del slots[old_slot]

    def forget(self, now: int) -> None:
        """Forget everything if an index belongs to a future slot: a wrong clock made it."""
        if any(slot > now for slots in self._kept.values() for slot in slots):
            self._kept = {channel: {} for channel in self._kept}

    def flows(self, channel: str, t: int) -> dict[str, Decimal]:
        """The consumption in the slot that ends at t, by dwelling. Only of dwellings with indexes
        of one meter at both ends, the second not below the first.
        """
        slots, step = self._kept.get(channel, {}), self._steps.get(channel, DAY)
        ends, begins = slots.get(t, {}), slots.get(slot_before(t, step, self._zone), {})
        flow_of = {}
        for place, index in ends.items():
            before = begins.get(place)
            if before is not None and before.meter == index.meter and index.value >= before.value:
                flow_of[place] = EXACT.subtract(index.value, before.value)
        return flow_of

    def day(self, channel: str, t: int) -> dict[str, Decimal]:
        """The known consumption in the slots of the day until t, by dwelling."""
        whole: dict[str, Decimal] = {}
        for slot in self._kept.get(channel, {}):
            if t - DAY < slot <= t:
                for place, flow in self.flows(channel, slot).items():
                    whole[place] = EXACT.add(whole.get(place, Decimal(0)), flow)
        return whole

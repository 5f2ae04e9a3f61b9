"""What the meters of dwellings showed at the ends of slots: of a day, and in memory alone.

Sums over dwellings are made of it, and nothing of it is ever written down (rules P8, S13): what
a restart forgets is missing in the sum of its slot.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from agent.model import Quality
from agent.pipeline.slots import multiplier
from agent.pipeline.timetable import is_slot
from agent.registry.dates import DAY, slot_before
from agent.registry.records import EXACT, Installation

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from zoneinfo import ZoneInfo

    from agent.model import Sample
    from agent.registry.registry import Registry

GOOD = (Quality.MEASURED, Quality.RAW)
HOUR = 3600


class MeterIndex(NamedTuple):
    """What one meter showed."""

    meter: str
    """id of the installation: a difference is of one meter"""
    value: Decimal


class ReadingCache:
    """The indexes of the last day and two slots more, by channel, slot and dwelling."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._steps: Mapping[str, int] = {}
        self._zone: ZoneInfo | None = None
        self._kept: dict[str, dict[int, dict[str, MeterIndex]]] = {}

    def want(self, steps: Mapping[str, int], zone: ZoneInfo | None) -> None:
        """Keep, from now on, the indexes of these channels at slots of these steps."""
        self._steps, self._zone = steps, zone
        self._kept = {channel: self._kept.get(channel, {}) for channel in steps}

    def note(self, slot: int, samples: Iterable[Sample], serial: str | None) -> None:
        """Keep what is wanted of one read: good indexes of dwellings' meters, the first of each."""
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
                slots.setdefault(slot, {}).setdefault(whose.place, MeterIndex(whose.id, value))
                # a slot is closed before the end of the next one; and a day has 25 hours
                for old in [one for one in slots if one < slot - DAY - 2 * step - HOUR]:
                    del slots[old]

    def forget(self, now: int) -> None:
        """Forget all, where any is of a slot that has not come: a wrong clock made it."""
        if any(slot > now for slots in self._kept.values() for slot in slots):
            self._kept = {channel: {} for channel in self._kept}

    def flows(self, channel: str, t: int) -> dict[str, Decimal]:
        """What flowed in the slot that ends at t, by dwelling: of those with an index of one meter
        at both ends that did not fall.
        """
        slots, step = self._kept.get(channel, {}), self._steps.get(channel, DAY)
        ends, begins = slots.get(t, {}), slots.get(slot_before(t, step, self._zone), {})
        found = {}
        for place, index in ends.items():
            before = begins.get(place)
            if before is not None and before.meter == index.meter and index.value >= before.value:
                found[place] = EXACT.subtract(index.value, before.value)
        return found

    def day(self, channel: str, t: int) -> dict[str, Decimal]:
        """What flowed in the slots of the day until t, as far as it is known, by dwelling."""
        whole: dict[str, Decimal] = {}
        for slot in self._kept.get(channel, {}):
            if t - DAY < slot <= t:
                for place, flow in self.flows(channel, slot).items():
                    whole[place] = EXACT.add(whole.get(place, Decimal(0)), flow)
        return whole

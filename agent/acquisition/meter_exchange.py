"""Exchanges of meters: the first index after an exchange is flagged, and consumption across it is
calculated from both meters (rule M7).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core.model import Flag, Quality
from agent.registry.exchange import Forgotten, ShownIndex, flow, meters_between

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from agent.core.model import Point
    from agent.registry.records import Installation

    Key = tuple[str, str, int]


class Exchanges:
    """Remembers the last two good indexes of each place, channel and step, as the meters showed
    them.
    """

    def __init__(self) -> None:
        self._last_two: dict[Key, tuple[ShownIndex | None, ShownIndex]] = {}

    def first_after(
        self,
        meters: Sequence[Installation],
        place: str,
        point: Point,
        slot: int,
        shown: Decimal,
    ) -> bool:
        """Note an index. Return whether another meter showed the one before.

        After a restart only the slot before is compared.
        """
        key = (place, str(point.channel), point.every)
        _, last = self._last_two.get(key, (None, None))
        if last is not None and last.t >= slot:
            return False  # a late index: the exchange was flagged with a later one already
        self._last_two[key] = (last, ShownIndex(slot, shown))
        since = slot - point.every if last is None else last.t
        return len(meters_between(meters, key[1], since, slot)) > 1

    def flowed(
        self, meters: Sequence[Installation], place: str, point: Point, since: int, slot: int
    ) -> tuple[Decimal, str, tuple[str, ...]] | None:
        """The consumption in the step between two consecutive slots, its quality, and a flag if
        meters were exchanged in it. None if not all of the indexes that this needs are known.
        """
        last, now = self._last_two.get((place, str(point.channel), point.every), (None, None))
        before = last or Forgotten(since)
        if now is None or (before.t, now.t) != (since, slot):
            return None
        consumption = flow(meters, str(point.channel), before, now)
        if consumption is None:
            return None
        quality = Quality.ESTIMATED if consumption.estimated else Quality.CALCULATED
        return consumption.quantity, quality, (Flag.EXCHANGED,) if consumption.exchanged else ()

    def forgotten(
        self, meters: Sequence[Installation], place: str, point: Point, since: int, slot: int
    ) -> bool:
        """Whether meters were exchanged in the step, and a restart since then has lost the index of
        the old meter at the beginning of the step.
        """
        last, now = self._last_two.get((place, str(point.channel), point.every), (None, None))
        exchanged = len(meters_between(meters, str(point.channel), since, slot)) > 1
        return last is None and now is not None and now.t == slot and exchanged

"""Another meter measures since the reading before: told on the index, reckoned with in what flowed
(rule M7).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.model import Flag, Quality
from agent.registry.exchange import Forgotten, ShownIndex, flow, meters_between

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from agent.model import Point
    from agent.registry.records import Installation

    Key = tuple[str, str, int]


class Exchanges:
    """Remembers the last two good indexes of each place, channel and step, as its meters showed
    them.
    """

    def __init__(self) -> None:
        self._two: dict[Key, tuple[ShownIndex | None, ShownIndex]] = {}

    def first_after(
        self,
        meters: Sequence[Installation],
        place: str,
        point: Point,
        slot: int,
        shown: Decimal,
    ) -> bool:
        """Note an index; whether another meter showed the one before.

        Of what was before a restart only the slot before is known.
        """
        key = (place, str(point.channel), point.every)
        _, last = self._two.get(key, (None, None))
        if last is not None and last.t >= slot:
            return False  # a late one: what follows it has been told already
        self._two[key] = (last, ShownIndex(slot, shown))
        since = slot - point.every if last is None else last.t
        return len(meters_between(meters, key[1], since, slot)) > 1

    def flowed(
        self, meters: Sequence[Installation], place: str, point: Point, since: int, slot: int
    ) -> tuple[Decimal, str, tuple[str, ...]] | None:
        """What flowed in the step from one slot to the next, with its quality and, where meters
        were exchanged in it, its flag; None unless what it takes to know it is known.
        """
        last, now = self._two.get((place, str(point.channel), point.every), (None, None))
        before = last or Forgotten(since)
        if now is None or (before.t, now.t) != (since, slot):
            return None
        found = flow(meters, str(point.channel), before, now)
        if found is None:
            return None
        quality = Quality.ESTIMATED if found.estimated else Quality.CALCULATED
        return found.quantity, quality, (Flag.EXCHANGED,) if found.exchanged else ()

    def forgotten(
        self, meters: Sequence[Installation], place: str, point: Point, since: int, slot: int
    ) -> bool:
        """Whether meters were exchanged in the step, and a restart since then has forgotten what
        the old one showed at its beginning.
        """
        last, now = self._two.get((place, str(point.channel), point.every), (None, None))
        exchanged = len(meters_between(meters, str(point.channel), since, slot)) > 1
        return last is None and now is not None and now.t == slot and exchanged

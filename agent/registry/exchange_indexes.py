"""The indexes that people read when meters were exchanged, as they are sent (rule R14). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agent.registry.records import Installation

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from decimal import Decimal

    from agent.registry.records import Document


class ExchangeIndex(NamedTuple):
    """The last index of a meter that was exchanged, or the first one of its successor."""

    place: str
    channel: str
    t: int
    """the last second of the old meter, or the first second of the new one: so each is of those who
    lived there then, and no two are of one instant"""
    meter: str
    value: Decimal
    """of the place: what the meter showed × multiplier + offset, exact"""


def exchange_indexes(documents: Sequence[Document], after: int) -> list[ExchangeIndex]:
    """The indexes that were recorded, or recorded otherwise, by the changes after number `after`.

    `documents`: all of them, in the order in which they were recorded.
    """
    before: dict[str, Installation] = {}
    latest: dict[str, Installation] = {}
    for document in documents:
        if isinstance(document, Installation):
            latest[document.id] = document
            if document.word.revision <= after:
                before[document.id] = document
    if before == latest:
        return []
    return sorted({*_of(latest.values())} - {*_of(before.values())})


def _of(meters: Collection[Installation]) -> Iterator[ExchangeIndex]:
    begun: dict[tuple[str, int], list[Installation]] = {}
    for meter in meters:
        if meter.since != meter.until:  # an empty interval: it never measured the place
            begun.setdefault((meter.place, meter.since), []).append(meter)
    for old in meters:
        if old.until is None or old.since == old.until:
            continue
        for new in begun.get((old.place, old.until), ()):
            for meter, other, t, shown in (
                (old, new, old.until - 1, old.closed),
                (new, old, new.since, new.opened),
            ):
                for channel, value in shown if meter.serial else ():
                    if other.channel in (None, channel):
                        measured = meter.measured(value)
                        yield ExchangeIndex(meter.place, channel, t, str(meter.serial), measured)
